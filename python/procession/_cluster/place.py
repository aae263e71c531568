"""Where this process is: its node, its family's home, and the other nodes.

The place is part of the settings that children take over from their parents, so every descendant of
a driver or agent has it, whatever its start method.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .. import _errors, process
from .._procession import family_id
from .._shared_dict import SharedDict
from . import wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class Node:
    """A node on which processes can be started.

    `name` is for people, `address` that of its home's server, `resources` what Ray says it has.
    """

    def __init__(
        self, id: str, name: str, address: tuple[str, int], resources: dict[str, float]
    ) -> None:
        self.id, self.name, self.address, self.resources = id, name, address, resources

    @property
    def cpus(self) -> float:
        """The number of its processors, as Ray counts them."""
        return self.resources.get("CPU", 0.0)


class Place:
    """What the processes of one family know in common.

    `node` is the name of its node, `address` that of its home's server, `tickets` the queue to its
    root process, `root_pid` that process, and `key` the cluster's key. `options` are the placement
    options of the context.
    """

    #: The address of the home of this process's parent, if that is another.
    parents_home: tuple[str, int] | None = None
    #: What unpickles it: `take_over`, by way of `references`, so that the receiver has the reducers.
    take_over: Callable[..., Place]

    def __init__(
        self, node: str, address: tuple[str, int], key: bytes, tickets: Any, root_pid: int
    ) -> None:
        self.node, self.address, self.key = node, address, key
        self.tickets, self.root_pid = tickets, root_pid
        #: Of each deputy's pid: the name, pid and node of the process for which it stands.
        self.clients = SharedDict[int, tuple[str, int, str]]()
        self.nodes: list[Node] = []
        self.options: dict[str, Any] = {}

    def follow_options(self) -> None:
        """Take over what the options say about connections."""
        wire.set_silence(self.options.get("node_timeout") or wire.SILENCE)

    def locate(self, pid: int, name: str) -> tuple[int, str]:
        """Return pid and node of a process, also of one for which a deputy of this family stands."""
        client, true_pid, node = self.clients.get(pid, ("", pid, self.node))
        # The pid of a deputy that has ended may have been given to a process of this node.
        return (true_pid, node) if client == name else (pid, self.node)

    def issue(self, obj: object) -> bytes:
        """Return a new ticket, which keeps the object alive until it is redeemed."""
        ticket = os.urandom(12)
        wire.at_home(self.tickets.put, (ticket, obj))
        if wire.mode.notes is not None:
            wire.mode.notes.append(ticket)
        return ticket

    def redeem(self, ticket: bytes) -> None:
        """Give a ticket back."""
        wire.at_home(self.tickets.put, (ticket, None))

    def settle_notes(self, notes: list[Any]) -> None:
        """Give back the tickets among the notes of a pickle, whose receiver has ended."""
        for note in notes:
            if isinstance(note, bytes):
                self.redeem(note)

    def arrive(self, current: process.BaseProcess) -> int | None:
        """Take note that this process has begun; return the process that stands for its parent.

        It ends with the root of its family, which is the driver or ends with it.
        """
        _be_at(self)
        parent_pid = current._parent_pid
        if self.parents_home is not None:
            parent = _ParentElsewhere(current._parent_name, parent_pid, None)
            parent._home, self.parents_home = self.parents_home, None
            process._parent_process = parent
            parent_pid = self.root_pid
        process._leave_with_parent(self.root_pid)
        return parent_pid

    def __reduce__(self) -> Any:
        if wire.mode.abroad:
            return _receivers, ()
        return self.take_over, (family_id(), self.__dict__)


class _ParentElsewhere(process._ParentProcess):
    """The parent of a process, on another node."""

    _home: tuple[str, int]

    def is_alive(self) -> bool:
        """Ask the parent's home; a home that does not answer has no living processes."""
        assert _place is not None
        try:
            return wire.ask(self._home, _place.key, "lives", self._pid)
        except (EOFError, OSError):
            return False

    @property
    def sentinel(self) -> int:
        raise NotImplementedError(
            "a parent on another node has no sentinel here: make this process daemonic, and it ends with it"
        )


_place: Place | None = None
#: Whether references of other homes stay sealed here: true in agents and deputies.
is_courier = False


def here() -> Place | None:
    """Return the place of this process, or None if it is not part of a cluster."""
    return _place


def settle(place: Place) -> None:
    """Make this the place of this process and of its future children."""
    _be_at(place)
    process.current_process()._config["cluster"] = place


def leave() -> None:
    """Be no part of the cluster any more, which could not be joined."""
    global _place
    _place = _errors.locate_holder = None
    process.current_process()._config.pop("cluster", None)


def be_courier() -> None:
    """Pass references of other homes on without using them."""
    global is_courier
    is_courier = True


def _be_at(place: Place) -> None:
    global _place
    _place, _errors.locate_holder = place, place.locate
    place.follow_options()


def take_over(family: bytes, attributes: dict[str, Any]) -> Place:
    """Return the place of this process, which is now the one with these attributes if it had none."""
    if _place is None and family == family_id():
        place = Place.__new__(Place)
        place.__dict__.update(attributes)
        _be_at(place)
    return _receivers()


def _receivers() -> Place:
    """Return the receiver's own place, which takes the place of the sender's."""
    assert _place is not None, "this process is not part of a cluster"
    return _place
