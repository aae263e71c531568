"""Compare managers with the standard library's.

Measures calls per second of one client and of several, over a network socket, and the creation of
objects. ``managers.py`` prints medians and ratios; ``managers.py LIBRARY NAME`` makes one
measurement in its own interpreter.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys
import threading
import time

import compare

clock = time.perf_counter


def call(shared, count):
    for _ in range(count):
        shared[0]


def rate(work, count):
    """Return the rate per second. A tenth of the work runs first, unmeasured."""
    work(count // 10)
    begin = clock()
    work(count)
    return count / (clock() - begin)


def calls(library, count=20_000):
    """Return calls per second of one client."""
    with library.Manager() as manager:
        shared = manager.list([1])
        return rate(lambda number: call(shared, number), count)


def clients(library, count=5_000, number=4):
    """Return calls per second of several processes together."""
    with library.Manager() as manager:
        shared = manager.list([1])
        ready = manager.Barrier(number + 1)
        processes = [
            library.Process(target=call_when_ready, args=(shared, ready, count))
            for _ in range(number)
        ]
        for process in processes:
            process.start()
        ready.wait()
        begin = clock()
        for process in processes:
            process.join()
        return number * count / (clock() - begin)


def call_when_ready(shared, ready, count):
    call(shared, 10)
    ready.wait()
    call(shared, count)


def threads(library, count=5_000, number=4):
    """Return calls per second of several threads of one process together."""
    with library.Manager() as manager:
        shared = manager.list([1])
        workers = [threading.Thread(target=call, args=(shared, count)) for _ in range(number)]
        begin = clock()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return number * count / (clock() - begin)


def over_tcp(library, count=10_000):
    """Return calls per second of one client that connects as another program would."""
    managers = importlib.import_module(f"{library.__name__}.managers")
    if library.__name__ == "procession":
        importlib.import_module("procession._managers.link").family_of_offer = lambda answer: (
            b"another"
        )
    with managers.SyncManager(("127.0.0.1", 0), b"key") as manager:
        shared = manager.list([1])
        return rate(lambda number: call(shared, number), count)


def one_core(library):
    """Measure like `calls`, with client and server on one core."""
    import os

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return calls(library)


def megabytes(library, count=300):
    """Return megabytes per second, sent to the server and back."""
    with library.Manager() as manager:
        shared = manager.list([b"x" * (1 << 20)])

        def there_and_back(number):
            for _ in range(number):
                shared[0] = shared[0]

        return 2 * rate(there_and_back, count)


def objects(library, count=1_000):
    """Return objects per second, created and dropped."""
    with library.Manager() as manager:

        def make(number):
            for _ in range(number):
                manager.list()

        return rate(make, count)


ROWS = [
    compare.Row("calls", "calls, one client", "/s", 3, higher_is_better=True),
    compare.Row("one_core", "the same, on one core", "/s", 1, higher_is_better=True),
    compare.Row("clients", "calls, four clients", "/s", 1, higher_is_better=True),
    compare.Row("threads", "calls, four threads of a client", "/s", 1, higher_is_better=True),
    compare.Row("over_tcp", "calls, over TCP", "/s", 1, higher_is_better=True),
    compare.Row("megabytes", "1 MB there and back", "MB/s", 1, higher_is_better=True),
    compare.Row("objects", "objects made and dropped", "/s", 3, higher_is_better=True),
]
WORKLOADS = {
    work.__name__: work
    for work in (calls, one_core, clients, threads, over_tcp, megabytes, objects)
}


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[2] in WORKLOADS:
        print(json.dumps(WORKLOADS[sys.argv[2]](importlib.import_module(sys.argv[1]))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each library")
    parser.add_argument("--only", action="append", choices=[*WORKLOADS], help="this row")
    options = parser.parse_args()
    compare.WORKLOADS = pathlib.Path(__file__).resolve()
    report = compare.Report(lambda text: print(text, flush=True))
    report.say(f"{'':34} {'std library':>14} {'procession':>14} {'ratio':>8}   {'to reach':9}")
    for row in ROWS:
        if row.workload in (options.only or WORKLOADS):
            report.attempt(lambda row=row: report.compare(row, options.rounds), row.title)
    for failure in report.failures:
        print(failure, file=sys.stderr)
    return int(bool(report.failures))


if __name__ == "__main__":
    sys.exit(main())
