"""Waiting for what no object of a test reports: other processes' deaths, counts, files.

Each wait polls a condition up to a deadline that only a failing test reaches.
"""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterable

#: Seconds that a passing test never waits.
LONG = 60


def until(condition: Callable[[], object]) -> None:
    """Return once the condition is true."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def read_once_there(path: pathlib.Path) -> str:
    """Return the text of a file that another process moves into its place."""
    until(path.exists)
    return path.read_text()


def is_running(pid: int) -> bool:
    """Return whether a process lives. A zombie does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def is_asleep(thread: threading.Thread) -> bool:
    """Return whether a thread of this process sleeps in the kernel."""
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def until_ended(pids: Iterable[int]) -> None:
    """Return once none of these processes lives."""
    pids = list(pids)
    until(lambda: not any(map(is_running, pids)))
