"""The context of the start method "ray": its processes, and on which nodes they are placed."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping

from .. import context, process, util
from ..context import BaseContext
from ..managers import SyncManager
from ..popen_forkserver import Popen
from . import cluster, place, references  # noqa: F401 - the reducers
from .placement import choose
from .pools.core import Core
from .pools.stream import Stream
from .pools.workers import NodeWorkers
from .popen import RemotePopen, Unreached, is_lost

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["RayContext", "RayProcess"]


class RayProcess(process.BaseProcess):
    """A process on any node of the cluster.

    `options` say where it may be placed, in place of those of the context: `num_cpus`, `resources`
    and `strategy`. Raises TypeError for another option, and ValueError for a bad value.
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        die_with_parent: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            group, target, name, args, kwargs, daemon=daemon, die_with_parent=die_with_parent
        )
        _check(options or {}, _OF_PROCESS, "a process of the context 'ray'")
        self._placement_options = dict(options or {})

    _start_method = "ray"
    #: The node on which it is to be started; None: one that is chosen.
    _at: place.Node | None = None

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        ray_context = context._default_context.get_context("ray")
        assert isinstance(ray_context, RayContext)
        here = ray_context._join()
        # First in its pickle: what the program has in its process object may need it.
        config = {**process_obj._config, "cluster": here}
        others = {k: v for k, v in process_obj.__dict__.items() if k != "_config"}
        process_obj.__dict__ = {"_config": config, **others}  # in one step
        # A process of the default context has neither.
        at = getattr(process_obj, "_at", None)
        options = getattr(process_obj, "_placement_options", {})
        while True:
            node = choose(here, options) if at is None else at
            if node.address == here.address:
                return Popen(process_obj)
            try:
                return RemotePopen(process_obj, node, here)
            except Unreached as error:
                if at is not None:
                    raise
                util.info("another node is tried: %s", error)

    @staticmethod
    def _after_fork() -> None:
        pass  # nothing was inherited


def _process_at(at: place.Node, **options: Any) -> RayProcess:
    """Return a process that is to be started on a certain node."""
    made = RayProcess(**options)
    made._at = at
    return made


#: The options of a process, and those of `get_context("ray", ...)` besides `address`.
_OF_PROCESS = ("num_cpus", "resources", "strategy")
_OPTIONS = (*_OF_PROCESS, "runtime_env", "node_timeout")


def _check(options: Mapping[str, Any], known: tuple[str, ...], of: str) -> None:
    for name in options:
        if name not in known:
            raise TypeError(f"{of} has no option {name!r}: it has {', '.join(known)}")
    if options.get("strategy", "spread") not in ("spread", "pack"):
        raise ValueError(f"strategy must be 'spread' or 'pack', not {options['strategy']!r}")
    amounts = {"num_cpus": options.get("num_cpus", 1), **(options.get("resources") or {})}
    for name, amount in amounts.items():
        if not amount >= 0:
            raise ValueError(f"{name} must be 0 or more, not {amount!r}")


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
        _check(options, _OPTIONS, "the context 'ray'")
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

    def _pool_on_nodes(
        self, size: int, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Return scheduler and workers of a pool, as `Pool` uses them."""
        core = Core()
        core.stream = functools.partial(Stream, core)
        return core, NodeWorkers(core, _process_at, self._join(), size, arguments, options)


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
