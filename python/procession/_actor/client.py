"""A process's way to an actor: its calls, and the thread that watches the actor.

The file is long because a call and the watch that ends it are one protocol.
"""

from __future__ import annotations

import collections
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from queue import Full
from typing import Any

from .. import util
from .._errors import ActorDied, TimeoutError
from .._pool.errors import _unpack_exception
from .._threads import Event, RLock, Thread
from . import server
from .board import (
    DOWN,
    ENDED,
    PATIENCE,
    RAISED,
    SHORT_SLICE,
    SLICE,
    STARTING,
    Board,
    Card,
    Ending,
    Record,
    has_ended,
    is_readable,
    is_stopped,
    pidfd_of,
)
from .lines import ActorFuture, Call, Lane, Line, numbers

__all__: list[str] = []

#: By the key of an actor: numbers of lines of this process's last client, which the actor is to forget if there
#: is a handle again. Those of the actors that lost their last handle here first go when there are too many.
_forgotten_lines: dict[bytes, list[int]] = {}
_MOST_FORGOTTEN = 256


class Client:
    """The calls of this process to one actor."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.pid = os.getpid()
        self.board = Board.attach(card.objects)
        record = self.board.read()
        #: The incarnation that gets the next call; it may not be there yet.
        self.incarnation = record.incarnation
        #: How the actor ended for good, once it did.
        self.ending: Ending | None = None
        self.done = Event()
        if record.status == DOWN and record.ending is not None:
            self.ending = Ending(*record.ending)
            self.done.set()
        self._lock = util.free_in_child(RLock())
        self._lines: set[Line] = set()
        self._idle: collections.deque[Line] = collections.deque()
        self._lane: Lane | None = None
        #: Numbers of lines that the actor need not know any more.
        self._dropped: list[int] = _forgotten_lines.pop(card.key, [])
        self._watch: Watch | None = None

    # Calls

    def call(self, method: str, args: Any, kwds: Any, timeout: float | None, retries: int) -> Any:
        """Call a method and return its result, or raise what it raised."""
        if server.is_serving(self.card.key):
            raise RuntimeError(f"actor {self.card.name} cannot wait for a call of itself: {method}")
        if self._watch is not None and self._watch.thread is threading.current_thread():
            # In a finalizer, which the collector runs here: another thread must watch meanwhile.
            self._watch.stop()
            self._watch = None
            self.watch()
        end = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if end is None else max(0.0, end - time.monotonic())

        while True:
            line = self._line(method)
            try:
                sent = self._send(line, 0, method, args, kwds, left)
                reply = line.receive(left) if sent else None
                if reply is None:
                    raise TimeoutError(
                        f"actor {self.card.name} did not answer within {timeout:g} seconds: {method}"
                        + ("; the call goes on" if sent else "; the call was not sent")
                    )
                kind, value = reply
            except BaseException:
                self._drop(line)
                raise
            if kind == ENDED:
                ending = Ending(*value)
                if ending.final or not retries:
                    raise self.died(method, ending)
                retries -= 1
                continue
            line.home.append(line)
            if kind == RAISED:
                raise _unpack_exception(value)
            return value

    def submit(
        self, method: str, args: Any, kwds: Any, retries: int, keep: object
    ) -> ActorFuture[Any]:
        """Call a method and return a future of its result at once. `keep` lives until then."""
        call = Call(ActorFuture(), method, args, kwds, retries, keep)
        self._submit(call)
        return call.future

    def _submit(self, call: Call) -> None:
        number, line, lane = next(numbers), None, None
        # Once it is entered, the lane's thread may send it again, and lowers the number then.
        is_last = not call.retries
        try:
            while lane is None or not lane.add(number, call):
                lane = self._current_lane(call.method)
            # A signal handler or another thread that also sends has a line of its own.
            try:
                line = lane.idle.pop()
            except IndexError:
                line = Line(lane.incarnation, lane.idle, lane)
            self._send(line, number, call.method, call.args, call.kwds, lambda: None)
        except BaseException:
            if lane is not None:
                lane.take(number)
            if line is not None:
                self._forget([line.number])
            raise
        if is_last:
            call.args = call.kwds = None
        lane.idle.append(line)

    def _again(self, call: Call, ending: Ending) -> None:
        """Decide about a call whose incarnation ended before it replied."""
        try:
            if ending.final or not call.retries:
                raise self.died(call.method, ending)
            call.retries -= 1
            self._submit(call)
        except BaseException as error:
            call.fail(error)

    def died(self, method: str | None, ending: Ending) -> ActorDied:
        """Return the error of a call."""
        text = f"actor {self.card.name} {ending.text}"
        if method is not None:
            text += f": {self.card.name}.{method} has no result"
        if not ending.final:
            text += "; it starts anew, without its state"
        error = ActorDied(text, self.card.name, method, ending.pid, ending.exitcode, ending.final)
        if ending.error is not None:
            error.__cause__ = _unpack_exception(ending.error)
        return error

    def _send(
        self, line: Any, number: int, method: str, args: Any, kwds: Any, left: Callable[[], Any]
    ) -> bool:
        """Send a request; return False if there was no room for it in the time that is left."""
        plain = server.PLAIN
        for value in (*args, *kwds.values()) if kwds else args:
            if type(value) not in plain:
                line.arguments.put((args, kwds))
                args = kwds = None
                break
        dropped: tuple[int, ...] = ()
        if self._dropped:
            with self._lock:
                dropped, self._dropped = tuple(self._dropped), []
        is_sent = False
        try:
            news: tuple[Any, ...] | None = (dropped,) if dropped else None
            if not line.is_introduced:
                news = line.introduction(dropped)
            is_sent = self._put(
                line, (line.incarnation, line.number, number, method, args, kwds, news), left
            )
        finally:
            if dropped and not is_sent:
                self._forget(dropped)
        return is_sent

    def _put(self, line: Line, request: tuple[Any, ...], left: Callable[[], Any]) -> bool:
        if not self.card.is_bounded:
            self.board.requests.put(request)
        else:
            while True:
                rest = left()
                try:
                    self.board.requests.put(
                        request, True, SHORT_SLICE if rest is None else min(rest, SHORT_SLICE)
                    )
                    break
                except Full:
                    if server.is_serving(self.card.key):
                        raise RuntimeError(
                            f"actor {self.card.name} cannot wait for room for a call of itself: {request[3]}"
                        ) from None
                    if line.incarnation != self.incarnation or self.ending is not None:
                        break  # the notice of that is among the replies
                    if rest is not None and rest <= SHORT_SLICE:
                        return False
        line.is_introduced = True
        return True

    # Lines

    def _line(self, method: str | None) -> Line:
        """Return a line for a call; raises ActorDied if the actor is dead for good."""
        while True:
            if self.ending is not None:
                raise self.died(method, self.ending)
            try:
                return self._idle.pop()
            except IndexError:
                pass
            self.watch()
            line = None
            with self._lock:
                if self.ending is None:
                    line = Line(self.incarnation, self._idle)
                    self._lines.add(line)
            if line is not None:
                return line

    def _drop(self, line: Line) -> None:
        with self._lock:
            self._lines.discard(line)
            self._dropped.append(line.number)

    def _forget(self, dropped: Iterable[int]) -> None:
        with self._lock:
            self._dropped += dropped

    def _current_lane(self, method: str) -> Lane:
        self.watch()
        with self._lock:
            if self.ending is not None:
                raise self.died(method, self.ending)
            lane = self._lane
            if lane is None or lane.is_over:  # its thread may have ended by an error
                lane = self._lane = Lane(self.incarnation, self._again)
        return lane

    def over(self, incarnation: int, ending: Ending) -> None:
        """Fail all calls to earlier incarnations than this one; if the ending is final, to all."""
        fresh: tuple[set[Line], collections.deque[Line], list[int]] = set(), collections.deque(), []
        with self._lock:
            if not ending.final and incarnation <= self.incarnation:
                return
            self.incarnation = incarnation
            if ending.final:
                self.ending = ending
            lines, lane = self._lines, self._lane
            self._lines, self._idle, self._dropped = fresh
            self._lane = None
        waiting: list[Line | Lane] = [*lines]
        if lane is not None:
            waiting.append(lane)
        for one in waiting:
            one.ending = ending  # first of all of them: it is seen even if no notice can be sent
        try:
            for one in waiting:
                one.end(ending)
        finally:
            if ending.final:
                self.done.set()

    # Life

    def watch(self) -> None:
        """Have a thread watch the actor, from now on."""
        if self._watch is None:
            with self._lock:
                if self._watch is None:
                    watch = Watch(self)
                    watch.start()  # perhaps no thread can be started
                    self._watch = watch

    def order(self, order: str, wait: bool, timeout: float | None) -> None:
        """Tell the owner to end the actor, and wait until it has ended."""
        self.watch()
        end = None if timeout is None else time.monotonic() + timeout
        record = self.board.read()
        if record.status != DOWN:
            self.board.orders.put((order, os.getpid(), None))
        if not wait or server.is_serving(self.card.key):
            return
        is_done = self.done.wait(timeout)
        # This process may have given up an actor that lives.
        while is_done and record.status != DOWN and not self._is_dead(record):
            self.board.wait(record.serial)
            record = self.board.read()
            is_done = end is None or time.monotonic() < end
        if not is_done:
            raise TimeoutError(f"actor {self.card.name} did not end within {timeout:g} seconds")

    def _is_dead(self, record: Record) -> bool:
        """Return whether the actor's process has ended, or ends with its owner."""
        return self.is_owner_gone() or (record.pid != 0 and has_ended(record.pid))

    def is_owner_gone(self) -> bool:
        """Return whether the owner is known to have ended."""
        return has_ended(self.card.owner, self.card.owner_started)

    def owner_s_end(self, record: Record) -> Ending:
        """Return how the actor ended when its owner has ended, having written this record last."""
        if record.status == DOWN and record.ending is not None:
            return Ending(*record.ending)
        return Ending(f"has ended with its owner, process {self.card.owner}", record.pid)

    def drop(self) -> None:
        """End the threads: this process has no handle any more."""
        lines, lane, watch = [*self._lines], self._lane, self._watch
        # Nothing shared then lives on in a cycle until the collector runs.
        self._lane = self._watch = None
        if watch is not None:
            watch.stop()
        if lane is not None:
            lines += lane.idle
            lane.replies.put((0, ENDED, None))
        forgotten = [*self._dropped, *(line.number for line in lines)]
        if self.ending is None and forgotten:
            _forgotten_lines[self.card.key] = forgotten
            for key in [*_forgotten_lines][:-_MOST_FORGOTTEN]:
                _forgotten_lines.pop(key, None)

    def abandon(self) -> None:
        """In a child of fork: forget what is the parent's."""
        ending = Ending(
            "is called by another process, from which this one was forked", 0, None, True
        )
        lane = self._lane
        if lane is not None:
            lane.abandon(lambda call: self.died(call.method, ending))


