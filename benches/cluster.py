"""Measure procession and Ray side by side on three hosts: ``python benches/cluster.py [--rounds N]``.

The hosts are namespaces of this machine (`tests/cluster/hosts.py`), so it needs root, iproute2 and
Ray: ``PYTHONPATH=.build/ray-3.11``, with the version of the interpreter. Both libraries are measured
in one program, in turn; the figures are medians of the rounds. All objects have their home with the
driver; what uses them is on another host.
"""

from __future__ import annotations

import argparse
import pathlib
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ITEMS = 500
TURNS = 100
STARTS = 6
TASKS, ARRAYS, WORKERS = 5000, 20, 3


def put_items(queue: Any, told: Any, go: Any) -> None:
    told.put(socket.gethostname())
    if not go.get():
        return
    for number in range(ITEMS):
        queue.put((number, "an item"))


def turn_lock(lock: Any, told: Any, go: Any) -> None:
    told.put(socket.gethostname())
    if not go.get():
        return
    lock.acquire()
    lock.release()
    begin = time.perf_counter()
    for _ in range(TURNS):
        lock.acquire()
        lock.release()
    told.put((time.perf_counter() - begin) / TURNS)


def nothing() -> None:
    pass


def elsewhere(ctx: Any, target: Any, shared: Any) -> tuple[Any, Any, Any]:
    """Start a function on another host; return its process, what it tells, and its sign to go on."""
    for _ in range(9):
        told, go = ctx.Queue(), ctx.Queue()
        process = ctx.Process(target=target, args=(shared, told, go))
        process.start()
        if told.get(timeout=60) != socket.gethostname():
            return process, told, go
        go.put(False)
        process.join()
    raise RuntimeError("all processes run on the driver's host")


def procession_queue(ctx: Any) -> float:
    queue = ctx.Queue()
    process, _, go = elsewhere(ctx, put_items, queue)
    go.put(True)
    queue.get()
    begin = time.perf_counter()
    for _ in range(ITEMS - 1):
        queue.get()
    rate = (ITEMS - 1) / (time.perf_counter() - begin)
    process.join()
    return rate


def procession_lock(ctx: Any) -> float:
    process, told, go = elsewhere(ctx, turn_lock, ctx.Lock())
    go.put(True)
    took = told.get()
    process.join()
    return took * 1e6


def procession_start(ctx: Any) -> float:
    """The hosts take turns, so a third of the processes are local."""
    begin = time.perf_counter()
    for _ in range(STARTS):
        process = ctx.Process(target=nothing)
        process.start()
        process.join()
    return (time.perf_counter() - begin) / STARTS * 1e3


def square(number: int) -> int:
    return number * number


def map_tasks(pool: Any) -> float:
    begin = time.perf_counter()
    results = pool.map(square, range(TASKS), 1)
    rate = TASKS / (time.perf_counter() - begin)
    assert results[-1] == square(TASKS - 1)
    return rate


def apply_tasks(pool: Any) -> float:
    begin = time.perf_counter()
    for number in range(TURNS):
        pool.apply(square, (number,))
    return (time.perf_counter() - begin) / TURNS * 1e6


def carry_arrays(pool: Any) -> float:
    import numpy

    array = numpy.ones(1 << 20)
    begin = time.perf_counter()
    for back in pool.imap(abs, [array] * ARRAYS):
        assert back.nbytes == array.nbytes
    return 2 * ARRAYS * array.nbytes / (time.perf_counter() - begin) / 1e6


def pipe_turn(conn: Any, told: Any, go: Any) -> None:
    told.put(socket.gethostname())
    if go.get():
        for _ in range(TURNS):
            conn.send(conn.recv())


def procession_pipe(ctx: Any) -> float:
    for _ in range(9):
        here, there = ctx.Pipe()
        told, go = ctx.Queue(), ctx.Queue()
        process = ctx.Process(target=pipe_turn, args=(there, told, go))
        process.start()
        is_here = told.get(timeout=60) == socket.gethostname()
        go.put(not is_here)
        if is_here:
            process.join()
            continue
        begin = time.perf_counter()
        for number in range(TURNS):
            here.send(number)
            here.recv()
        took = (time.perf_counter() - begin) / TURNS * 1e6
        process.join()
        return took
    raise RuntimeError("all processes run on the driver's host")


