"""Compare calls of an actor with those of a manager's proxy, of the standard library and of this package.

Prints microseconds per call: the median, and the fastest round. The rounds of all take turns. `--ahead` asks the kernel
to run these processes before all others, for machines that do other work meanwhile (needs root).
"""

from __future__ import annotations

import multiprocessing.managers
import os
import statistics
import sys
import time

import procession
from procession import actor, managers

CALLS, ROUNDS = 100, 21


class Counter:
    def __init__(self):
        self.number = 0

    def add(self, by):
        self.number += by
        return self.number

    def echo(self, thing):
        return thing


class Theirs(multiprocessing.managers.BaseManager):
    pass


class Ours(managers.BaseManager):
    pass


for _manager in (Theirs, Ours):
    _manager.register("Counter", Counter)


def futures(counter):
    for future in [actor.submit(counter.add, 1) for _ in range(CALLS)]:
        future.result()


def calls(counter):
    for _ in range(CALLS):
        counter.add(1)


def lists(counter):
    for _ in range(CALLS):
        counter.echo([1, 2, 3])


def main() -> None:
    if "--ahead" in sys.argv:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with Theirs() as theirs, Ours() as ours, actor(Counter) as counter:
        rows = {
            "manager, standard library": (calls, theirs.Counter()),
            "manager": (calls, ours.Counter()),
            "actor": (calls, counter),
            "actor, futures": (futures, counter),
            "manager, standard library, lists": (lists, theirs.Counter()),
            "actor, lists": (lists, counter),
        }
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        for work, target in rows.values():
            work(target)
        for _ in range(ROUNDS):
            for name, (work, target) in rows.items():
                begin = time.perf_counter()
                work(target)
                seconds[name].append((time.perf_counter() - begin) / CALLS)
        for name, of_rounds in seconds.items():
            median, fastest = statistics.median(of_rounds) * 1e6, min(of_rounds) * 1e6
            print(f"{name:34} {median:8.1f} {fastest:8.1f}")


if __name__ == "__main__":
    procession.set_start_method("fork")
    main()
