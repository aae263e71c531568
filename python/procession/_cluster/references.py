"""What shared objects become in pickles for other nodes, and what they are when they arrive.

The package's docstring says what tickets are for. A reference holds the pickle that the object has
within its family: only processes of that family load it, be it the receiver or its deputy.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from .. import queues, reduction, sharedctypes, synchronize
from .._procession import SharedBytes, family_id
from .._shared_dict import SharedDict
from .._shared_list import SharedList
from ..shared_memory import ShareableList, SharedMemory
from . import pipes, place, proxies, wire  # noqa: F401 - the reducer of ends of pipes
from .reference import Reference

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class Sealed:
    """A reference of another home that is passed on as it came."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def __reduce__(self) -> Any:
        return self._reference.reduced(self._reference.ticket)


def refer(obj: Any, kind: str, extra: Any = None) -> tuple[Any, ...]:
    """Reduce a shared object to a reference with a new ticket.

    Raises ValueError in a process that is not part of a cluster.
    """
    here = place.here()
    if here is None:
        raise ValueError(
            f"this {kind} cannot be sent to another node: its process was not started by the context 'ray'"
        )
    wire.note_reference(obj)
    local = bytes(wire.at_home(reduction.ForkingPickler.dumps, obj))
    reference = Reference(kind, family_id(), here.node, here.address, local, None, extra)
    return reference.reduced(here.issue(obj))


def arrive(*fields: Any) -> Any:
    """Return the object of a reference at its home, and a proxy elsewhere.

    Raises ValueError at home if the object is gone.
    """
    reference = Reference(*fields)
    here = place.here()
    if reference.family == family_id():
        obj = wire.loads(reference.local)
        if here is not None and reference.ticket is not None:
            here.redeem(reference.ticket)
        return obj
    if place.is_courier:
        return Sealed(reference)
    return proxies.proxy_of(reference)


Reference.arrive = staticmethod(arrive)


def take_over(*arguments: Any) -> place.Place:
    """Return this process's place; see `place.take_over`."""
    return place.take_over(*arguments)


place.Place.take_over = staticmethod(take_over)


def _reducer(kind: str, extra: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    def reduce(obj: Any) -> Any:
        if not wire.mode.abroad:
            return obj.__reduce_ex__(5)
        return refer(obj, kind, None if extra is None else extra(obj))

    return reduce


def _of_barrier(barrier: Any) -> Any:
    return barrier._action, barrier._timeout, barrier.parties


_KINDS: dict[type, tuple[str, Callable[[Any], Any] | None]] = {
    synchronize.Lock: ("Lock", None),
    synchronize.RLock: ("RLock", None),
    synchronize.Semaphore: ("Semaphore", None),
    synchronize.BoundedSemaphore: ("BoundedSemaphore", None),
    synchronize.Condition: ("Condition", None),
    synchronize.Event: ("Event", None),
    synchronize.Barrier: ("Barrier", _of_barrier),
    queues.Queue: ("Queue", lambda queue: queue._maxsize),
    queues.JoinableQueue: ("JoinableQueue", lambda queue: queue._maxsize),
    queues.SimpleQueue: ("SimpleQueue", None),
}


def _reduce_ctypes(obj: Any) -> Any:
    """Reduce a ctypes object in shared memory, bare or with its lock; None: as usual."""
    if not wire.mode.abroad:
        return None
    if isinstance(obj, sharedctypes.SynchronizedBase):
        bare, kind = obj.get_obj(), "Synchronized"
    else:
        bare, kind = obj, "Raw"
    if getattr(bare, "_wrapper", None) is None:
        return None
    return refer(obj, kind, isinstance(bare, ctypes.Array))


def _must_leave() -> bool:
    return wire.mode.abroad and not wire.mode.anywhere


def _refuse_shared(obj: Any) -> Any:
    if _must_leave():
        raise NotImplementedError(
            f"a {type(obj).__name__} cannot be sent to another node: use Manager().dict() or .list()"
        )
    return obj.__reduce_ex__(5)


def _refuse_memory(obj: Any) -> Any:
    if _must_leave():
        raise NotImplementedError(
            f"a {type(obj).__name__} is the memory of one node, and cannot be sent to another: send its data"
        )
    return obj.__reduce_ex__(5)


def _refuse_bytes(obj: Any) -> Any:
    if _must_leave():
        raise NotImplementedError(
            "an actor, or what share() has made, cannot be used on another node: send data"
        )
    return obj.__reduce_ex__(5)


def register() -> None:
    """Have all pickles for other nodes carry references."""
    for kind, (name, extra) in _KINDS.items():
        reduction.register(kind, _reducer(name, extra))
    reduction.register(SharedBytes, _refuse_bytes)
    reduction.register(SharedMemory, _refuse_memory)
    reduction.register(ShareableList, _refuse_memory)
    reduction.register(SharedDict, _refuse_shared)
    reduction.register(SharedList, _refuse_shared)
    sharedctypes._reduce_elsewhere = _reduce_ctypes  # type: ignore[attr-defined]


register()
