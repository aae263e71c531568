"""Compare procession with other libraries: ``python benches/peers.py [rounds] [peer ...]``.

A round runs each library in its own interpreter, one after the other. Prints medians. All have two
workers and get one task at a time, as with ``chunksize=1``: this compares the cost of a task, not
how many tasks a library combines. A dash means that a library cannot do a measurement. Peers that
are not installed are listed at the end. Dictionaries that processes share are measured with a
thousand keys, in one process and in two at once, which look up or assign random keys.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
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
KEYS = 1000
LIMIT = 300
UNITS = {
    "map, one task each": "/s",
    "one task, there and back": "us",
    "8 MB arrays, there and back": "/s",
    "queue, small tuples": "/s",
    "queue, a hundred at a time": "/s",
}
MAP, TRIP, BIG, QUEUE, QUEUE_MANY = UNITS
DICT_UNITS = {
    "look-ups": "/s",
    "look-ups, two processes": "/s",
    "assignments": "/s",
    "assignments, two processes": "/s",
}

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
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        remote = {f: ray.remote(f) for f in (trivial, shifted)}
        try:
            yield (
                lambda f, items: ray.get([remote[f].remote(x) for x in items]),
                lambda f, x: ray.get(remote[f].remote(x)),
            )
        finally:
            ray.shutdown()


@contextmanager
def manager_dict() -> Iterator[Any]:
    import multiprocessing

    with multiprocessing.Manager() as manager:
        yield manager.dict()


@contextmanager
def shared_dict() -> Iterator[Any]:
    import procession

    yield procession.SharedDict()


@contextmanager
def ultra_dict() -> Iterator[Any]:
    import UltraDict

    shared = UltraDict.UltraDict(buffer_size=1 << 20, auto_unlink=True)
    yield shared
    shared.unlink()


@contextmanager
def shared_memory_dict() -> Iterator[Any]:
    import shared_memory_dict

    shared = shared_memory_dict.SharedMemoryDict(name=f"peers{os.getpid()}", size=1 << 20)
    yield shared
    shared.shm.close()
    shared.shm.unlink()


@contextmanager
def disk_cache() -> Iterator[Any]:
    import tempfile

    import diskcache

    with tempfile.TemporaryDirectory() as folder, diskcache.Cache(folder) as cache:
        yield cache


def look_up(shared: Any, keys: list[str]) -> None:
    for key in keys:
        shared[key]


def assign(shared: Any, keys: list[str]) -> None:
    for key in keys:
        shared[key] = 1


def together(work: Callable[[Any, list[str]], None], shared: Any, keys: list[str]) -> float:
    """Return the calls per second of two processes."""
    import multiprocessing

    # None of the dictionaries needs processes of its own library.
    context = multiprocessing.get_context("fork")
    begun = context.Barrier(3)

    def begin() -> None:
        work(shared, keys[:10])
        begun.wait()
        work(shared, keys)

    processes = [context.Process(target=begin) for _ in range(2)]
    for process in processes:
        process.start()
    begun.wait()
    begin_time = time.perf_counter()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise ChildProcessError("a process of the measurement failed")
    return 2 * len(keys) / (time.perf_counter() - begin_time)


def dictionary(shared: Any) -> dict[str, float]:
    """Measure a dictionary that processes share."""
    names = [f"key{number}" for number in range(KEYS)]
    for name in names:
        shared[name] = 0
    choose, figures = random.Random(1).choice, {}
    for title, work in (("look-ups", look_up), ("assignments", assign)):
        count, seconds = 10, 0.0
        while seconds < 0.3:
            keys = [choose(names) for _ in range(count)]
            begin = time.perf_counter()
            work(shared, keys)
            seconds = time.perf_counter() - begin
            figures[title] = count / seconds
            count *= 2
        figures[f"{title}, two processes"] = together(work, shared, keys)
    return figures


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
DICTIONARIES: dict[str, Callable[[], Any]] = {
    "multiprocessing": manager_dict,
    "procession": shared_dict,
    "UltraDict": ultra_dict,
    "shared_memory_dict": shared_memory_dict,
    "diskcache": disk_cache,
}
PEERS = (*POOLS, *OTHERS, "faster_fifo", *list(DICTIONARIES)[2:])


def rate(count: int, work: Callable[[], Iterable[Any]]) -> float:
    begin = time.perf_counter()
    deque(work(), 0)
    return count / (time.perf_counter() - begin)


def tasks(many: Many, one: One) -> dict[str, float]:
    deque(many(trivial, range(100)), 0)
    figures = {MAP: rate(TASKS, lambda: many(trivial, range(TASKS)))}
    for count in (TRIPS // 10, TRIPS):
        figures[TRIP] = 1e6 / rate(
            count, lambda count=count: (one(trivial, x) for x in range(count))
        )
    try:
        import numpy
    except ImportError:
        return figures
    array = numpy.ones(1 << 20)
    for count in (4, ARRAYS):
        figures[BIG] = rate(
            count, lambda count=count: many(shifted, itertools.repeat(array, count))
        )
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
    figures[QUEUE_MANY] = rate(
        left, lambda: itertools.takewhile(left.__gt__, itertools.accumulate(runs))
    )
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
    if name in DICTIONARIES:
        with DICTIONARIES[name]() as shared:
            figures.update(dictionary(shared))
    return figures


def show(units: dict[str, str], figures: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians of those libraries that can do one of these measurements."""
    print(f"{'':20}" + "".join(f"{title:>30}" for title in units))
    for name, runs in figures.items():
        cells = []
        for title, unit in units.items():
            values = [run[title] for run in runs if title in run]
            cells.append(f"{statistics.median(values):,.1f} {unit}" if values else "-")
        if any(cell != "-" for cell in cells):
            print(f"{name:20}" + "".join(f"{cell:>30}" for cell in cells))


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
    show(UNITS, figures)
    print("\ndictionaries")
    show(DICT_UNITS, figures)
    missing = [name for name in wanted if name not in there]
    if missing:
        print(f"not installed here: {', '.join(missing)}")


if __name__ == "__main__":
    main()
