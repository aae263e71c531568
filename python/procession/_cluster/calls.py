"""The calls that a deputy makes for one thread of its client.

Between two requests the connection is quiet. While a call runs, what arrives is its cancellation, or
the connection's end.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, Full

from .. import connection, context, process, queues, sharedctypes, synchronize, util
from . import place, references, wire  # noqa: F401 - the reducers
from .link import ACKNOWLEDGED, ACTION, APART, CANCEL, DONE, KEPT
from .settling import Cancelled, Gone, settling

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds that a call waits before it looks whether its caller still wants the result.
SLICE = 0.1
#: The same at the most for a wait at a condition or for room in a queue, whose slices grow: a slice
#: costs more there, and at a condition each goes to the end of the waiters.
LONGEST_SLICE = 1.0


class Objects:
    """The objects that the client has proxies of, by number."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._objects: dict[int, Any] = {}
        self._last = 0

    def add(self, obj: Any) -> int:
        """Keep an object, and return its number."""
        with self._mutex:
            self._last += 1
            self._objects[self._last] = obj
            return self._last

    def __getitem__(self, number: int) -> Any:
        return self._objects[number]

    def drop(self, numbers: list[int]) -> None:
        """Release objects."""
        for number in numbers:
            self._objects.pop(number, None)


_objects = Objects()


class _Turns:
    """Lets a barrier's action run in the client: asked by the helper, answered by the thread."""

    def __init__(self) -> None:
        self.wanted, self._ask = os.pipe()
        self._answered = threading.Event()
        self._outcome: tuple[bool, Any] = (True, None)

    def ask(self) -> None:
        """Have the client run the action. Raises what that raised."""
        os.write(self._ask, b"?")
        self._answered.wait()
        succeeded, error = self._outcome
        if not succeeded:
            raise error

    def answer(self, succeeded: bool, error: Any) -> None:
        """Report how the action ended."""
        if not self._answered.is_set():
            self._outcome = succeeded, error
            self._answered.set()
            os.set_blocking(self.wanted, False)
            try:
                os.read(self.wanted, 1)
            except BlockingIOError:
                pass  # it was not asked for

    def close(self) -> None:
        """Release the descriptors."""
        os.close(self.wanted)
        os.close(self._ask)


