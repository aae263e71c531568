"""The cluster as the driver knows it: it joins Ray, and has an agent on each other node."""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
import time

from .. import spawn, util
from .._threads import RLock
from . import home, place, shipping, wire
from .agent import Agent

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds that all agents have to start.
_START = 60

_mutex = RLock()


def join(address: str | None, options: dict[str, Any]) -> place.Place:
    """Return this process's place in the cluster; a driver that has none joins it now.

    Raises ModuleNotFoundError if Ray is not installed, and ConnectionError if no cluster is found.
    """
    with _mutex:
        here = place.here()
        if here is None:
            driver = _Driver()
            try:
                driver.join(address, options)
            except BaseException:
                driver.give_up()
                place.leave()
                _keep_alive.clear()
                _close_copies()
                raise
            here = place.here()
        assert here is not None
        return here


def require_ray() -> None:
    """Raise ModuleNotFoundError if Ray is not installed. Ray is not loaded by this."""
    if "ray" in sys.modules:
        found = sys.modules["ray"] is not None
    else:
        found = importlib.util.find_spec("ray") is not None
    if not found:
        raise ModuleNotFoundError(
            "the start method 'ray' needs Ray: pip install 'procession[ray]'", name="ray"
        )


class _Driver:
    """Starts the agents, and holds a connection to each of them for as long as this process lives."""

    def __init__(self) -> None:
        self._home: home.Home | None = None
        self._actors: list[Any] = []

    def give_up(self) -> None:
        """Leave nothing behind."""
        if self._home is not None:
            self._home.close()

    def join(self, address: str | None, options: dict[str, Any]) -> None:
        """Join the cluster at an address."""
        require_ray()
        # Ray drops lines of processes that differ in numbers alone, unless told otherwise.
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        import ray

        if not ray.is_initialized():
            ray.init(
                address=address or os.environ.get("RAY_ADDRESS") or "auto",
                runtime_env=options.get("runtime_env"),
                configure_logging=False,
            )
        own = ray.get_runtime_context().get_node_id()
        key = os.urandom(32)
        host = ray.util.get_node_ip_address()
        nodes = [node for node in ray.nodes() if node["Alive"]]
        name = next((n["NodeName"] for n in nodes if n["NodeID"] == own), host)
        served = self._home = home.Home(_name(name, host, own), host, key, options=options)
        runtime_env = options.get("runtime_env") or {}
        self._settings = shipping.pack(settings(), runtime_env.get("working_dir"))
        agents = self._start_agents(ray, nodes, own, key)
        for node in nodes[:]:
            if node["NodeID"] != own and node["NodeID"] not in agents:
                nodes.remove(node)
        known = [
            place.Node(
                node["NodeID"],
                _name(node["NodeName"], node["NodeManagerAddress"], node["NodeID"]),
                agents.get(node["NodeID"], served.place.address),
                node["Resources"],
            )
            for node in sorted(nodes, key=lambda node: (node["NodeID"] != own, node["NodeID"]))
        ]
        connect_agents(served.place, known, options)

    def _start_agents(
        self, ray: Any, nodes: list[Any], own: str, key: bytes
    ) -> dict[str, tuple[str, int]]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = ray.remote(num_cpus=0, max_restarts=0)(Agent)
        starting = {}
        # As bytes: Ray prints arguments that it cannot pickle, and there are keys in these.
        settings = pickle.dumps(self._settings)
        for node in nodes:
            id, host = node["NodeID"], node["NodeManagerAddress"]
            if id != own:
                pinned = NodeAffinitySchedulingStrategy(id, soft=False)
                agent = actor.options(scheduling_strategy=pinned).remote()
                self._actors.append(agent)
                name = _name(node["NodeName"], host, id)
                starting[id] = agent.serve.remote(name, host, key, settings)
        _keep_alive.append(self)
        started = {}
        end = time.monotonic() + _START
        for id, address in starting.items():
            try:
                started[id] = ray.get(address, timeout=max(0.0, end - time.monotonic()))
            except ray.exceptions.RayError as error:
                util.sub_warning(
                    "node %s is left out, because its agent did not start: %s", id, error
                )
        return started


#: Actors end when nothing in the driver refers to them.
_keep_alive: list[Any] = []
_sessions: list[Any] = []


def connect_agents(here: place.Place, nodes: list[place.Node], options: dict[str, Any]) -> None:
    """Make these the cluster's nodes, and tell their agents; this process is the driver."""
    here.nodes, here.options = nodes, options
    for node in nodes[:]:
        if node.address != here.address:
            try:
                follow(here, node)
            except (EOFError, OSError) as error:
                nodes.remove(node)
                util.sub_warning("node %s is left out: %s", node.name, error)


def follow(here: place.Place, node: place.Node) -> None:
    """Have a node's agent live as long as this process."""
    conn = wire.connect(node.address, here.key)
    wire.limit(conn)
    wire.send(conn, ("driver", here.nodes, here.options))
    wire.recv_answer(conn)
    _sessions.append(conn)


def _close_copies() -> None:
    # A child's copy of a connection must not hide the driver's end.
    for conn in _sessions:
        conn.close()
    _sessions.clear()


os.register_at_fork(after_in_child=_close_copies)


def settings() -> dict[str, Any]:
    """Return the settings of this process, as an agent adopts them."""
    return shipping.with_keys(spawn.get_preparation_data("Agent"))


def _name(name: str, host: str, id: str) -> str:
    """Return a node's name for people."""
    return f"{name or host} ({id[:8]})" if name != host else f"{host} ({id[:8]})"
