"""What many objects need."""

from __future__ import annotations

import os
import resource
import time

from rows import row

from .timing import MEGABYTE


def idle_workers(library, method, number=8):
    """Return megabytes of an idle worker of a pool: its share of the pages that it has.

    Each worker has run a task before.
    """
    with library.get_context(method).Pool(number) as pool:
        workers = {process.pid for process in pool._pool}
        done = set()
        while done != workers:
            done |= set(pool.map(pid_after_a_while, range(4 * number), 1))
        sizes = [proportional(pid) for pid in workers]
    return sum(sizes) / number / MEGABYTE


def pid_after_a_while(_):
    time.sleep(0.002)  # so that all workers get some
    return os.getpid()


def proportional(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))


@row("idle worker of Pool(8), fork", "MB", 1)
def idle_fork(library):
    return idle_workers(library, "fork")


@row("idle worker of Pool(8), forkserver", "MB", 2.8)
def idle_forkserver(library):
    return idle_workers(library, "forkserver")


def many(library):
    """Return what 1,000 queues and 10,000 locks need.

    These are descriptors, and megabytes of private and shared memory.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    first = [library.Queue(), library.Lock()]
    files = resident("RssShmem") + resident("RssFile")
    descriptors, private, shared = (
        len(os.listdir("/proc/self/fd")),
        resident("RssAnon"),
        shared_pages(files),
    )
    made = [library.Queue() for _ in range(1_000)], [library.Lock() for _ in range(10_000)]
    taken = resident("RssAnon") - private + shared_pages(files) - shared
    assert len(made[0]) + len(made[1]) + len(first) == 11_002
    return [len(os.listdir("/proc/self/fd")) - descriptors, taken / MEGABYTE]


def shared_pages(before):
    """Return the bytes of the memory files that this process has open, resident in it or not."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:"):
                total += os.stat(f"/proc/self/fd/{name}").st_blocks * 512
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return max(total, resident("RssShmem") + resident("RssFile") - before)


def resident(which):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(which))
