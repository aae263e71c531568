"""What is known about the end of a worker: its last stack, and whether memory ran out."""

from __future__ import annotations

import faulthandler  # before a worker is forked: each would have its copy
import os
import signal
from _collections_abc import Callable

__all__: list[str] = []

#: Bytes of the file for each worker: more than faulthandler writes for a thread with names of usual
#: length.
_REGION = 64 * 1024


class Stacks:
    """The file in memory where workers leave their last stack, with a region for each worker.

    It uses memory only for stacks that were left.
    """

    _fd = -1  # for an object with an interrupted `__init__`

    def __init__(self) -> None:
        self._fd = os.memfd_create("procession-stacks", os.MFD_CLOEXEC)
        # A path, not a descriptor: a worker of any start method then has its own file offset.
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"

    def take(self, worker_index: int) -> str | None:
        """Return the stack that the dead worker `worker_index` left, if any."""
        start = worker_index * _REGION
        text = os.pread(self._fd, _REGION, start).partition(b"\0")[0]
        if not text:
            return None
        os.pwrite(self._fd, bytes(len(text)), start)
        return text.decode(errors="replace").rstrip()

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self._fd >= 0:
            _close(self._fd)


def leave_stack(path: str, worker_index: int) -> None:
    """Make this worker write its stack into the file at `path` if a fault or SIGTERM ends it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.lseek(fd, worker_index * _REGION, os.SEEK_SET)
    except OSError:
        return  # no /proc, or the parent has ended
    faulthandler.enable(fd, all_threads=False)
    faulthandler.register(signal.SIGTERM, fd, all_threads=False, chain=True)


class OutOfMemory:
    """Detects when the kernel ends processes because memory ran out."""

    def __init__(self) -> None:
        self._paths = _counters()
        self._seen = self._count()

    def _count(self) -> int:
        total = 0
        for path in self._paths:
            try:
                with open(path) as file:
                    for line in file:
                        name, _, number = line.partition(" ")
                        if name == "oom_kill":
                            total += int(number)
            except (OSError, ValueError):
                pass  # this kernel does not have the file
        return total

    def happened(self) -> bool:
        """Return whether the kernel ended a process since the last call."""
        before, self._seen = self._seen, self._count()
        return self._seen > before


def _counters() -> list[str]:
    """Return the files with the counts of this process's control group, or of the whole system."""
    paths = []
    try:
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        groups = []
    for _, controllers, group in groups:
        if controllers == "":
            paths.append(f"/sys/fs/cgroup{group}/memory.events")
        elif "memory" in controllers.split(","):
            paths.append(f"/sys/fs/cgroup/memory{group}/memory.oom_control")
    return [path for path in paths if os.path.exists(path)] or ["/proc/vmstat"]
