"""Locks, semaphores, conditions, events and barriers between processes.

All of them can be sent: as arguments of processes, inside items of queues, as arguments and results
of pool tasks. `acquire`, `release` and the `with` statement are methods of the extension, because a
method written in Python costs more than the lock itself.
"""

from __future__ import annotations

import threading
import time
from _collections_abc import Callable

from . import process
from ._procession import Barrier as _Barrier
from ._procession import Condition as _Condition
from ._procession import Event as _Event
from ._procession import Lock as _Lock
from ._procession import RLock as _RLock
from ._procession import Semaphore as _Semaphore

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX, SEMAPHORE = 0, 1
SEM_VALUE_MAX = 2**31 - 1


def _holder(lock: Any) -> str:
    """Return the holder of a lock, in the words of the standard library."""
    which = lock._holder()
    if which != 1:
        return ("None", "", "SomeOtherThread", "SomeOtherProcess")[which]
    name = process.current_process().name
    thread = threading.current_thread().name
    return name if thread == "MainThread" else f"{name}|{thread}"


def _named(made: Any) -> str:
    """Return the name of a primitive as the first argument of its `repr`."""
    try:
        name = made._name()
    except Exception:
        name = None
    return "" if name is None else f"name={name!r}, "


class SemLock:
    """The common base of the lock classes.

    Code that looks for the standard library's inner `_semlock` finds the lock itself.
    """

    __slots__ = ()
    kind = SEMAPHORE
    maxvalue = 1

    @property
    def _semlock(self) -> Any:
        return self

    def _is_zero(self: Any) -> bool:
        return self._get_value() == 0

    def _is_mine(self: Any) -> bool:
        return self._holder() == 1


class Lock(_Lock, SemLock):
    """A lock that one thread of one process holds at a time.

    Any thread of any process may release it. If the holding process dies, exactly one of the
    waiters gets `OwnerDied`, and the lock is free. The end of the thread that acquired it is no
    such death: another thread may release it.

    Args:
        recover: "error", or "silent" to pass on the lock of a dead holder without `OwnerDied`.
        name: its name in errors and in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    def __init__(self, *, ctx: Any, recover: str = "error", name: str | None = None) -> None:
        self._create(recover, name)

    def __repr__(self) -> str:
        try:
            owner = _holder(self)
        except Exception:
            owner = "unknown"
        return f"<{type(self).__name__}({_named(self)}owner={owner})>"


class RLock(_RLock, SemLock):
    """A lock that its holder, a thread of a process, may acquire again.

    Only the holder may release it. If the holding process dies, or the thread ends, exactly one of
    the waiters gets `OwnerDied`, and the lock is free.

    Args:
        recover: "error", or "silent" to pass on the lock of a dead holder without `OwnerDied`.
        name: its name in errors and in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    kind = RECURSIVE_MUTEX

    def __init__(self, *, ctx: Any, recover: str = "error", name: str | None = None) -> None:
        self._create(recover, name)

    def __repr__(self) -> str:
        count: Any
        try:
            owner = _holder(self)
            which = self._holder()
            count = (0, self._count(), "nonzero", "nonzero")[which]
        except Exception:
            owner = count = "unknown"
        return f"<{type(self).__name__}({_named(self)}{owner}, {count})>"


def _value(semaphore: Any) -> Any:
    try:
        return semaphore._get_value()
    except Exception:
        return "unknown"


class Semaphore(_Semaphore):
    """A counter: `acquire` decrements it and waits at zero, `release` increments it.

    Args:
        value: its initial value. Raises OSError if that is negative, OverflowError if it is greater
            than `SEM_VALUE_MAX`.
        recover: None, or "silent" to give back what a process had acquired and not released when it
            died. This is for semaphores that are released by the process that acquired them; each
            call costs about three times as much.
        name: its name in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    kind = SEMAPHORE
    _semlock = SemLock._semlock
    _is_zero = SemLock._is_zero

    def __init__(
        self, value: int = 1, *, ctx: Any, recover: str | None = None, name: str | None = None
    ) -> None:
        self._create(value, False, recover, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({_named(self)}value={_value(self)})>"


class BoundedSemaphore(Semaphore):
    """A semaphore bounded by its initial value: `release` beyond that raises ValueError.

    Args:
        value: its initial value.
        recover: as for `Semaphore`.
        name: as for `Semaphore`.
        ctx: the context that made it.
    """

    def __init__(
        self, value: int = 1, *, ctx: Any, recover: str | None = None, name: str | None = None
    ) -> None:
        self._create(value, True, recover, name)

    def __repr__(self) -> str:
        value = _value(self)
        return f"<{type(self).__name__}({_named(self)}value={value}, maxvalue={self.maxvalue})>"


class _Count:
    """A number with the method by which the standard library's is read."""

    __slots__ = ("get_value",)

    def __init__(self, get_value: Callable[[], int]) -> None:
        self.get_value = get_value


