"""A time limit that does not count the time for which processes wait for a processor.

On a busy machine a program may wait for minutes before it runs for a second, which says nothing
about the program. One that hangs sleeps, or runs, and uses up its time all the same.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable

LOOK = 1.0
"""Seconds between two looks at the processes."""


def session(leader: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
            state, _parent, _group, number = file.read().rpartition(")")[2].split()[:4]
            if int(number) == leader and state not in "ZX":
                members.append(int(entry))
    return members


def waited(pid: int) -> float:
    """Return for how many seconds threads of a process could have run, but had no processor."""
    nanoseconds = 0
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                nanoseconds += int(file.read().split()[1])
    return nanoseconds / 1e9


def described(pid: int) -> str:
    """Return what a process is, and what its threads do: for a failure's text."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline") as file:
            text = f"{pid} {file.read().replace(chr(0), ' ').strip()}"
        for thread in os.listdir(f"/proc/{pid}/task"):
            folder = f"/proc/{pid}/task/{thread}"
            with open(f"{folder}/stat") as stat, open(f"{folder}/schedstat") as sched:
                state = stat.read().rpartition(")")[2].split()[0]
                ran, waits = (int(field) / 1e9 for field in sched.read().split()[:2])
            with open(f"{folder}/wchan") as file:
                place = file.read()
            text += f"; thread {thread}: {state} in {place}, ran {ran:.1f} s, waited {waits:.1f} s to run"
        return text
    return f"{pid}, which has ended"


def descriptions(pids: Iterable[int]) -> str:
    """Return what processes are and do."""
    return "\n".join(map(described, pids))


class Patience:
    """The limit of some processes, in seconds: those that `members` returns.

    Time in which one of them waits for a processor is left out, for each such moment once: the
    others may need what it does next.
    """

    def __init__(self, members: Callable[[], Iterable[int]], seconds: float) -> None:
        self.members, self.seconds = members, seconds
        self.begun = self._looked = time.monotonic()
        self._waits = {pid: waited(pid) for pid in members()}
        #: For how many seconds a process had no processor.
        self.waited = 0.0

    def is_over(self) -> bool:
        """Return whether the limit has passed."""
        now = time.monotonic()
        if now >= self._looked + LOOK:
            waits = {pid: waited(pid) for pid in self.members()}
            longest = max((waits[pid] - self._waits.get(pid, 0) for pid in waits), default=0)
            self.waited += min(max(longest, 0), now - self._looked)
            self._waits, self._looked = waits, now
        return now - self.begun - self.waited > self.seconds


def session_limit(leader: int, seconds: float) -> Patience:
    """Return the limit of the processes of a session."""
    return Patience(lambda: session(leader), seconds)