class Rays:
    """The same with Ray's own means."""

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray.init(logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
        self.ray = ray
        others = [
            node for node in ray.nodes() if node["NodeManagerHostname"] != socket.gethostname()
        ]
        strategy = {"num_cpus": 0.01, "num_gpus": 0}
        here = ray.get_runtime_context().get_node_id()
        self.here = {**strategy, "scheduling_strategy": NodeAffinitySchedulingStrategy(here, False)}
        there = NodeAffinitySchedulingStrategy(others[0]["NodeID"], False)
        self.there = {**strategy, "scheduling_strategy": there}

    def queue(self) -> float:
        from ray.util.queue import Queue

        queue = Queue(actor_options=self.here)

        def put(queue: Any) -> None:
            for number in range(ITEMS):
                queue.put((number, "an item"))

        done = self.ray.remote(put).options(**self.there).remote(queue)
        queue.get()
        begin = time.perf_counter()
        for _ in range(ITEMS - 1):
            queue.get()
        rate = (ITEMS - 1) / (time.perf_counter() - begin)
        self.ray.get(done)
        queue.shutdown()
        return rate

    def lock(self) -> float:
        """Ray has no lock: an actor with one, in asyncio, as a program would write it."""
        ray = self.ray

        class Lock:
            def __init__(self) -> None:
                import asyncio

                self.lock = asyncio.Lock()

            async def acquire(self) -> None:
                await self.lock.acquire()

            async def release(self) -> None:
                self.lock.release()

        def turn(lock: Any) -> float:
            ray.get(lock.acquire.remote())
            ray.get(lock.release.remote())
            begin = time.perf_counter()
            for _ in range(TURNS):
                ray.get(lock.acquire.remote())
                ray.get(lock.release.remote())
            return (time.perf_counter() - begin) / TURNS

        lock = ray.remote(Lock).options(**self.here).remote()
        return ray.get(ray.remote(turn).options(**self.there).remote(lock)) * 1e6

    def pipe(self) -> float:
        """Ray has no pipe: calls of an actor that returns what it is given."""

        class Echo:
            def turn(self, number: int) -> int:
                return number

        echo = self.ray.remote(Echo).options(**self.there).remote()
        self.ray.get(echo.turn.remote(0))
        begin = time.perf_counter()
        for number in range(TURNS):
            self.ray.get(echo.turn.remote(number))
        return (time.perf_counter() - begin) / TURNS * 1e6

    def start(self) -> float:
        class Actor:
            def nothing(self) -> None:
                pass

        begin = time.perf_counter()
        for _ in range(STARTS):
            actor = self.ray.remote(Actor).options(**self.there).remote()
            self.ray.get(actor.nothing.remote())
            self.ray.kill(actor)
        return (time.perf_counter() - begin) / STARTS * 1e3


def measure(rounds: int) -> None:
    import procession

    ctx = procession.get_context("ray", strategy="spread")
    rows = {
        "queue, put there and get here, small tuples": ("items/s", procession_queue, Rays.queue),
        "lock, acquire and release there": ("us", procession_lock, Rays.lock),
        "pipe, there and back; call of an actor": ("us", procession_pipe, Rays.pipe),
        "start and end of a process; of an actor": ("ms", procession_start, Rays.start),
    }
    procession_start(ctx)  # all nodes are warm
    rays = Rays()
    print(f"{'median of ' + str(rounds):<46}{'procession':>12}{'Ray':>12}")
    for name, (unit, ours, theirs) in rows.items():
        figures = [(ours(ctx), theirs(rays)) for _ in range(rounds)]
        own, other = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{name:<46}{own:>12,.1f}{other:>12,.1f} {unit}", flush=True)
    measure_pools(ctx, rounds)


def measure_pools(ctx: Any, rounds: int) -> None:
    """Both pools have `WORKERS` workers, and one exists at a time: they would fill the processors."""
    from ray.util.multiprocessing import Pool

    rows = {
        "pool, map of trivial tasks, chunk size 1": ("tasks/s", map_tasks),
        "pool, apply": ("us", apply_tasks),
        "pool, 8 MB arrays there and back": ("MB/s", carry_arrays),
    }
    figures: dict[str, list[list[float]]] = {name: [] for name in rows}
    for make in lambda: ctx.Pool(WORKERS), lambda: Pool(WORKERS):
        with make() as pool:
            pool.map(square, range(100), 1)
            for name, (_, run) in rows.items():
                figures[name].append([run(pool) for _ in range(rounds)])
    for name, (unit, _) in rows.items():
        own, other = map(statistics.median, figures[name])
        print(f"{name:<46}{own:>12,.1f}{other:>12,.1f} {unit}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        measure(options.rounds)
        return 0
    from tests.cluster import hosts

    if reason := hosts.lacking():
        print(reason, file=sys.stderr)
        return 1
    again = [
        sys.executable,
        str(pathlib.Path(__file__).resolve()),
        "--inside",
        f"--rounds={options.rounds}",
    ]
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster.hosts", *again], cwd=ROOT
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
