"""Locks, semaphores, conditions, events and barriers between processes.

All of them can be sent: as arguments of processes, inside items of queues, as arguments and results of pool tasks. `acquire`, `release` and
the `with` statement are the extension's own methods, because a method written in Python costs more than a lock does.
"""

from __future__ import annotations

import sys
import threading
import time

from . import _procession, process

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX, SEMAPHORE = 0, 1
SEM_VALUE_MAX = 2**31 - 1


def _holder(lock: Any) -> str:
    """Who holds a lock, in the words of the standard library."""
    which = lock._holder()
    if which != 1:
        return ("None", "", "SomeOtherThread", "SomeOtherProcess")[which]
    name = process.current_process().name
    thread = threading.current_thread().name
    return name if thread == "MainThread" else f"{name}|{thread}"


class SemLock:
    """What the lock classes share. Code that looks for the standard library's inner `_semlock` finds the lock itself."""

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


class Lock(_procession.Lock, SemLock):
    """A lock that one thread of one process holds at a time; any thread of any process may release it.

    If the holding process dies, exactly one of those who wait gets `OwnerDied`, and the lock is free. The end of the thread that acquired it
    is no such death: another thread may release it.

    Args:
        recover: "error", or "silent" if the lock of a dead holder is handed on without `OwnerDied`.
        ctx: the context it was made by.
    """

    def __init__(self, *, ctx: Any, recover: str = "error") -> None:
        self._create(recover)

    def __repr__(self) -> str:
        try:
            owner = _holder(self)
        except Exception:
            owner = "unknown"
        return f"<{type(self).__name__}(owner={owner})>"


class RLock(_procession.RLock, SemLock):
    """A lock that its holder, a thread of a process, may take again; only the holder may release it.

    If the holding process dies, or the thread ends, exactly one of those who wait gets `OwnerDied`, and the lock is free.

    Args:
        recover: "error", or "silent" if the lock of a dead holder is handed on without `OwnerDied`.
        ctx: the context it was made by.
    """

    kind = RECURSIVE_MUTEX

    def __init__(self, *, ctx: Any, recover: str = "error") -> None:
        self._create(recover)

    def __repr__(self) -> str:
        count: Any
        try:
            owner = _holder(self)
            which = self._holder()
            count = (0, self._count(), "nonzero", "nonzero")[which]
        except Exception:
            owner = count = "unknown"
        return f"<{type(self).__name__}({owner}, {count})>"


def _value(semaphore: Any) -> Any:
    try:
        return semaphore._get_value()
    except Exception:
        return "unknown"


class Semaphore(_procession.Semaphore):
    """A counter: `acquire` takes one and waits at zero, `release` gives one.

    Args:
        value: its value to begin with; OSError if it is negative, OverflowError if it is greater than `SEM_VALUE_MAX`.
        recover: None, or "silent" if what a process had acquired and not released when it died comes back. For semaphores that are released
            by the process that acquired them; each call costs about three times as much.
        ctx: the context it was made by.
    """

    kind = SEMAPHORE
    _semlock = SemLock._semlock
    _is_zero = SemLock._is_zero

    def __init__(self, value: int = 1, *, ctx: Any, recover: str | None = None) -> None:
        self._create(value, False, recover)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_value(self)})>"


class BoundedSemaphore(Semaphore):
    """A semaphore whose value never exceeds the one it began with: `release` raises ValueError then.

    Args:
        value: its value to begin with.
        recover: as of `Semaphore`.
        ctx: the context it was made by.
    """

    def __init__(self, value: int = 1, *, ctx: Any, recover: str | None = None) -> None:
        self._create(value, True, recover)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={_value(self)}, maxvalue={self.maxvalue})>"


class _Count:
    """A number with the standard library's way to ask for it."""

    __slots__ = ("get_value",)

    def __init__(self, get_value: Callable[[], int]) -> None:
        self.get_value = get_value


class Condition(_procession.Condition):
    """A condition variable: wait until another thread or process notifies. Who waits longest is notified first.

    Args:
        lock: its `Lock` or `RLock`; None makes an `RLock`.
        ctx: the context it was made by.
    """

    def __init__(self, lock: Lock | RLock | None = None, *, ctx: Any) -> None:
        self._create(ctx.RLock() if lock is None else lock)
        self._follow_lock()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._follow_lock()

    def _follow_lock(self) -> None:
        """Use the lock's own methods if the program has put others in the place of ours: where the standard library's condition does."""
        lock = self._lock
        own = Lock if isinstance(lock, Lock) else RLock
        if type(lock) is own and not lock.__dict__:
            return
        enters = (type(lock).__enter__, type(lock).__exit__) != (own.__enter__, own.__exit__)
        if enters or not lock.__dict__.keys().isdisjoint(_METHODS):
            self.__class__ = _following(type(self))

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `predicate()` is true, for at most `timeout` seconds; its last result."""
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
        return f"<{type(self).__name__}({self._lock}, {waiting})>"

    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._waiting)

    @property
    def _woken_count(self) -> _Count:
        return _Count(lambda: 0)

    _wait_semaphore = _woken_count


_METHODS = ("acquire", "release")


class _Following:
    """A condition that takes and gives its lock by the lock's methods.

    These are the class's for the `with` statement, otherwise those that were set on the lock itself: a subclass's `acquire` and `release` are
    hidden in the standard library by the lock's own.
    """

    __slots__ = ()
    _lock: Any

    def acquire(self: Any, *args: Any, **kwds: Any) -> Any:
        own = self._lock.__dict__.get("acquire", super().acquire)  # type: ignore[misc]  # of the class that it is mixed into
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


class Event(_procession.Event):
    """A flag that processes set, clear and wait for.

    Args:
        ctx: the context it was made by.
    """

    def __init__(self, *, ctx: Any) -> None:
        self._create()

    def __repr__(self) -> str:
        status = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {status}>"


class Barrier(threading.Barrier):
    """A number of parties wait until all of them are there.

    Args:
        parties: how many. Less than one is a ValueError from Python 3.14 on; before, nobody gets past such a barrier.
        action: called by one of them before they go on; if it raises, the barrier is broken.
        timeout: how many seconds `wait` waits unless told otherwise (None: for ever).
        ctx: the context it was made by.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], Any] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any,
    ) -> None:
        if sys.version_info >= (3, 14) and parties < 1:
            raise ValueError("parties must be >= 1")
        core = _procession.Barrier()
        core._create(parties)
        self.__setstate__((action, timeout, core))

    def __getstate__(self) -> Any:
        return self._action, self._timeout, self._core

    def __setstate__(self, state: Any) -> None:
        self._action, self._timeout, self._core = state

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others, for at most `timeout` seconds; the order of arrival, from 0.

        Raises `threading.BrokenBarrierError` if the barrier is or gets broken: by a timeout, `abort`, `reset`, an action that raises or the
        death of a process that waits.
        """
        return self._core.wait(self._timeout if timeout is None else timeout, self._action)

    def reset(self) -> None:
        """Make it as new; whoever waits gets `threading.BrokenBarrierError`."""
        self._core.reset()

    def abort(self) -> None:
        """Break it, until it is reset."""
        self._core.abort()

    @property
    def parties(self) -> int:
        """How many it is for."""
        return self._core.parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return self._core.n_waiting

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._core.broken


if (_install := sys.modules.get(f"{__package__}._install")) is not None:
    _install.amend(__name__)
