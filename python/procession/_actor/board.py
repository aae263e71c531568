"""What the processes around an actor share: the queue of its requests, and what became of it."""

from __future__ import annotations

import os
import select
from typing import Any, NamedTuple

from .._procession import Event, SharedBytes, SharedDict
from .._procession import Queue as _Queue

__all__: list[str] = []

#: The states of an incarnation. After DOWN nothing follows.
STARTING, UP, DOWN = "starting", "up", "down"
#: The kinds of replies: a value, in place or in a queue of its own; an exception; there will be none.
VALUE, VALUE_APART, RAISED, ENDED = 0, 1, 2, 3
#: Seconds of a wait between two looks at what else might end it.
SLICE, SHORT_SLICE = 1.0, 0.1
#: Seconds that an owner may take, if it is not stopped, to write down how an incarnation ended.
PATIENCE = 10.0


class Queue(_Queue):
    """A queue of the engine that raises what pickle raises."""

    def _put_failed(self, error: Exception, obj: object) -> None:
        raise error


def new_queue(maxsize: int = 0) -> Queue:
    """Return a new queue; `maxsize` 0: without a bound."""
    queue = Queue()
    queue._create(maxsize)
    return queue


class Ending(NamedTuple):
    """How an incarnation ended; it is sent as a tuple."""

    text: str
    pid: int
    exitcode: int | None = None
    #: No other incarnation follows.
    final: bool = True
    #: The exception of the constructor, as `_pool.errors` packs it.
    error: tuple[bytes, str, str] | None = None


class Record(NamedTuple):
    """What the owner has written down last."""

    #: The number of records before it.
    serial: int
    incarnation: int
    status: str
    pid: int
    #: How the last incarnation ended, if one did.
    ending: tuple[Any, ...] | None


class Card(NamedTuple):
    """How a process that has a handle finds the actor."""

    key: bytes
    name: str
    #: The public methods of its class; None if only the actor itself knows.
    methods: tuple[str, ...] | None
    owner: int
    #: When the owner started, as `start_time` returns it.
    owner_started: str
    max_restarts: int | None
    is_bounded: bool
    #: The objects of the board. These do not keep the objects alive; the owner does.
    objects: tuple[Any, ...]


class Board:
    """The objects through which an actor, its owner and its clients meet."""

    def __init__(self, objects: tuple[Any, ...]) -> None:
        self._objects = objects
        #: Requests, for the actor. Orders, for its owner.
        self.requests: Queue
        self.orders: Queue
        self.requests, self.orders, self._records, *self._news = objects

    @classmethod
    def make(cls, max_pending: int) -> Board:
        """Return a new board."""
        records = SharedDict()
        records._create()
        news = [Event(), Event()]
        for event in news:
            event._create()
        board = cls((new_queue(max_pending), new_queue(), records, *news))
        records["now"] = tuple(Record(0, 0, STARTING, 0, None))
        return board

    def states(self) -> tuple[Any, ...]:
        """Return what `attach` needs."""
        return tuple(thing.__getstate__() for thing in self._objects)

    @classmethod
    def attach(cls, states: tuple[Any, ...]) -> Board:
        """Return the board of another process. Raises ValueError if it is gone."""
        kinds = (Queue, Queue, SharedDict, Event, Event)
        objects: list[Any] = []
        for kind, state in zip(kinds, states):  # noqa: B905 - as many
            thing: Any = kind()
            thing.__setstate__(state)
            objects.append(thing)
        return cls(tuple(objects))

    def read(self) -> Record:
        """Return the last record."""
        return Record(*self._records["now"])

    def write(self, incarnation: int, status: str, pid: int, ending: Ending | None) -> None:
        """Write a record. Only the owner does."""
        serial = self.read().serial + 1
        # A wait for the record after this one begins with a cleared event; see `wait`.
        self._news[serial % 2].clear()
        sent = None if ending is None else tuple(ending)
        self._records["now"] = (serial, incarnation, status, pid, sent)
        self._news[(serial - 1) % 2].set()

    def wait(self, serial: int) -> bool:
        """Wait until there is a record after this one, for a short time; return whether there is."""
        # If two records follow quickly, the event may be cleared again: then the time runs out.
        self._news[serial % 2].wait(SHORT_SLICE)
        return self.read().serial != serial


def start_time(pid: int) -> str:
    """Return when a process started, in the kernel's units; nothing if it does not exist.

    Raises OSError if that cannot be known, as without a free descriptor.
    """
    fields = _stat(pid)
    return fields[19].decode() if fields else ""


def is_stopped(pid: int) -> bool:
    """Return whether a process is known to be stopped, by a signal or a debugger."""
    try:
        return _stat(pid)[:1] in ([b"T"], [b"t"])
    except OSError:
        return False


def _stat(pid: int) -> list[bytes]:
    """Return what the kernel says of a process, from its state on; nothing if it does not exist."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def pidfd_of(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None if it does not exist.

    Raises OSError if that cannot be known, as without a free descriptor.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def has_ended(pid: int, started: str | None = None) -> bool:
    """Return whether a process is known to have ended.

    Args:
        pid: its number.
        started: its `start_time`, which tells it from a later one with its number; None: not known.
    """
    try:
        if started is not None and start_time(pid) != started:
            return True
        process = pidfd_of(pid)
    except OSError:
        return not _exists(pid)
    if process is None:
        return True
    try:
        return is_readable(process)
    finally:
        os.close(process)


def _exists(pid: int) -> bool:
    """Return whether there is a process, which may have ended; this takes no descriptor."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_readable(fd: int) -> bool:
    """Return whether a descriptor is readable."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def in_memory(data: bytes) -> SharedBytes:
    """Return shared memory with these bytes."""
    memory = SharedBytes(len(data))
    memoryview(memory)[:] = data
    return memory
