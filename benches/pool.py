"""Compare the pool with the standard library's: `python benches/pool.py [rounds] [start method]`.

Rounds alternate between the two libraries, each in a fresh interpreter. Prints medians, how many
times better procession is, and the minimum of that factor (or the maximum of procession's own
figure). If ray is installed, its object store is measured on the arrays, too.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

WORKERS = 2
LIBRARIES = ("multiprocessing", "procession")
ARRAYS = "8 MB arrays, there and back"
BETWEEN = "apply between cores"


def trivial(x):
    return x


def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def rate(count, work):
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


def calls(pool, count=10_000):
    """Measure calls per second, all submitted before the first result is fetched.

    Also measure the processor time that a call costs this process, which other programs hardly
    change.
    """
    rates, costs = [], []
    for _ in range(3):
        begin = time.process_time()
        rates.append(
            rate(
                count,
                lambda: [r.get() for r in [pool.apply_async(trivial, (x,)) for x in range(count)]],
            )
        )
        costs.append((time.process_time() - begin) / count * 1e6)
    return {
        "apply_async each, then get": statistics.median(rates),
        "  processor time of the caller": statistics.median(costs),
    }


def round_trips(pool, name, count=4_000):
    """Measure single tasks from the call to the result, in microseconds."""
    trips = []
    for _ in range(count):
        begin = time.perf_counter()
        pool.apply(trivial, (1,))
        trips.append(time.perf_counter() - begin)
    trips.sort()
    median, p99 = (trips[count * part // 100] * 1e6 for part in (50, 99))
    return {f"{name}, median": median, f"{name}, p99": p99, f"{name}, p99 of median": p99 / median}


def between_cores(context):
    """Measure round trips with all workers on another core than the caller.

    Return nothing on a machine with one core.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        return {}
    mine, theirs, *_ = sorted(cores)
    with context.Pool(WORKERS, os.sched_setaffinity, (0, {theirs})) as pool:
        os.sched_setaffinity(0, {mine})
        try:
            round_trips(pool, "", 1_000)
            return round_trips(pool, BETWEEN)
        finally:
            os.sched_setaffinity(0, cores)


def skewed(pool, order):
    """Return the makespan relative to the ideal one: 8 of 64 tasks take 20 times as long."""
    unit = 0.002
    times = sorted([unit * 20] * 8 + [unit] * 56, reverse=order == "down")
    begin = time.perf_counter()
    pool.map(busy, times)
    return (time.perf_counter() - begin) / (
        math.fsum(times) / min(WORKERS, len(os.sched_getaffinity(0)))
    )


def shifted(array):
    return array + 1


def arrays(pool, count=24):
    """Return arrays of 8 MB per second, sent to a worker and back."""
    import numpy

    array = numpy.ones(1 << 20)
    return rate(count, lambda: [None for _ in pool.imap(shifted, (array for _ in range(count)))])


def arrays_by_ray(count=24):
    """Measure the same with ray's tasks, through its object store."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import numpy
    import ray

    array = numpy.ones(1 << 20)
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        remote = ray.remote(shifted)

        def work(count):
            for reference in [remote.remote(array) for _ in range(count)]:
                ray.get(reference)

        work(4)
        result = rate(count, lambda: work(count))
        ray.shutdown()
    return {ARRAYS: result}


def measure(library, method):
    if library == "ray":
        return arrays_by_ray()
    module = __import__(library)
    context = module.get_context(method)
    first = []
    for _ in range(4):
        begin = time.perf_counter()
        with context.Pool(WORKERS) as pool:
            pool.apply(trivial, (1,))
            first.append(time.perf_counter() - begin)
    with context.Pool(WORKERS) as pool:
        pool.map(trivial, range(1000), 1)
        results = {
            "map, chunksize 1": rate(40_000, lambda: pool.map(trivial, range(40_000), 1)),
            "imap": rate(20_000, lambda: list(pool.imap(trivial, range(20_000)))),
            "imap_unordered": rate(
                20_000, lambda: list(pool.imap_unordered(trivial, range(20_000)))
            ),
            **calls(pool),
            "map, default, 1,000,000": rate(1_000_000, lambda: pool.map(trivial, range(1_000_000))),
            "map, default, 1,000": rate(
                20_000, lambda: [pool.map(trivial, range(1_000)) for _ in range(20)]
            ),
        }
        try:
            arrays(pool, 4)
            results[ARRAYS] = arrays(pool)
        except ImportError:
            pass
        results.update(round_trips(pool, "apply"))
        results["skewed up, of ideal"] = skewed(pool, "up")
        results["skewed down, of ideal"] = skewed(pool, "down")
    results.update(between_cores(context))
    results["Pool(2) to its first result"] = statistics.median(first[1:]) * 1e3
    return results


#: The targets: (at least this many times better, at most this figure).
TARGETS = {
    "map, chunksize 1": (6, None),
    "imap": (6, None),
    "imap_unordered": (6, None),
    "apply_async each, then get": (6, None),
    "map, default, 1,000,000": (1, None),
    "map, default, 1,000": (1, None),
    ARRAYS: (5, None),
    f"{BETWEEN}, median": (10, None),
    f"{BETWEEN}, p99 of median": (None, 5),
    "skewed up, of ideal": (None, 1.08),
    "skewed down, of ideal": (None, 1.08),
}
UNITS = {
    "  processor time of the caller": "us",
    "apply, median": "us",
    "apply, p99": "us",
    f"{BETWEEN}, median": "us",
    f"{BETWEEN}, p99": "us",
    "Pool(2) to its first result": "ms",
}


def main():
    if len(sys.argv) > 3:
        print(json.dumps(measure(*sys.argv[2:4])))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    method = sys.argv[2] if len(sys.argv) > 2 else "fork"
    ray = all(map(importlib.util.find_spec, ("ray", "numpy")))
    measured = (*LIBRARIES, "ray") if ray else LIBRARIES
    figures = {library: [] for library in measured}
    for number in range(rounds):
        for library in measured if number % 2 == 0 else measured[::-1]:
            command = [sys.executable, __file__, "1", library, method]
            run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
            figures[library].append(json.loads(run.stdout.splitlines()[-1]))
    print(
        f"{'pool, ' + method:32} {LIBRARIES[0]:>16} {LIBRARIES[1]:>14} {'ratio':>8} {'target':>8}"
    )
    for name in figures[LIBRARIES[0]][0]:
        theirs, ours = (
            statistics.median(one[name] for one in figures[library]) for library in LIBRARIES
        )
        unit = UNITS.get(name, "" if " of " in name else "/s")
        ratio = ours / theirs if unit == "/s" else theirs / ours
        times, at_most = TARGETS.get(name, (None, None))
        target = f"{times}x" if times else f"<= {at_most}" if at_most else ""
        print(
            f"{name:32} {theirs:13,.2f} {unit:2} {ours:11,.2f} {unit:2} {ratio:7.2f}x {target:>8}"
        )
        if name == ARRAYS and ray:
            theirs = statistics.median(one[name] for one in figures["ray"])
            print(
                f"{'  against ray instead':32} {theirs:13,.2f} {unit:2} {ours:11,.2f} {unit:2} {ours / theirs:7.2f}x {'> 1x':>8}"
            )
    if not ray:
        print("ray is not installed here: its object store was not measured")


if __name__ == "__main__":
    main()
