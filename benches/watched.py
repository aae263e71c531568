"""Measure what it costs a program to be watched: the same work with and without `procession top` looking at it.

The two take turns, so that whatever else the machine does falls on both; the least time of each counts. `top` looks
once a second, as it does by default.

    python benches/watched.py
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator

import procession

#: Of each kind; times vary, and the least one is the cost.
RUNS = 9
#: Long enough for `top` to look at least twice.
SECONDS = 2.5


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Have `top` watch this process's family, in a terminal of its own."""
    fd, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "procession", "top", str(os.getpid())]
    top = subprocess.Popen(command, stdin=end, stdout=end, stderr=end)
    os.close(end)
    os.read(fd, 1)  # it has taken its first look

    def drain() -> None:
        with contextlib.suppress(OSError):
            while os.read(fd, 65536):
                pass

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield
    finally:
        top.kill()
        top.wait()
        reader.join()
        os.close(fd)


def echo(requests, answers) -> None:
    while (item := requests.get()) is not None:
        answers.put(item)


def same(number: int) -> int:
    return number


def nothing() -> None:
    pass


class Work:
    """What is measured: each method does a part of the work, and returns how many operations it was."""

    def __init__(self) -> None:
        self.lock = procession.Lock()
        self.requests, self.answers = procession.Queue(), procession.Queue()
        self.echo = procession.Process(target=echo, args=(self.requests, self.answers))
        self.echo.start()
        self.pool = procession.Pool(2)
        self.pool.map(same, range(100))

    def locks(self) -> int:
        for _ in range(10_000):
            self.lock.acquire()
            self.lock.release()
        return 10_000

    def queues(self) -> int:
        for number in range(100):
            self.requests.put(number)
        for _ in range(100):
            self.answers.get()
        return 100

    def tasks(self) -> int:
        self.pool.map(same, range(200), chunksize=1)
        return 200

    def starts(self) -> int:
        process = procession.Process(target=nothing)
        process.start()
        process.join()
        return 1

    def end(self) -> None:
        self.requests.put(None)
        self.echo.join()
        self.pool.terminate()
        self.pool.join()


def microseconds(part: Callable[[], int]) -> float:
    """Return the mean time of an operation over a few seconds."""
    begin, operations = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < SECONDS:
        operations += part()
    return passed / operations * 1e6


def main() -> None:
    work = Work()
    print(f"{'':8} {'unwatched':>12} {'watched':>12}")
    for part in (work.locks, work.queues, work.tasks, work.starts):
        alone, seen = [], []
        for _ in range(RUNS):
            alone.append(microseconds(part))
            with watched():
                seen.append(microseconds(part))
        least, most = min(alone), min(seen)
        print(
            f"{part.__name__:8} {least:9.2f} us {most:9.2f} us  {(most / least - 1) * 100:+.1f} %",
            flush=True,
        )
    work.end()


if __name__ == "__main__":
    main()
