"""The package's names over threads of one process, for programs that need no processes."""

from __future__ import annotations

import array
import sys
import threading
import weakref
from queue import Queue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

from .connection import Pipe

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "Semaphore",
    "active_children",
    "current_process",
    "freeze_support",
]


class DummyProcess(threading.Thread):
    """A thread with a process's attributes."""

    def __init__(self, group=None, target=None, name=None, args=(), kwargs=None):
        threading.Thread.__init__(self, group, target, name, args, kwargs)
        self._pid = None
        self._children = weakref.WeakKeyDictionary()
        self._start_called = False
        self._parent = current_process()

    def start(self):
        """Start the thread. Raises RuntimeError except in the thread that made the object."""
        here, parent = current_process(), self._parent
        if parent is not here:
            raise RuntimeError(f"Parent is {parent!r} but current_process is {here!r}")
        # Only threads of this kind, and the one that imported this module, list their children.
        getattr(parent, "_children", {})[self] = None
        self._start_called = True
        super().start()

    @property
    def exitcode(self):
        """0 once the thread has ended, None before."""
        return 0 if self._start_called and not self.is_alive() else None


Process = DummyProcess
current_process = threading.current_thread
current_process()._children = weakref.WeakKeyDictionary()  # type: ignore[attr-defined]


def active_children():
    """Return the living threads that the calling thread started."""
    children = current_process()._children
    # Not by iterating over it: a signal handler or finalizer may add one meanwhile.
    for child in [ref() for ref in children.keyrefs()]:
        if child is not None and not child.is_alive():
            children.pop(child, None)
    return [child for child in [ref() for ref in children.keyrefs()] if child is not None]


def freeze_support():
    """Do nothing: a thread needs no executable."""


class Namespace:
    """An object with the attributes that it is given."""

    def __init__(self, /, **kwds):
        self.__dict__.update(kwds)

    def __repr__(self):
        shown = sorted(
            f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_")
        )
        return f"{type(self).__name__}({', '.join(shown)})"


dict = dict
list = list


def Array(typecode, sequence, lock=True):
    """Return an array of `typecode`."""
    return array.array(typecode, sequence)


class Value:
    """A value with a type code."""

    def __init__(self, typecode, value, lock=True):
        self._typecode = typecode
        self._value = value

    @property
    def value(self):
        """The value."""
        return self._value

    @value.setter
    def value(self, value):
        self._value = value

    def __repr__(self):
        return f"<{type(self).__name__}({self._typecode!r}, {self._value!r})>"


def Manager() -> Any:
    """Return this module, which offers the manager's types as ordinary objects."""
    return sys.modules[__name__]


def shutdown():
    """Do nothing: there is no server."""


def Pool(processes=None, initializer=None, initargs=()):
    """Return a pool of threads."""
    from ..pool import ThreadPool

    return ThreadPool(processes, initializer, initargs)


JoinableQueue = Queue