class Thread:
    """Makes the calls of one thread of the client."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        #: Undoes the last call, if its caller was interrupted after it had acknowledged the result.
        self._undo: Any = None
        self._request = b""

    def serve(self) -> None:
        """Serve the connection to its end."""
        try:
            while True:
                self._request = self._receive()
                try:
                    undo, self._undo = self._undo, None
                    if self._request == CANCEL:
                        if undo is not None:
                            undo()
                        raise Cancelled  # it has crossed the reply
                    self._serve_one()
                except Cancelled:
                    self._send(CANCEL)
        except Gone as error:
            util.debug("a thread of the client has gone: %s", error)

    def _receive(self) -> bytes:
        try:
            return self._conn.recv_bytes()
        except (EOFError, OSError) as error:
            raise Gone(error) from error

    def _send(self, data: bytes) -> None:
        try:
            self._conn.send_bytes(data)
        except OSError as error:
            raise Gone(error) from error

    def _reply(self, what: bytes, reply: bytes) -> None:
        if len(reply) > APART:
            self._send(what)
            self._send(reply)
        else:
            self._send(what + reply)

    def _check(self) -> None:
        """Raise `Cancelled` or `Gone` if the caller does not wait any more."""
        if settling.is_ending:
            raise Gone
        try:
            quiet = not self._conn.poll(0)
        except OSError as error:
            raise Gone(error) from error
        if not quiet:
            self._receive()  # nothing but a cancellation, or the end
            raise Cancelled

    def _serve_one(self) -> None:
        try:
            drops, what, *arguments = wire.loads(self._request)
            self._request = b""  # it may be large
            _objects.drop(drops)
            if what == "attach":
                value: Any = _attach(*arguments)
            elif what == "ticket":
                value = _ticket(*arguments)
            else:
                value = self._call(*arguments)
                if value is _REPLIED:
                    return
            reply = wire.dumps_bytes(("result", value))
        except (Cancelled, Gone):
            raise
        except BaseException as error:  # of the program's code: no interrupt arrives here
            reply = _packed_error(error)
        self._reply(DONE, reply)

    def _call(self, number: int, method: str, args: Any, kwds: Any) -> Any:
        obj = _objects[number]
        own = _SLICED.get(method)
        if own is not None:
            return own(self, obj, *args, **kwds)
        if isinstance(obj, sharedctypes.SynchronizedBase) and method not in ("release", "get_lock"):
            lock: Any = obj.get_lock()
            if isinstance(lock, synchronize.RLock):
                # Here in slices, so that the access itself need not wait.
                self._until(lambda seconds: lock.acquire(True, seconds), None)
                try:
                    return _whole(self._plain(obj, method, args, kwds))
                finally:
                    lock.release()
        return _whole(self._plain(obj, method, args, kwds))

    @staticmethod
    def _plain(obj: Any, method: str, args: Any, kwds: Any) -> Any:
        if method == "#get":
            return getattr(obj, *args)
        if method == "#set":
            return setattr(obj, *args)
        if method not in _PLAIN:
            raise AttributeError(f"{type(obj).__name__!r} has no method {method!r} for other nodes")
        return getattr(obj, method)(*args, **kwds)

    def _keep(self, take: Callable[[], tuple[Any, Any]]) -> Any:
        """Reply with the first of what `take` returns. Call the second if this is not acknowledged."""
        with settling.one():
            result, undo = take()
            if undo is None:
                return result
            try:
                reply = wire.dumps_bytes(("result", result))
            except BaseException:
                undo()
                raise
            try:
                self._reply(KEPT, reply)
                if self._receive() != ACKNOWLEDGED:
                    raise Cancelled
            except Gone as error:
                if error.is_certain and settling.is_certain:
                    undo()
                raise
            except Cancelled:
                undo()
                raise
            self._undo = undo
        return _REPLIED

    def _until(
        self, attempt: Callable[[float], Any], timeout: float | None, longest: float = SLICE
    ) -> Any:
        """Return what `attempt(seconds)` returns, once that is true or `timeout` seconds are over."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = SLICE
        while True:
            left = pause if end is None else end - time.monotonic()
            result = attempt(max(0.0, min(left, pause)))
            if result or (end is not None and left <= pause):
                return result
            self._check()
            pause = min(2 * pause, longest)

    def _acquire(self, obj: Any, block: bool = True, timeout: float | None = None) -> Any:
        def take() -> Any:
            if not block:
                acquired = obj.acquire(False)
            else:
                acquired = self._until(lambda seconds: obj.acquire(True, seconds), timeout)
            return acquired, obj.release if acquired else None

        return self._keep(take)

    def _wait(self, obj: Any, timeout: float | None = None, acts: bool = False) -> Any:
        if isinstance(obj, threading.Barrier):
            return self._wait_at(obj, timeout, acts)
        longest = LONGEST_SLICE if isinstance(obj, synchronize.Condition) else SLICE
        return self._until(obj.wait, timeout, longest)

    def _wait_at(self, barrier: Any, timeout: float | None, acts: bool) -> int:
        """Wait at a barrier; if its caller does not wait any more, break it."""
        turns = _Turns()
        action = turns.ask if acts else None
        with settling.one():
            return self._beside(lambda: barrier._core.wait(timeout, action), barrier.abort, turns)

    def _join(self, queue: Any) -> None:
        # The helper waits on, harmlessly, if the caller does not.
        self._beside(queue.join, lambda: None, None)

    def _beside(self, wait: Any, give_up: Any, turns: _Turns | None) -> Any:
        """Call `wait` in another thread, and `give_up` when the caller does not wait any more."""
        outcome: list[Any] = []
        reader, writer = os.pipe()

        def run() -> None:
            try:
                outcome.append((wait(), None))
            except BaseException as error:
                outcome.append((None, error))
            finally:
                os.close(writer)

        helper = threading.Thread(target=run, daemon=True)
        helper.start()
        try:
            while not outcome:
                asked = [turns.wanted] if turns is not None else []
                ready = connection.wait([reader, self._conn, *asked])
                if reader in ready:
                    break
                if turns is not None and turns.wanted in ready:
                    self._send(ACTION)
                    outcome_of_action = self._receive()
                    if outcome_of_action == CANCEL:
                        raise Cancelled
                    turns.answer(*wire.loads(outcome_of_action))
                else:
                    self._check()
        except BaseException as error:
            if turns is not None:
                turns.answer(False, threading.BrokenBarrierError(str(error)))
            give_up()
            raise
        finally:
            os.close(reader)
            if turns is not None:
                turns.close()

        helper.join()
        value, failure = outcome[0]
        if failure is not None:
            raise failure
        return value

    def _put(self, queue: Any, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        self._put_by(_BaseQueue.put, queue, obj, block, timeout)

    def _put_many(
        self, queue: Any, items: Any, block: bool = True, timeout: float | None = None
    ) -> None:
        # One by one: a cancelled call must not put the first items again.
        for item in items:
            self._put_by(_BaseQueue.put, queue, item, block, timeout)

    def _put_by(self, put: Any, queue: Any, obj: Any, block: bool, timeout: float | None) -> None:
        if not block:
            return put(queue, obj, False)

        def attempt(seconds: float) -> bool:
            try:
                put(queue, obj, True, seconds)
            except Full:
                return False
            return True

        # In growing slices, because each pickles the item anew.
        if not self._until(attempt, timeout, LONGEST_SLICE):
            raise Full
        return None

    def _get(self, queue: Any, block: bool = True, timeout: float | None = None) -> Any:
        def one(*how: Any) -> Any:
            return [_BaseQueue.get(queue, *how)]

        return self._keep(lambda: self._take(queue, one, block, timeout, single=True))

    def _get_many(
        self, queue: Any, max: int, block: bool = True, timeout: float | None = None
    ) -> Any:
        def many(*how: Any) -> Any:
            return _BaseQueue.get_many(queue, max, *how)

        return self._keep(lambda: self._take(queue, many, block, timeout, single=False))

    def _take(self, queue: Any, get: Any, block: bool, timeout: Any, single: bool) -> Any:
        def attempt(seconds: float) -> Any:
            try:
                return get(True, seconds)
            except Empty:
                return None

        items = self._until(attempt, timeout) if block else get(False)
        if items is None:
            raise Empty
        return (items[0] if single else items), lambda: _put_back(queue, items)


_BaseQueue: Any = queues.Queue.__mro__[1]
_REPLIED = object()

_SLICED: dict[str, Any] = {
    "acquire": Thread._acquire,
    "wait": Thread._wait,
    "join": Thread._join,
    "put": Thread._put,
    "put_many": Thread._put_many,
    "get": Thread._get,
    "get_many": Thread._get_many,
}
_PLAIN = frozenset(
    (
        *("release", "locked", "get_value", "notify", "notify_all", "is_set", "set", "clear"),
        *("reset", "abort", "qsize", "empty", "full", "task_done", "add", "get_lock"),
        *("__len__", "__getitem__", "__setitem__"),
    )
)


def _whole(value: Any) -> Any:
    """Return a result, unless it is a part of shared memory: the caller would get a copy."""
    if isinstance(value, (ctypes.Structure, ctypes.Array, ctypes.Union)):
        raise NotImplementedError(
            "a structure or array within a Value or Array cannot be used from another node: use numbers and strings"
        )
    return value


def _attach(local: bytes, ticket: bytes | None) -> int:
    number = _objects.add(wire.loads(local))
    here = place.here()
    if ticket is not None and here is not None:
        here.redeem(ticket)
    return number


def _ticket(number: int) -> bytes:
    here = place.here()
    assert here is not None
    return here.issue(_objects[number])


def _packed_error(error: BaseException) -> bytes:
    try:
        return wire.dumps_bytes(("error", error.with_traceback(None)))
    except BaseException as unsent:
        described = RuntimeError(
            f"{type(error).__name__}: {error} (it cannot be pickled: {unsent})"
        )
        return wire.dumps_bytes(("error", described))


def _put_back(queue: Any, items: list[Any]) -> None:
    """Put items that their caller has not got at the end of their queue."""
    for index, item in enumerate(items):
        try:
            _BaseQueue.put(queue, item, False)
        except Full:
            # Another process waits for room: this one may have to end, so that its locks are free.
            current = process.current_process()
            current._config["daemon"] = False
            context._concrete_contexts["fork"].Process(
                target=_put_back_later, args=(queue, items[index:])
            ).start()
            return
        _uncount(queue)


def _put_back_later(queue: Any, items: list[Any]) -> None:
    here = place.here()
    assert here is not None
    process._leave_with_parent(here.root_pid)
    for item in items:
        _BaseQueue.put(queue, item)
        _uncount(queue)


def _uncount(queue: Any) -> None:
    """Count an item once that was put a second time."""
    if isinstance(queue, queues.JoinableQueue):
        queue.task_done()