class Condition(_Condition):
    """A condition variable: wait until another thread or process notifies.

    The longest waiter is notified first.

    Args:
        lock: its `Lock` or `RLock`; None makes an `RLock`, which gets the same name.
        name: its name in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    def __init__(
        self, lock: Lock | RLock | None = None, *, ctx: Any, name: str | None = None
    ) -> None:
        if lock is None:
            lock = ctx.RLock() if name is None else ctx.RLock(name=name)
        self._create(lock, name)
        self._follow_lock()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._follow_lock()

    def _follow_lock(self) -> None:
        """Use the lock's own methods if the program has replaced them.

        This applies only to methods that the standard library's condition would use too.
        """
        lock = self._lock
        own = Lock if isinstance(lock, Lock) else RLock
        if type(lock) is own and not lock.__dict__:
            return
        enters = (type(lock).__enter__, type(lock).__exit__) != (own.__enter__, own.__exit__)
        if enters or not lock.__dict__.keys().isdisjoint(_METHODS):
            self.__class__ = _following(type(self))

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `predicate()` is true, at most `timeout` seconds; return its last result."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def __repr__(self) -> str:
        waiting: Any
        try:
            waiting = self._waiting()
        except Exception:
            waiting = "unknown"
        return f"<{type(self).__name__}({_named(self)}{self._lock}, {waiting})>"

    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._waiting)

    @property
    def _woken_count(self) -> _Count:
        return _Count(lambda: 0)

    _wait_semaphore = _woken_count


_METHODS = ("acquire", "release")


class _Following:
    """A condition that acquires and releases its lock by the lock's methods.

    The `with` statement uses the methods of the lock's class. Otherwise only methods set on the
    lock object itself count: in the standard library, the lock's own methods hide a subclass's
    `acquire` and `release`.
    """

    __slots__ = ()
    _lock: Any

    def acquire(self: Any, *args: Any, **kwds: Any) -> Any:
        # super() is the condition class that this is mixed into.
        own = self._lock.__dict__.get("acquire", super().acquire)  # type: ignore[misc]
        return own(*args, **kwds)

    def release(self: Any) -> Any:
        return self._lock.__dict__.get("release", super().release)()  # type: ignore[misc]

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> Any:
        return self._lock.__exit__(*args)

    def wait(self: Any, timeout: float | None = None) -> bool:
        if self._lock.__dict__.keys().isdisjoint(_METHODS):
            return super().wait(timeout)  # type: ignore[misc]
        return self._wait_by_methods(timeout)

    def __reduce__(self: Any) -> Any:
        return _new, (type(self).__mro__[2],), self.__getstate__()


_following_classes: dict[type, type] = {}


def _following(cls: type) -> Any:
    if cls not in _following_classes:
        members = {"__slots__": (), "__module__": cls.__module__, "__doc__": cls.__doc__}
        _following_classes[cls] = type(cls.__name__, (_Following, cls), members)
    return _following_classes[cls]


def _new(cls: Any) -> Any:
    return cls.__new__(cls)


class Event(_Event):
    """A flag that processes set, clear and wait for.

    Args:
        name: its name in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    def __init__(self, *, ctx: Any, name: str | None = None) -> None:
        self._create(name)

    def __repr__(self) -> str:
        status = "set" if self.is_set() else "unset"
        name = _named(self).rstrip(", ")
        return f"<{type(self).__qualname__} at {id(self):#x} {name and name + ' '}{status}>"


class Barrier(threading.Barrier):
    """A barrier: a fixed number of parties wait until all of them have arrived.

    Args:
        parties: their number. No party ever passes a barrier of less than one.
        action: called by one of them before they go on; if it raises, the barrier is broken.
        timeout: seconds that `wait` waits unless told otherwise (None: forever).
        name: its name in what `procession` commands show; see `procession.snapshot`.
        ctx: the context that made it.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], Any] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any,
        name: str | None = None,
    ) -> None:
        core = _Barrier()
        core._create(parties, name)
        self.__setstate__((action, timeout, core))

    def __getstate__(self) -> Any:
        return self._action, self._timeout, self._core

    def __setstate__(self, state: Any) -> None:
        self._action, self._timeout, self._core = state

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the other parties, at most `timeout` seconds.

        Return the order of arrival, from 0. Raises `threading.BrokenBarrierError` if the barrier is
        or becomes broken: by a timeout, `abort`, `reset`, an action that raises, or the death of a
        waiting process.
        """
        return self._core.wait(self._timeout if timeout is None else timeout, self._action)

    def reset(self) -> None:
        """Restore the initial state; waiting parties get `threading.BrokenBarrierError`."""
        self._core.reset()

    def abort(self) -> None:
        """Break the barrier, until it is reset."""
        self._core.abort()

    def __repr__(self) -> str:
        name = _named(self._core).rstrip(", ")
        return super().__repr__()[:-1] + (name and f" {name}") + ">"

    @property
    def parties(self) -> int:
        """The number of parties."""
        return self._core.parties

    @property
    def n_waiting(self) -> int:
        """The number of parties that are waiting."""
        return self._core.n_waiting

    @property
    def broken(self) -> bool:
        """Whether the barrier is broken."""
        return self._core.broken
