"""The queues that a calling process shares with one incarnation of an actor."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
import threading
from collections.abc import Callable, Generator
from queue import Empty
from typing import Any, TypeVar

from .._errors import ActorDied
from .._pool.errors import _undecodable, _unpack_exception
from .._threads import Condition, RLock, Thread, report
from .board import ENDED, RAISED, SLICE, VALUE, VALUE_APART, Ending, new_queue

__all__: list[str] = []

_T = TypeVar("_T")

#: Numbers of lines and calls of this process.
numbers = itertools.count(1)


class ActorFuture(concurrent.futures.Future[_T]):
    """The result of a call that an actor makes: a future that can also be awaited in asyncio.

    A call that was sent cannot be taken back: `cancel` returns False until the result is there. A task of
    asyncio that awaits the future can be cancelled; the call goes on.
    """

    def __init__(self) -> None:
        super().__init__()
        # A signal handler may raise while a thread waits, and must not leave the lock held.
        self._condition = Condition()
        self.set_running_or_notify_cancel()

    def __await__(self) -> Generator[Any, None, _T]:
        """Wait for the result without blocking the event loop, which must be one of asyncio."""
        import asyncio

        return asyncio.wrap_future(self).__await__()


class Line:
    """The queues for one call at a time to one incarnation."""

    def __init__(
        self, incarnation: int, home: collections.deque[Line], lane: Lane | None = None
    ) -> None:
        self.incarnation = incarnation
        #: Where the line lies while it is not in use.
        self.home = home
        #: A number that no other line of a living process has.
        self.number = os.getpid() << 32 | next(numbers)
        self.arguments = new_queue()
        self.replies = new_queue() if lane is None else lane.replies
        #: Values that run code when they are unpickled: an error there is none of the queue's.
        self.values = new_queue() if lane is None else lane.values
        self.is_introduced = False
        #: How the incarnation ended, once it did.
        self.ending: Ending | None = None

    def introduction(self, dropped: tuple[int, ...]) -> tuple[Any, ...]:
        """Return what the first request has for the actor."""
        return dropped, os.getpid(), self.replies, self.arguments, self.values

    def receive(self, left: Callable[[], float | None]) -> tuple[int, Any] | None:
        """Return the kind and value of the reply; None if there is none after the time that is left.

        Raises what unpickling the value raises.
        """
        reply = self._reply(left)
        if reply is not None and reply[0] == VALUE_APART:
            return VALUE, self.values.get()
        return reply

    def _reply(self, left: Callable[[], float | None]) -> tuple[int, Any] | None:
        while True:
            rest = left()
            try:
                return self.replies.get(True, SLICE if rest is None else min(rest, SLICE))[1:]
            except Empty:
                if self.ending is not None:
                    try:
                        return self.replies.get(False)[1:]
                    except Empty:
                        return ENDED, self.ending
                if rest is not None and rest <= SLICE:
                    return None

    def end(self, ending: Ending) -> None:
        """Tell the call, if there is one, that the incarnation is over."""
        self.ending = ending
        self.replies.put((0, ENDED, tuple(ending)))


class Call:
    """A call whose result is a future."""

    def __init__(
        self,
        future: ActorFuture[Any],
        method: str,
        args: Any,
        kwds: Any,
        retries: int,
        keep: object,
    ) -> None:
        self.future, self.method, self.args, self.kwds = future, method, args, kwds
        self.retries = retries
        #: The link to the actor, which must not end meanwhile.
        self.keep = keep

    def complete(self, value: Any) -> None:
        """Set the result."""
        self._announce(lambda: self.future.set_result(value))

    def fail(self, error: BaseException) -> None:
        """Set the exception."""
        self._announce(lambda: self.future.set_exception(error))

    def _announce(self, announce: Callable[[], None]) -> None:
        try:
            announce()
        except BaseException as error:  # of a callback; the other futures still complete
            report(error)


class Lane:
    """The calls with futures of one incarnation: a thread completes them as replies arrive."""

    def __init__(self, incarnation: int, again: Callable[[Call, Ending], None]) -> None:
        self.incarnation = incarnation
        self.replies, self.values = new_queue(), new_queue()
        #: Lines that no thread is sending a call by.
        self.idle: collections.deque[Line] = collections.deque()
        self.ending: Ending | None = None
        self._again = again
        self._calls: dict[int, Call] = {}
        self._lock = RLock()
        #: Takes no more calls.
        self.is_over = False
        self._is_started = False
        #: Held by the thread. An interrupt may have a second one started.
        self._collecting = threading.Lock()

    def add(self, number: int, call: Call) -> bool:
        """Enter a call; return False if the lane is over."""
        with self._lock:
            if not self._is_started:
                Thread(self._collect, "ActorResults").start()
                self._is_started = True
            is_over = self.is_over
            if not is_over:
                self._calls[number] = call
        return not is_over

    def take(self, number: int) -> Call | None:
        """Take a call out."""
        return self._calls.pop(number, None)

    def end(self, ending: Ending) -> None:
        """Fail what is unfinished once all replies that were sent have been taken."""
        self.ending = ending
        self.replies.put((0, ENDED, tuple(ending)))

    def abandon(self, error: Callable[[Call], ActorDied]) -> None:
        """In a child of fork: fail the copies of the calls, which are the parent's.

        No callback is run: those are for threads and event loops of the parent.
        """
        for call in self._calls.values():
            future = call.future
            if future.done():
                continue
            future._condition = Condition()
            future._done_callbacks = []  # type: ignore[attr-defined]
            future.set_exception(error(call))

    def _next(self) -> tuple[int, int, Any]:
        while True:
            try:
                return self.replies.get(True, SLICE)
            except Empty:
                if self.ending is not None and self.replies.empty():
                    return 0, ENDED, self.ending

    def _collect(self) -> None:
        if not self._collecting.acquire(blocking=False):
            return
        value: Any = None
        failure: BaseException | None = None
        try:
            value = self._complete()
        except BaseException as error:
            # Without this thread the futures would never be done. The actor lives: others may be.
            failure = error
            raise
        finally:
            with self._lock:
                self.is_over = True
                calls, self._calls = list(self._calls.values()), {}
            for call in calls:
                if failure is not None:
                    call.fail(_undecodable(failure))
                elif value is not None:
                    self._again(call, Ending(*value))

    def _complete(self) -> Any:
        """Complete calls until the incarnation is over; return how it ended, None if no handle is left."""
        while True:
            number, kind, value = self._next()
            if kind == ENDED:
                return value
            error: BaseException | None = None
            try:
                if kind == RAISED:
                    error = _unpack_exception(value)
                elif kind == VALUE_APART:
                    value = self.values.get()
            except BaseException as reason:  # the other futures still complete
                error = _undecodable(reason)
            call = self._calls.get(number)
            if call is not None:
                if error is None:
                    call.complete(value)
                else:
                    call.fail(error)
                self.take(number)  # only now: a child of fork fails what is not complete
            del call, value, error
