"""Compare procession with other libraries: ``python benches/peers.py [rounds] [peer ...]``.

A round runs each library in its own interpreter, one after the other. Prints medians. All have two
workers and get one task at a time, as with ``chunksize=1``: this compares the cost of a task, not
how many tasks a library combines. A dash means that a library cannot do a measurement. Peers that
are not installed are listed at the end.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

WORKERS = 2
TASKS, TRIPS, ARRAYS, MESSAGES, RUN = 4_000, 500, 16, 50_000, 100
LIMIT = 300
UNITS = {
    "map, one task each": "/s",
    "one task, there and back": "us",
    "8 MB arrays, there and back": "/s",
    "queue, small tuples": "/s",
    "queue, a hundred at a time": "/s",
}
MAP, TRIP, BIG, QUEUE, QUEUE_MANY = UNITS

#: The ways a library runs many tasks, and one.
Many = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
One = Callable[[Callable[[Any], Any], Any], Any]


def trivial(x: Any) -> Any:
    return x


def shifted(array: Any) -> Any:
    return array + 1


def produce(queue: Any, count: int) -> None:
    for number in range(count):
        queue.put((number, "task", 0.5))


def produce_many(queue: Any, count: int) -> None:
    for first in range(0, count, RUN):
        queue.put_many([(number, "task", 0.5) for number in range(first, first + RUN)])


@contextmanager
def pool_of(library: Any) -> Iterator[tuple[Many, One]]:
    with library.Pool(WORKERS) as pool:
        yield lambda f, items: pool.imap(f, items), lambda f, x: pool.apply(f, (x,))


@contextmanager
def executor_of(executor: Any) -> Iterator[tuple[Many, One]]:
    with executor:
        yield executor.map, lambda f, x: executor.submit(f, x).result()


@contextmanager
def futures() -> Iterator[tuple[Many, One]]:
    import concurrent.futures

    with executor_of(concurrent.futures.ProcessPoolExecutor(WORKERS)) as calls:
        yield calls


@contextmanager
def loky() -> Iterator[tuple[Many, One]]:
    import loky

    with executor_of(loky.ProcessPoolExecutor(WORKERS)) as calls:
        yield calls


@contextmanager
def pebble() -> Iterator[tuple[Many, One]]:
    import pebble

    with pebble.ProcessPool(WORKERS) as pool:
        yield (
            lambda f, items: pool.map(f, items, chunksize=1).result(),
            lambda f, x: pool.schedule(f, args=(x,)).result(),
        )


@contextmanager
def mpire() -> Iterator[tuple[Many, One]]:
    import mpire

    with mpire.WorkerPool(WORKERS, keep_alive=True) as pool:
        yield (
            lambda f, items: pool.imap(f, list(items), chunk_size=1),
            # It would unpack an array given as an argument, so each is wrapped in a tuple.
            lambda f, x: pool.apply(f, (x,)),
        )


@contextmanager
def joblib() -> Iterator[tuple[Many, One]]:
    import joblib

    with joblib.Parallel(WORKERS, batch_size=1, pre_dispatch="all", max_nbytes=None) as parallel:
        many = lambda f, items: parallel(joblib.delayed(f)(x) for x in items)  # noqa: E731
        yield many, lambda f, x: many(f, [x])


@contextmanager
def ray() -> Iterator[tuple[Many, One]]:
    import tempfile

    import ray

    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(
            num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=folder
        )
        remote = {f: ray.remote(f) for f in (trivial, shifted)}
        try:
            yield (
                lambda f, items: ray.get([remote[f].remote(x) for x in items]),
                lambda f, x: ray.get(remote[f].remote(x)),
            )
        finally:
            ray.shutdown()


POOLS = ("multiprocessing", "procession", "multiprocess", "billiard")
OTHERS: dict[str, Callable[[], Any]] = {
    "concurrent.futures": futures,
    "loky": loky,
    "joblib": joblib,
    "pebble": pebble,
    "mpire": mpire,
    "ray": ray,
}
QUEUES = (*POOLS, "faster_fifo")
PEERS = (*POOLS, *OTHERS, "faster_fifo")


def rate(count: int, work: Callable[[], Iterable[Any]]) -> float:
    begin = time.perf_counter()
    deque(work(), 0)
    return count / (time.perf_counter() - begin)


def tasks(many: Many, one: One) -> dict[str, float]:
    deque(many(trivial, range(100)), 0)
    figures = {MAP: rate(TASKS, lambda: many(trivial, range(TASKS)))}
    for count in (TRIPS // 10, TRIPS):
        figures[TRIP] = 1e6 / rate(count, lambda count=count: (one(trivial, x) for x in range(count)))
    try:
        import numpy
    except ImportError:
        return figures
    array = numpy.ones(1 << 20)
    for count in (4, ARRAYS):
        figures[BIG] = rate(count, lambda count=count: many(shifted, itertools.repeat(array, count)))
    return figures


def messages(name: str) -> dict[str, float]:
    """Measure messages through a queue, from one process to another."""
    if name == "faster_fifo":
        import multiprocessing as library

        import faster_fifo

        queue = faster_fifo.Queue(max_size_bytes=64 << 20)
    else:
        library = importlib.import_module(name)
        queue = library.Queue()
    process = library.Process(target=produce, args=(queue, MESSAGES + 1))
    process.start()
    queue.get()
    figures = {QUEUE: rate(MESSAGES, lambda: (queue.get() for _ in range(MESSAGES)))}
    process.join()
    if not hasattr(queue, "get_many"):
        return figures
    # The two libraries name the maximum differently.
    name_of_max = "max_messages_to_get" if name == "faster_fifo" else "max"
    process = library.Process(target=produce_many, args=(queue, MESSAGES + RUN))
    process.start()
    left = MESSAGES + RUN - len(queue.get_many(**{name_of_max: RUN}))
    runs = iter(lambda: len(queue.get_many(**{name_of_max: RUN})), None)
    figures[QUEUE_MANY] = rate(left, lambda: itertools.takewhile(left.__gt__, itertools.accumulate(runs)))
    process.join()
    return figures


def measure(name: str) -> dict[str, float]:
    figures = messages(name) if name in QUEUES else {}
    if name in POOLS:
        with pool_of(importlib.import_module(name)) as calls:
            figures.update(tasks(*calls))
    elif name in OTHERS:
        with OTHERS[name]() as calls:
            figures.update(tasks(*calls))
    return figures


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    wanted = sys.argv[2:] or PEERS
    there = [name for name in wanted if importlib.util.find_spec(name)]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in there}
    for number in range(rounds):
        for name in there if number % 2 == 0 else there[::-1]:
            command = [sys.executable, __file__, "--measure", name]
            try:
                run = subprocess.run(
                    command, capture_output=True, text=True, timeout=LIMIT, check=True
                )
            except subprocess.TimeoutExpired:
                print(f"{name}: no result in {LIMIT} s", file=sys.stderr)
            except subprocess.CalledProcessError as error:
                print(f"{name}: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            else:
                figures[name].append(json.loads(run.stdout.splitlines()[-1]))
    print(f"{'':20}" + "".join(f"{title:>30}" for title in UNITS))
    for name, runs in figures.items():
        cells = []
        for title, unit in UNITS.items():
            values = [run[title] for run in runs if title in run]
            cells.append(f"{statistics.median(values):,.1f} {unit}" if values else "-")
        print(f"{name:20}" + "".join(f"{cell:>30}" for cell in cells))
    missing = [name for name in wanted if name not in there]
    if missing:
        print(f"not installed here: {', '.join(missing)}")


if __name__ == "__main__":
    main()
