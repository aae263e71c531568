"""Make one measurement of one library in its own interpreter: ``workloads.py LIBRARY NAME``.

The library, ``multiprocessing`` or ``procession``, is a name on the command line; all other text is
the same. Prints the measured figure as JSON. ``compare.py`` runs this for both libraries in turn.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import sys
import time

MEGABYTE = 1 << 20
clock = time.perf_counter


def produce(queue, count):
    for number in range(count):
        queue.put((number, "task", 0.5))


def small_tuples(library, count=100_000):
    """Return messages per second through a queue, from one process to another."""
    queue = library.Queue()
    process = library.Process(target=produce, args=(queue, count + 1))
    process.start()
    queue.get()
    begin = clock()
    for _ in range(count):
        queue.get()
    seconds = clock() - begin
    process.join()
    return count / seconds


def echo(requests, replies):
    for request in iter(requests.get, None):
        replies.put(request)


def round_trip(library, count=3_000):
    """Return microseconds from a put into one queue to the get of the echo from another."""
    requests, replies = library.Queue(), library.Queue()
    process = library.Process(target=echo, args=(requests, replies))
    process.start()
    for warm in (True, False):
        begin = clock()
        for number in range(300 if warm else count):
            requests.put(number)
            replies.get()
        seconds = clock() - begin
    requests.put(None)
    process.join()
    return seconds / count * 1e6


def one_core(library):
    """Measure the same with both processes on one core (which ``main`` has arranged)."""
    return round_trip(library, 2_000)


def payload():
    """Return 64 MB: a numpy array, or bytes where numpy is not installed."""
    try:
        import numpy
    except ImportError:
        return bytes(64 * MEGABYTE)
    return numpy.ones(8 * MEGABYTE)


def produce_arrays(queue, count):
    array = payload()
    for _ in range(count):
        queue.put(array)


def arrays(library, count=8):
    """Return gigabytes per second through a queue that holds at most two arrays of 64 MB."""
    queue = library.Queue(2)
    process = library.Process(target=produce_arrays, args=(queue, count + 2))
    process.start()
    for _ in range(2):
        item = queue.get()
    begin = clock()
    for _ in range(count):
        item = queue.get()
        assert len(item) and item[0] == item[-1]
    seconds = clock() - begin
    process.join()
    return count * 64 * MEGABYTE / seconds / 1e9


def with_lock(library, count=300_000):
    """Return nanoseconds of ``with lock: pass``."""
    lock = library.Lock()
    begin = clock()
    for _ in range(count):
        with lock:
            pass
    return (clock() - begin) / count * 1e9


def acquire_release(library, count=300_000):
    """Return nanoseconds of ``lock.acquire(); lock.release()``."""
    lock = library.Lock()
    acquire, release = lock.acquire, lock.release
    begin = clock()
    for _ in range(count):
        acquire()
        release()
    return (clock() - begin) / count * 1e9


def nothing():
    pass


def start_join(library, method, count=15):
    """Return milliseconds of ``Process(...).start()`` and ``join()``, the first run excluded."""
    context = library.get_context(method)
    times = []
    for _ in range(count + 1):
        process = context.Process(target=nothing)
        begin = clock()
        process.start()
        process.join()
        times.append(clock() - begin)
        assert process.exitcode == 0
    return statistics.median(times[1:]) * 1e3


def fork(library):
    return start_join(library, "fork")


def spawn(library):
    return start_join(library, "spawn", 7)


def forkserver(library):
    return start_join(library, "forkserver")


def pool(library, count=7):
    """Return milliseconds from ``Pool(2)`` to its first result."""
    times = []
    for _ in range(count + 1):
        begin = clock()
        with library.Pool(2) as workers:
            assert workers.apply(abs, (-1,)) == 1
            times.append(clock() - begin)
    return statistics.median(times[1:]) * 1e3


def shared_pages(before):
    """Return the bytes of the memory files that this process has open, resident in it or not."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:"):
                total += os.stat(f"/proc/self/fd/{name}").st_blocks * 512
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return max(total, resident("RssShmem") + resident("RssFile") - before)


def resident(which):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(which))


def many(library):
    """Return what 1,000 queues and 10,000 locks need.

    These are descriptors, and megabytes of private and shared memory.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    first = [library.Queue(), library.Lock()]
    files = resident("RssShmem") + resident("RssFile")
    descriptors, private, shared = len(os.listdir("/proc/self/fd")), resident("RssAnon"), shared_pages(files)
    made = [library.Queue() for _ in range(1_000)], [library.Lock() for _ in range(10_000)]
    taken = resident("RssAnon") - private + shared_pages(files) - shared
    assert len(made[0]) + len(made[1]) + len(first) == 11_002
    return [len(os.listdir("/proc/self/fd")) - descriptors, taken / MEGABYTE]


WORKLOADS = {
    workload.__name__: workload
    for workload in (
        small_tuples,
        round_trip,
        one_core,
        arrays,
        with_lock,
        acquire_release,
        fork,
        spawn,
        forkserver,
        pool,
        many,
    )
}


def main():
    name, workload = sys.argv[1:3]
    if workload == "one_core":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    library = importlib.import_module(name)
    print(json.dumps(WORKLOADS[workload](library)))


if __name__ == "__main__":
    main()
