"""What many objects need."""

from __future__ import annotations

import os
import resource

from .timing import MEGABYTE


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