class Watch:
    """The thread that learns of the ends of an actor's incarnations, and of its owner's."""

    _wake = -1  # for an object with an interrupted `__init__`, and after `__del__`
    #: Descriptors of the processes of the owner and of an incarnation.
    _owner: int | None = None
    _process: int | None = None

    def __init__(self, client: Client) -> None:
        self._client, self._board, self._card = client, client.board, client.card
        self._stopped = False
        #: The incarnation of `_process`.
        self._incarnation = -1
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def start(self) -> None:
        """Start the thread."""
        self.thread = Thread(self._run, "ActorWatch")
        self.thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped = True
        # The collector may have called `__del__` first, if this is part of a cycle.
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        fds = self._wake, self._owner, self._process
        self._wake, self._owner, self._process = -1, None, None
        for fd in fds:
            if fd is not None and fd >= 0:
                _close(fd)

    def _run(self) -> None:
        try:
            if self._client.is_owner_gone():
                self._lose_owner()
            while not self._stopped and self._client.ending is None:
                self._look()
        except BaseException as error:
            # Without this thread calls could wait for ever.
            text = f"can no longer be watched by this process ({type(error).__name__}: {error})"
            self._client.over(self._client.incarnation, Ending(text, 0))
            raise

    def _look(self) -> None:
        """Wait for a change, and tell the client."""
        record, client = self._board.read(), self._client
        if record.ending is not None and (
            record.status == DOWN or record.incarnation > client.incarnation
        ):
            client.over(record.incarnation, Ending(*record.ending))
        elif record.status == STARTING or record.incarnation < client.incarnation:
            if not self._wait(record.serial) and self._is_owner_gone():
                self._lose_owner()
        elif self._poll(record) and not self._wait(record.serial, time.monotonic()):
            # The owner would have said how it ended, and is stopped or gone itself.
            if self._is_owner_gone():
                self._lose_owner()
            elif not self._stopped:
                self._lose(record.incarnation, record.pid)

    def _lose(self, incarnation: int, pid: int) -> None:
        """Fail the calls to an incarnation of which the owner has not said how it ended."""
        most, owner = self._card.max_restarts, self._card.owner
        text = f"lost its process {pid}, and its owner, process {owner}, does not respond"
        final = most is not None and incarnation >= most
        self._client.over(incarnation + 1, Ending(text, pid, None, final))

    def _wait(self, serial: int, began: float | None = None) -> bool:
        """Wait for a record after this one; return whether it came.

        `began` is when the incarnation ended: then the owner must say how. A stopped one is not waited for.
        """
        while not self._stopped and not self._is_owner_gone():
            if self._board.wait(serial):
                return True
            if began is not None:
                waited = time.monotonic() - began
                if waited > (SLICE if is_stopped(self._card.owner) else PATIENCE):
                    return False
        return self._board.read().serial != serial

    def _poll(self, record: Record) -> bool:
        """Return whether the actor's process is known to have ended; False after a while, to look again."""
        try:
            if self._incarnation != record.incarnation:
                process, self._process = self._process, None
                if process is not None:
                    os.close(process)
                self._process = pidfd_of(record.pid)
                self._incarnation = record.incarnation
            self._open_owner()
        except OSError:
            # Without a free descriptor; there may be one later.
            self._board.wait(record.serial)
            return has_ended(record.pid)
        if self._process is None:
            return True
        poll = select.poll()
        for fd in (self._process, self._owner, self._wake):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(SLICE * 1000)}
        if self._owner in ready:
            # What it wrote down last is read before its end counts.
            if self._board.read().status != DOWN:
                self._lose_owner()
            return False
        return self._process in ready

    def _open_owner(self) -> None:
        if self._owner is None:
            self._owner = pidfd_of(self._card.owner)
            if self._client.is_owner_gone():
                self._lose_owner()  # another process may have its number

    def _is_owner_gone(self) -> bool:
        if self._owner is None:
            return self._client.is_owner_gone()
        return is_readable(self._owner)

    def _lose_owner(self) -> None:
        record = self._board.read()
        self._client.over(record.incarnation, self._client.owner_s_end(record))
