"""Metrics of the family for OpenTelemetry (`pip install 'procession[otel]'`).

    from procession.otel import export_metrics

    export_metrics()  # to the meter provider that the program has set

Only the process that calls it exports: when its reader asks, one look at the shared memory answers
for all processes of the family, and these do nothing for it. Nothing else of the package loads
OpenTelemetry.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._snapshot import Snapshot

__all__ = ["export_metrics"]

#: Seconds for which a look answers questions: those of one collection come at once.
_FRESH = 0.1
#: How many queues, pools and processes have figures of their own, as in `procession metrics`.
_MOST_OF_A_KIND = 100

#: A number, and what it is about.
_Figure = tuple[float, dict[str, str]]


class _Looks:
    """The last snapshot, shared by the instruments of a collection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._taken = 0.0
        self._seen: Snapshot | None = None

    def look(self) -> Snapshot | None:
        """Return a snapshot that is new; None in a process that was forked, and does not export."""
        if os.getpid() != self._pid:
            return None
        from ._snapshot import take

        with self._lock:
            if self._seen is None or time.monotonic() - self._taken > _FRESH:
                self._seen = take()
                self._taken = time.monotonic()
            return self._seen


def _processes(seen: Snapshot) -> Iterator[_Figure]:
    for state in ("starting", "running", "sleeping", "stopped", "dead"):
        yield sum(one.state == state for one in seen.processes), {"procession.process.state": state}


def _cpu(seen: Snapshot) -> Iterator[_Figure]:
    yield sum(one.cpu_ms for one in seen.processes) / 1000, {}


def _private(seen: Snapshot) -> Iterator[_Figure]:
    known = {one.pid: one for one in seen.processes if one.pid}
    for process in list(known.values())[:_MOST_OF_A_KIND]:
        labels = {"process.pid": str(process.pid), "procession.process.name": process.name}
        yield process.private_bytes, labels


def _deaths(seen: Snapshot) -> Iterator[_Figure]:
    yield seen.deaths, {}


def _memory(seen: Snapshot) -> Iterator[_Figure]:
    yield seen.committed_bytes, {}


def _memory_limit(seen: Snapshot) -> Iterator[_Figure]:
    yield seen.limit_bytes, {}


def _deadlocks(seen: Snapshot) -> Iterator[_Figure]:
    yield len(seen.deadlocks), {}


def _warnings(seen: Snapshot) -> Iterator[_Figure]:
    kinds = [one.kind for one in seen.warnings]
    for kind in sorted(set(kinds)):
        yield kinds.count(kind), {"procession.warning.kind": kind}


def _locks(seen: Snapshot) -> Iterator[_Figure]:
    held = sum(one.holder is not None for one in seen.locks)
    yield held, {"procession.lock.state": "held"}
    yield len(seen.locks) - held, {"procession.lock.state": "free"}


def _lock_waiters(seen: Snapshot) -> Iterator[_Figure]:
    yield sum(len(one.waiters) for one in seen.locks), {}


def _of_queues(figure: Callable[[Any], float]) -> Callable[[Snapshot], Iterator[_Figure]]:
    def figures(seen: Snapshot) -> Iterator[_Figure]:
        for queue in seen.queues[:_MOST_OF_A_KIND]:
            yield figure(queue), {"procession.queue.id": queue.id}

    return figures


def _queue_waiters(seen: Snapshot) -> Iterator[_Figure]:
    for queue in seen.queues[:_MOST_OF_A_KIND]:
        waiting = {"get": queue.getters, "put": queue.putters, "join": queue.joiners}
        for operation, pids in waiting.items():
            yield (
                len(pids),
                {"procession.queue.id": queue.id, "procession.operation": operation},
            )


def _of_pools(figure: Callable[[Any], float]) -> Callable[[Snapshot], Iterator[_Figure]]:
    def figures(seen: Snapshot) -> Iterator[_Figure]:
        for pool in seen.pools[:_MOST_OF_A_KIND]:
            yield figure(pool), {"procession.pool.id": pool.id}

    return figures


def _tasks(seen: Snapshot) -> Iterator[_Figure]:
    for pool in seen.pools[:_MOST_OF_A_KIND]:
        for state in ("queued", "running", "uncollected"):
            labels = {"procession.pool.id": pool.id, "procession.task.state": state}
            yield getattr(pool, state), labels


def _task_times(seen: Snapshot) -> Iterator[_Figure]:
    for pool in seen.pools[:_MOST_OF_A_KIND]:
        for quantile, value in ((0.5, pool.median_ms), (0.99, pool.p99_ms)):
            if value is not None:
                labels = {"procession.pool.id": pool.id, "quantile": str(quantile)}
                yield value / 1000, labels


