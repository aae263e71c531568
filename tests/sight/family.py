"""A program whose processes hold and await things, and what a test sees of it from outside."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from procession import _procession
from tests.conftest import PACKAGE_FOLDER
from tests.waiting import until, until_ended

#: `holder` holds the lock, `wanter` waits for it, `getter` waits for an item, five items lie in a queue,
#: the pool runs two of six tasks, and the first process waits for an event.
PROGRAM = """
import sys
import procession

def hold(lock, held, never):
    with lock:
        held.set()
        never.wait()

def want(lock):
    with lock:
        pass

def take(queue):
    queue.get()

def task(number):
    never.wait()

def keep(event):
    global never
    never = event

if __name__ == "__main__":
    procession.set_start_method(sys.argv[1])
    lock, held, never = procession.Lock(), procession.Event(), procession.Event()
    empty, full = procession.Queue(), procession.Queue(9)
    calls = {"holder": (hold, (lock, held, never)), "wanter": (want, (lock,)), "getter": (take, (empty,))}
    for name, (function, args) in calls.items():
        procession.Process(target=function, args=args, name=name, daemon=True).start()
        held.wait()
    for number in range(5):
        full.put(f"top-secret-{number}")
    secret = procession.Array("c", b"top-secret-array")
    pool = procession.Pool(2, keep, (never,))
    calls = [pool.apply_async(task, (f"top-secret-{number}",)) for number in range(6)]
    print("ready", flush=True)
    never.wait()
"""


def run(*words: str) -> int:
    """Run a command of the command line in this process; what it writes goes to its descriptors."""
    return _procession.command(["procession", *words])


@contextlib.contextmanager
def family(folder: pathlib.Path, method: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program, and end all its processes afterwards."""
    script = folder / "sick.py"
    script.write_text(PROGRAM)
    with program(script, method) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


@contextlib.contextmanager
def program(
    script: pathlib.Path, *args: str, stdin: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process group of its own, and kill the group afterwards."""
    process = subprocess.Popen(
        [sys.executable, str(script), *args],
        stdin=subprocess.PIPE if stdin else None,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def dump(pid: int, capfd: Any) -> dict[str, Any]:
    """Return what `dump --json` says of the family of a process."""
    capfd.readouterr()
    code = run("dump", str(pid), "--json")
    out, err = capfd.readouterr()
    assert (code, err) == (0, ""), err
    found: dict[str, Any] = json.loads(out)
    return found


def process_of(seen: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the process of this name."""
    [found] = [process for process in seen["processes"] if process["name"] == name]
    return found


def dump_when_asleep(pid: int, capfd: Any) -> dict[str, Any]:
    """Return a dump in which all that the program's processes wait for is announced."""
    found: dict[str, Any] = {}

    def all_wait() -> bool:
        found.update(dump(pid, capfd))
        running = [pool["running"] for pool in found["pools"]]
        names = {process["name"] for process in found["processes"] if process["waits"]}
        root = any(process["waits"] for process in found["processes"] if process["pid"] == pid)
        return root and {"holder", "wanter", "getter"} <= names and running == [2]

    try:
        until(all_wait)
    except AssertionError:
        pytest.fail(f"not all wait: {json.dumps(found)}")
    return found


def arena_of(pid: int) -> str:
    """Return the path of the arena that a process has open."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(path) == "/memfd:procession (deleted)":
                return path
    raise AssertionError("it has no arena")


def content_of(path: str) -> tuple[int, str]:
    """Return how many blocks of a file are committed, and a hash of them."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        end, size = 0, os.fstat(file.fileno()).st_size
        while end < size:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            digest.update(f"{begin} {end} ".encode() + os.pread(file.fileno(), end - begin, begin))
        return os.fstat(file.fileno()).st_blocks, digest.hexdigest()


def kill_all(pids: list[int]) -> None:
    """Kill processes, and wait until none of them runs."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until_ended(pids)


@contextlib.contextmanager
def served(pid: int | None, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `procession web` on the family of a process, or on all: the address, and the server."""
    which = [] if pid is None else [str(pid)]
    server = subprocess.Popen(
        [sys.executable, "-m", "procession", "web", *which, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), server
    finally:
        server.kill()
        server.communicate()
