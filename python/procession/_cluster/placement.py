"""On which nodes processes are placed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from .. import process
from .._errors import NodeLost
from . import place
from .popen import is_lost

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


_turns = itertools.count()


def choose(here: place.Place, options: Mapping[str, Any]) -> place.Node:
    """Return the node for the next process of this one, which has these options of its own.

    "spread": each node in turn, as often as it has processors. "pack": this node, until as many
    children of this process live here as it has processors; then the next.
    """
    options = {**here.options, **options}
    nodes, rooms = usable(here, options)
    if options.get("strategy") == "pack":
        return _first_with_room(here, nodes, rooms)
    return next(itertools.islice(_in_rounds(nodes, rooms), next(_turns) % sum(rooms), None))


def _in_rounds(nodes: list[place.Node], rooms: list[int]) -> Iterator[place.Node]:
    """Yield each node as often as it has room: round by round, one on each that has some left."""
    for number in range(max(rooms)):
        yield from (node for node, room in zip(nodes, rooms, strict=True) if number < room)


def shares(here: place.Place, count: int) -> dict[tuple[str, int], tuple[place.Node, int]]:
    """Return on which nodes `count` processes are placed, and how many on each, by address.

    Above the number of processors each node gets its part of the rest.
    """
    nodes, rooms = usable(here, here.options)
    if here.options.get("strategy") == "pack":
        turns = [n for node, room in zip(nodes, rooms, strict=True) for n in [node] * room]
    else:
        turns = list(_in_rounds(nodes, rooms))
    result: dict[tuple[str, int], tuple[place.Node, int]] = {}
    for node in itertools.islice(itertools.cycle(turns), count):
        result[node.address] = node, result.get(node.address, (node, 0))[1] + 1
    return result


def usable(here: place.Place, options: Mapping[str, Any]) -> tuple[list[place.Node], list[int]]:
    """Return the nodes on which processes can be placed, this one first, and the rooms of each.

    Raises ValueError if no node has what processes are to have, NodeLost if all that have are lost.
    """
    wanted = {"CPU": options.get("num_cpus", 1), **(options.get("resources") or {})}
    nodes = [
        node
        for node in here.nodes
        if all(node.resources.get(name, 0) >= amount for name, amount in wanted.items())
    ]
    if not nodes:
        have = "; ".join(
            f"{node.name}: { ({name: node.resources.get(name, 0) for name in wanted}) }"
            for node in here.nodes
        )
        raise ValueError(f"no node of the cluster has {wanted}, which a process is to have: {have}")
    own = [node for node in nodes if node.address == here.address]
    others = [node for node in nodes if node.address != here.address]
    nodes = own + [node for node in others if not is_lost(node)]
    if not nodes:
        names = ", ".join(node.name for node in others)
        raise NodeLost(f"no node is left for a process: {names}", others[0].name)
    # A process that is to have no processor counts as if it had one.
    return nodes, [max(1, int(node.cpus / (wanted["CPU"] or 1))) for node in nodes]


def _first_with_room(here: place.Place, nodes: list[place.Node], rooms: list[int]) -> place.Node:
    at = [getattr(child._popen, "node", None) for child in list(process._children)]
    for node, room in zip(nodes, rooms, strict=True):
        own = node.address == here.address
        if sum(1 for where in at if where is node or (where is None and own)) < room:
            return node
    return nodes[next(_turns) % len(nodes)]
