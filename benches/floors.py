"""Measure what some rows of the comparison stand on: the kernel and the interpreter, without a library.

Prints the median of each; docs/performance.md names the rows. The processes are forked by `os.fork`.
"""

from __future__ import annotations

import array
import os
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable

clock = time.perf_counter


def forked(work: Callable[[], object]) -> int:
    """Fork a process that does the work and exits; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def each(work: Callable[[], object], count: int = 200) -> float:
    """Return the median of the seconds that one call takes."""
    times = []
    for _ in range(count):
        begin = clock()
        work()
        times.append(clock() - begin)
    return statistics.median(times)


def per_turn(work: Callable[[int], object], count: int) -> float:
    """Return the seconds that one of so many turns takes."""
    work(count // 10)
    begin = clock()
    work(count)
    return (clock() - begin) / count


def wake(count: int = 300) -> float:
    """From the write of a byte to a kernel's pipe to the return of the sleeping reader."""
    sleeper, waker = os.pipe()
    answers, answer = os.pipe()

    def sleep() -> None:
        for _ in range(count):
            os.read(sleeper, 1)
            os.write(answer, struct.pack("d", clock()))

    pid = forked(sleep)
    taken = []
    for _ in range(count):
        time.sleep(0.003)
        begin = clock()
        os.write(waker, b"x")
        taken.append(struct.unpack("d", os.read(answers, 8))[0] - begin)
    os.waitpid(pid, 0)
    return statistics.median(taken)


def round_trip_on_one_core(count: int = 5_000) -> float:
    """From a write to a socket to the read of its echo, both processes on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    mine, theirs = (end.detach() for end in socket.socketpair())

    def answer() -> None:
        os.close(mine)
        while message := os.read(theirs, 16):
            os.write(theirs, message)

    pid = forked(answer)
    os.close(theirs)

    def trips(number: int) -> None:
        for _ in range(number):
            os.write(mine, b"message")
            os.read(mine, 16)

    try:
        return per_turn(trips, count)
    finally:
        os.close(mine)
        os.waitpid(pid, 0)
        os.sched_setaffinity(0, cores)


def fork_and_wait() -> float:
    """`os.fork`, `os._exit` in the child at once, and `os.waitpid`."""
    return each(lambda: os.waitpid(forked(int), 0))


def interpreter() -> float:
    """The start and the end of an interpreter without a program."""
    command = [sys.executable, "-c", "pass"]
    return each(lambda: os.waitpid(os.posix_spawn(command[0], command, os.environ), 0), 15)


def hold(count: int = 300_000) -> float:
    """`with`, an `RLock` of `threading`, an item of a list to get it, and an item of an array to add to."""
    locks, numbers = [threading.RLock()], array.array("i", [5])

    def turns(number: int) -> None:
        for _ in range(number):
            with locks.__getitem__(0):
                numbers[0] += 1

    return per_turn(turns, count)


def thousand_integers(count: int = 5_000) -> float:
    """`array.array.tolist` of 1,000 integers."""
    numbers = array.array("i", range(1000))

    def turns(number: int) -> None:
        for _ in range(number):
            numbers.tolist()

    return per_turn(turns, count)


FLOORS: list[tuple[str, float, str, Callable[[], float]]] = [
    ("wake-up of a reader of a pipe", 1e6, "us", wake),
    ("round trip over a socket on one core", 1e6, "us", round_trip_on_one_core),
    ("fork, exit at once, wait", 1e3, "ms", fork_and_wait),
    ("interpreter without a program", 1e3, "ms", interpreter),
    ("with RLock of threading: array item += 1", 1e9, "ns", hold),
    ("array.array.tolist of 1,000", 1e9, "ns", thousand_integers),
]


def main() -> None:
    for title, scale, unit, measure in FLOORS:
        print(f"{title:44} {measure() * scale:9,.1f} {unit}", flush=True)


if __name__ == "__main__":
    main()
