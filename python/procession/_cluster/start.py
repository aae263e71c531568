"""The context of the start method "ray": its processes, and on which nodes they are placed."""

from __future__ import annotations

import itertools
import os
import threading

from .. import context, process, util
from .._errors import NodeLost
from ..context import BaseContext
from ..managers import SyncManager
from ..popen_forkserver import Popen
from . import cluster, place, references  # noqa: F401 - the reducers
from .popen import RemotePopen, Unreached, is_lost

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["RayContext", "RayProcess"]


class RayProcess(process.BaseProcess):
    """A process on any node of the cluster."""

    _start_method = "ray"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        ray_context = context._default_context.get_context("ray")
        assert isinstance(ray_context, RayContext)
        here = ray_context._join()
        # First in its pickle: what the program has in its process object may need it.
        config = {**process_obj._config, "cluster": here}
        others = {k: v for k, v in process_obj.__dict__.items() if k != "_config"}
        process_obj.__dict__ = {"_config": config, **others}  # in one step
        while True:
            node = _choose(here)
            if node.address == here.address:
                return Popen(process_obj)
            try:
                return RemotePopen(process_obj, node, here)
            except Unreached as error:
                util.info("another node is tried: %s", error)

    @staticmethod
    def _after_fork() -> None:
        pass  # nothing was inherited


_turns = itertools.count()


def _choose(here: place.Place) -> place.Node:
    """Return the node for the next process of this one.

    "spread": each node in turn, as often as it has processors. "pack": this node, until as many
    children of this process live here as it has processors; then the next.
    """
    options = here.options
    wanted = {"CPU": options.get("num_cpus", 1), **(options.get("resources") or {})}
    nodes = [
        node
        for node in here.nodes
        if all(node.resources.get(name, 0) >= amount for name, amount in wanted.items())
    ]
    if not nodes:
        raise ValueError(f"no node of the cluster has {wanted}, which each process is to have")
    own = [node for node in nodes if node.address == here.address]
    others = [node for node in nodes if node.address != here.address]
    nodes = own + [node for node in others if not is_lost(node)]
    if not nodes:
        names = ", ".join(node.name for node in others)
        raise NodeLost(f"no node is left for a process: {names}", others[0].name)
    # A process that is to have no processor counts as if it had one.
    rooms = [max(1, int(node.cpus / (wanted["CPU"] or 1))) for node in nodes]
    if options.get("strategy") == "pack":
        return _first_with_room(here, nodes, rooms)
    turn = next(_turns) % sum(rooms)
    # Round by round: one on each node that still has room in this round.
    for number in range(max(rooms)):
        in_round = [node for node, room in zip(nodes, rooms, strict=True) if number < room]
        if turn < len(in_round):
            return in_round[turn]
        turn -= len(in_round)
    raise AssertionError("the rounds have all turns")


def _first_with_room(here: place.Place, nodes: list[place.Node], rooms: list[int]) -> place.Node:
    at = [getattr(child._popen, "node", None) for child in list(process._children)]
    for node, room in zip(nodes, rooms, strict=True):
        own = node.address == here.address
        if sum(1 for where in at if where is node or (where is None and own)) < room:
            return node
    return nodes[next(_turns) % len(nodes)]


#: The options of `get_context("ray", ...)` besides `address`.
_OPTIONS = ("num_cpus", "resources", "strategy", "runtime_env", "node_timeout")


class RayContext(BaseContext):
    """The context of the start method "ray".

    The first call that needs the cluster joins it: the start of a process, or `cpu_count`.
    """

    _name = "ray"
    Process = RayProcess

    def __init__(self) -> None:
        self._address: str | None = None
        self._options: dict[str, Any] = {}

    def configure(self, address: str | None, options: dict[str, Any]) -> None:
        """Note which cluster is to be joined, and where processes are placed.

        Raises TypeError for an option that there is not, ValueError for a bad value or if this
        process has joined another cluster.
        """
        for name in options:
            if name not in _OPTIONS:
                raise TypeError(f"the context 'ray' has no option {name!r}: it has {_OPTIONS}")
        if options.get("strategy", "spread") not in ("spread", "pack"):
            raise ValueError(f"strategy must be 'spread' or 'pack', not {options['strategy']!r}")
        if options.get("node_timeout") is not None and not options["node_timeout"] >= 1:
            raise ValueError("node_timeout must be at least 1 second")
        here = place.here()
        if here is None:
            cluster.require_ray()
        elif address not in (None, self._address):
            raise ValueError("this program is part of a cluster already")
        self._address = address or self._address
        self._options.update(options)
        if here is not None:
            here.options = {**here.options, **options}

    def _check_available(self) -> None:
        if place.here() is None:
            cluster.require_ray()

    def _join(self) -> place.Place:
        return cluster.join(self._address, self._options)

    def cpu_count(self) -> int:
        """Return the number of processors of the cluster, as Ray counts them."""
        return int(sum(node.cpus for node in self._join().nodes if not is_lost(node)))

    def Manager(self) -> Any:
        """Return a started `SyncManager` on this node, which all nodes can reach."""
        host = self._join().address[0]
        local = context._concrete_contexts["forkserver"]
        manager = SyncManager(address=(host, 0), ctx=local)
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> Any:
        """Return the two ends of a pipe, for processes of this node alone."""
        return super().Pipe(duplex)


_lock = threading.Lock()
_made: RayContext | None = None


def ray_context() -> RayContext:
    """Return the one context of this process."""
    global _made
    with _lock:
        if _made is None:
            _made = RayContext()
        return _made


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
