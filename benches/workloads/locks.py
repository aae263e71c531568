"""Locks that nobody else wants."""

from __future__ import annotations

from rows import row

from .timing import nanoseconds


@row("with lock", "ns", 2)
def with_lock(library, count=300_000):
    """Return nanoseconds of ``with lock: pass``."""
    lock = library.Lock()

    def work(number):
        for _ in range(number):
            with lock:
                pass

    return nanoseconds(work, count)


@row("lock, acquire + release", "ns", 1)
def acquire_release(library, count=300_000):
    """Return nanoseconds of ``lock.acquire(); lock.release()``."""
    lock = library.Lock()
    acquire, release = lock.acquire, lock.release

    def work(number):
        for _ in range(number):
            acquire()
            release()

    return nanoseconds(work, count)
