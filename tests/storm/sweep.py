"""Ctrl-C at every line of every scene of `interrupts`.

`python -m tests.storm.sweep [--methods fork] [--share 1/4] [SCENE...]`

A line that is executed often is interrupted at its first and its last execution. `--random 1000`
instead sends SIGINT at that many random moments, to the program alone or to all its processes. The
programs are forked from this one, which saves the start of an interpreter, and some run side by
side.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any

from . import interrupts
from .patience import descriptions, session, session_limit

METHODS = ("fork", "spawn", "forkserver")
TIMEOUT = 60


class Program:
    """A forked program, and when it gets SIGINT from outside, if it does."""

    def __init__(self, pid: int, files: list[IO[str]], name: tuple[str, str, str]):
        self.pid, self.files, self.name = pid, files, name
        self.begun = self.interrupted = time.monotonic()
        self.patience = session_limit(pid, TIMEOUT)
        self.returncode: int | None = None
        self.due: float | None = None
        self.send: Any = None

    def is_over(self) -> bool:
        """Return whether it and all that it started have ended."""
        now = time.monotonic()
        if self.due is not None and now >= self.due:
            # The group exists only once the program leads it.
            with contextlib.suppress(ProcessLookupError):
                self.send(self.pid, signal.SIGINT)
                self.interrupted, self.due = now, None
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode is not None and not session(self.pid)

    def verdict(self) -> float:
        """Return how many seconds it took to end.

        Raises AssertionError if it ended wrongly or not at all.
        """
        now = time.monotonic()
        out, err = map(read, self.files)
        left = descriptions(session(self.pid))
        if left:
            os.killpg(self.pid, signal.SIGKILL)
            if self.returncode is None:
                os.waitpid(self.pid, 0)
        assert not left, f"it hangs, or leaves behind: {left}\n{err}"
        assert self.returncode is not None
        interrupts.judge(self.returncode, err)
        since = interrupts.time_of_interrupt(out) or (self.interrupted if self.send else None)
        return 0 if since is None else now - since


def read(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


def points(scenes: list[str], methods: list[str], step: int) -> Iterator[tuple[str, str, str]]:
    """Yield the lines to try."""
    for scene in scenes:
        for method in methods:
            times: dict[str, list[str]] = collections.defaultdict(list)
            for point in interrupts.points_of(scene, method):
                times[point.rpartition(":")[0]].append(point)
            tried = sorted({point for all in times.values() for point in (all[0], all[-1])})
            yield from ((scene, method, point) for point in tried[::step])


def begin(name: tuple[str, str, str], chance: random.Random) -> Program | None:
    """Fork a program and return it; None in the program itself, which runs next."""
    files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115 - `read` closes it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        program = Program(pid, files, name)
        if name[2] == "none":
            program.due = program.begun + chance.uniform(0, 0.5)
            program.send = chance.choice((os.kill, os.killpg))
        return program
    os.setsid()
    os.dup2(files[0].fileno(), 1)
    os.dup2(files[1].fileno(), 2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return None


def sweep(options: argparse.Namespace) -> tuple[str, str, str] | None:
    """Try all programs.

    Return the arguments of the program that this process became, None at the end.
    """
    part, parts = map(int, options.share.split("/"))
    chance = random.Random(options.seed)
    if options.random:
        kinds = [(scene, method, "none") for scene in options.scenes for method in options.methods]
        todo = [kinds[number % len(kinds)] for number in range(options.random)]
    else:
        todo = list(points(options.scenes, options.methods, options.step))[part - 1 :: parts]
    seconds: list[float] = []
    running: list[Program] = []
    done = failed = 0
    while todo or running:
        while todo and len(running) < options.jobs:
            program = begin(name := todo.pop(), chance)
            if program is None:
                return name
            running.append(program)
        time.sleep(0.005)
        for program in list(running):
            if not program.is_over() and not program.patience.is_over():
                continue
            running.remove(program)
            done += 1
            name = " ".join(program.name)
            if program.send:
                name += f" {program.send.__name__} after {program.interrupted - program.begun:.3f}"
            try:
                seconds.append(program.verdict())
                if seconds[-1] > 2:
                    wait = program.patience.waited
                    print(f"SLOW {seconds[-1]:.2f} (waited {wait:.1f} to run) {name}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAILED {name}: {error}\n---", flush=True)
            if done % 200 == 0:
                print(f"{done} done, {len(todo)} to do, {failed} failed", flush=True)
    print(f"{done} programs, {failed} failed, {interrupts.slow(seconds)}", flush=True)
    return None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.storm.sweep", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", default=list(interrupts.SCENES))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--share", default="1/1", help="which of how many equal parts (1/1)")
    parser.add_argument("--step", type=int, default=1, help="try every so many lines only (1)")
    parser.add_argument("--random", type=int, default=0, help="so many random moments (0)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (1)")
    parser.add_argument("--jobs", type=int, default=4, help="programs at a time (4)")
    return parser.parse_args()


if __name__ == "__main__":
    # An exception of the program that this process becomes meets no handler here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mine = sweep(parse())
    if mine is not None:
        interrupts.main(*mine)
