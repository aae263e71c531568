"""Run a program in its own session: output, exit code, and processes left behind.

``checks`` judges what a program prints; ``catalogue`` lists the programs.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LIMIT = 60.0
"""Seconds after which a program counts as hung."""

GRACE = 2.0
"""Seconds that helpers of an ended program (a fork server, say) may take to notice that it has ended."""


@dataclass
class Run:
    """The result of one run of a program."""

    code: int | None
    """Exit code of the main process; None when it had to be stopped."""
    stdout: str
    stderr: str
    seconds: float
    left: list[str] = field(default_factory=list)
    """Command lines of the processes left ``GRACE`` seconds after the end of the main one."""
    others: list[Run] = field(default_factory=list)
    """Runs of the further programs that belong to this one."""
    command: list[str] = field(default_factory=list)
    """The command that was run."""

    @property
    def lines(self) -> list[str]:
        """The lines of the output; every line, also the last, must have ended."""
        assert not self.stdout or self.stdout.endswith("\n"), (
            f"torn last line: {self.stdout[-80:]!r}"
        )
        return self.stdout.splitlines()


def session_of(pid: int) -> int | None:
    """Return the session of a running process; None for one that is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            state, _parent, _group, session = stat.read().rpartition(")")[2].split()[:4]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(session)


def members(session: int) -> list[int]:
    """Return the processes of a session."""
    return [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if session_of(pid) == session
    ]


def command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            return line.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "(gone)"


def await_end(pid: int, seconds: float) -> bool:
    """Wait until a process, which need not be a child, has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], max(0.0, seconds))[0])
    finally:
        os.close(handle)


def signal_all(session: int, number: int) -> None:
    for pid in members(session):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def empty_session(session: int, grace: float = GRACE) -> list[str]:
    """Wait until a session is empty.

    After ``grace`` seconds kill the processes left and name them.
    """
    deadline = time.monotonic() + grace
    left: list[str] = []
    while found := members(session):
        if all(await_end(pid, deadline - time.monotonic()) for pid in found):
            continue
        left = [f"{pid} {command_line(pid)}" for pid in members(session)]
        signal_all(session, signal.SIGKILL)
        for pid in found:
            await_end(pid, 10)
        deadline = time.monotonic() + grace
    return left


class Running:
    """A running program."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.files = [tempfile.TemporaryFile("a+b") for _ in range(2)]  # noqa: SIM115  closed by finish()
        inherited = {
            name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"
        }
        self.command = command
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.files[0],
            stderr=self.files[1],
            start_new_session=True,
            # On a hang, SIGABRT makes every Python process of the program print where it is.
            env={**inherited, "PYTHONFAULTHANDLER": "1", **(environment or {})},
        )

    def text(self, which: int) -> str:
        """Return what the program has written so far: 0 standard output, 1 standard error."""
        size = os.fstat(self.files[which].fileno()).st_size
        return os.pread(self.files[which].fileno(), size, 0).decode(errors="replace")

    def finish(self, limit: float = LIMIT) -> Run:
        """Wait for the end and stop whatever is left."""
        session = self.process.pid
        try:
            code: int | None = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            signal_all(session, signal.SIGABRT)
            self.process.wait()
        seconds = time.monotonic() - self.started
        left = empty_session(session)
        run = Run(code, self.text(0), self.text(1), seconds, left, command=self.command)
        for file in self.files:
            file.close()
        return run


@contextmanager
def running(command: list[str], environment: dict[str, str] | None = None) -> Iterator[Running]:
    """Start a program, and stop it at the end of the block if it has not been finished."""
    program = Running(command, environment)
    try:
        yield program
    finally:
        if program.process.returncode is None:
            signal_all(program.process.pid, signal.SIGKILL)
            program.finish()


def run(command: list[str], environment: dict[str, str] | None = None, limit: float = LIMIT) -> Run:
    """Run a program to its end."""
    with running(command, environment) as program:
        return program.finish(limit)