def _workers(seen: Snapshot) -> Iterator[_Figure]:
    for pool in seen.pools[:_MOST_OF_A_KIND]:
        busy = sum(one.item_ms is not None for one in pool.workers)
        for state, count in (("used", busy), ("idle", len(pool.workers) - busy)):
            yield count, {"procession.pool.id": pool.id, "procession.worker.state": state}


#: Kind of instrument, name, unit, what it says, figures. Names and units follow OpenTelemetry's
#: conventions: dots, no plural where something is counted by an up-and-down counter, units of UCUM.
_INSTRUMENTS: list[tuple[str, str, str, str, Callable[[Any], Iterable[_Figure]]]] = [
    ("up_down_counter", "procession.process.count", "{process}", "Processes.", _processes),
    ("counter", "procession.process.ended", "{process}", "Processes that have ended.", _deaths),
    ("gauge", "procession.process.cpu.time", "s", "Processor time of the present ones.", _cpu),
    (
        "up_down_counter",
        "procession.process.memory.usage",
        "By",
        "Private resident memory.",
        _private,
    ),
    (
        "up_down_counter",
        "procession.shared_memory.usage",
        "By",
        "Shared memory of the family.",
        _memory,
    ),
    (
        "up_down_counter",
        "procession.shared_memory.limit",
        "By",
        "Shared memory that it may have.",
        _memory_limit,
    ),
    ("up_down_counter", "procession.deadlock.count", "{deadlock}", "Deadlocks.", _deadlocks),
    ("gauge", "procession.warning.count", "{warning}", "What dump warns of.", _warnings),
    ("up_down_counter", "procession.lock.count", "{lock}", "Locks.", _locks),
    ("up_down_counter", "procession.lock.waiting", "{thread}", "Threads that wait.", _lock_waiters),
    (
        "up_down_counter",
        "procession.queue.item.count",
        "{item}",
        "Items in a queue.",
        _of_queues(lambda queue: queue.depth),
    ),
    (
        "up_down_counter",
        "procession.queue.item.limit",
        "{item}",
        "Items that a queue holds at most; 0: no limit.",
        _of_queues(lambda queue: queue.maxsize),
    ),
    (
        "counter",
        "procession.queue.item.put",
        "{item}",
        "Items that were put into a queue.",
        _of_queues(lambda queue: queue.put),
    ),
    (
        "up_down_counter",
        "procession.queue.waiting",
        "{thread}",
        "Threads that wait for a queue.",
        _queue_waiters,
    ),
    ("up_down_counter", "procession.pool.task.count", "{task}", "Tasks not collected yet.", _tasks),
    (
        "counter",
        "procession.pool.task.done",
        "{task}",
        "Tasks that workers have finished.",
        _of_pools(lambda pool: pool.done),
    ),
    (
        "counter",
        "procession.pool.task.failed",
        "{task}",
        "Tasks that workers have finished with an error.",
        _of_pools(lambda pool: pool.failed),
    ),
    (
        "gauge",
        "procession.pool.task.duration",
        "s",
        "Time that this part of the last tasks took at most.",
        _task_times,
    ),
    ("up_down_counter", "procession.pool.worker.count", "{worker}", "Workers of a pool.", _workers),
    (
        "counter",
        "procession.pool.worker.ended",
        "{worker}",
        "Workers that have ended.",
        _of_pools(lambda pool: pool.workers_ended),
    ),
]


def export_metrics(provider: Any = None) -> None:
    """Export the figures of this process's family through OpenTelemetry, from now on.

    They are observed when a reader of the meter provider collects: `provider`, or the one that the
    program has set with `opentelemetry.metrics.set_meter_provider`, now or later. A process that
    is forked or started afterwards exports nothing. Call it once. Figures and names:
    :ref:`otel`.

    Raises ModuleNotFoundError if OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.metrics import Observation, get_meter
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "opentelemetry":
            raise
        raise ModuleNotFoundError(
            "export_metrics needs OpenTelemetry: pip install 'procession[otel]'", name=error.name
        ) from None
    from ._procession import __version__, family_id

    family_id()  # there is one from now on
    meter = get_meter("procession", __version__, meter_provider=provider)
    looks = _Looks()

    def callback_for(figures: Callable[[Snapshot], Iterable[_Figure]]) -> Callable[[Any], Any]:
        def callback(options: Any) -> Iterator[Any]:
            seen = looks.look()
            for value, labels in () if seen is None else figures(seen):
                yield Observation(value, labels)

        return callback

    for kind, name, unit, description, figures in _INSTRUMENTS:
        create = getattr(meter, f"create_observable_{kind}")
        create(name, callbacks=[callback_for(figures)], unit=unit, description=description)
