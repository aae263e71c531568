"""Compare `ProcessPoolExecutor` with that of `concurrent.futures`.

Prints microseconds per trivial task, first of `concurrent.futures`, and the ratio. Each executor
has two workers, and both run in one process.
"""

from __future__ import annotations

import concurrent.futures
import operator
import statistics
import time

import procession

TASKS = 10_000
ROUNDS = 3


def submit(executor):
    futures = [executor.submit(operator.neg, x) for x in range(TASKS)]
    assert sum(future.result() for future in futures) == -sum(range(TASKS))


def as_completed(executor):
    futures = [executor.submit(operator.neg, x) for x in range(TASKS)]
    assert sum(future.result() for future in concurrent.futures.as_completed(futures)) < 0


def one_by_one(executor):
    for x in range(TASKS // 10):
        assert executor.submit(operator.neg, x).result() == -x


def map_each(executor):
    assert sum(executor.map(operator.neg, range(TASKS))) < 0


def map_chunks(executor):
    assert sum(executor.map(operator.neg, range(TASKS), chunksize=50)) < 0


def main() -> None:
    kinds = (concurrent.futures.ProcessPoolExecutor, procession.ProcessPoolExecutor)
    for work, number in (
        (submit, TASKS),
        (as_completed, TASKS),
        (one_by_one, TASKS // 10),
        (map_each, TASKS),
        (map_chunks, TASKS),
    ):
        medians = []
        for kind in kinds:
            with kind(2) as executor:
                work(executor)
                seconds = []
                for _ in range(ROUNDS):
                    begin = time.perf_counter()
                    work(executor)
                    seconds.append(time.perf_counter() - begin)
            medians.append(statistics.median(seconds) / number * 1e6)
        theirs, ours = medians
        print(f"{work.__name__:14}{theirs:10.2f}{ours:10.2f}  {theirs / ours:6.1f}x")


if __name__ == "__main__":
    main()
