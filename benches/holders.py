"""Measure how soon a waiter and the holder's parent learn that the holder of a lock was killed.

Prints for each size of the holder the milliseconds from SIGKILL to `OwnerDied` in the waiter and to
the end of the parent's `join`, as median and worst.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import threading
import time
from typing import Any

import procession


def hold(lock: Any, megabytes: int, ready: Any) -> None:
    memory = bytearray(megabytes << 20)
    # Pages that were only read are not the holder's own yet.
    memory[::4096] = bytes(len(memory[::4096]))
    lock.acquire()
    ready.set()
    signal.pause()


def measure(megabytes: int, kind: str) -> tuple[float, float]:
    ctx = procession.get_context("fork")
    lock, ready = getattr(ctx, kind)(), ctx.Event()
    holder = ctx.Process(target=hold, args=(lock, megabytes, ready))
    holder.start()
    ready.wait()
    told: list[float] = []

    def wait() -> None:
        try:
            lock.acquire()
        except procession.OwnerDied:
            told.append(time.monotonic())

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)  # the waiter is asleep by then
    killed = time.monotonic()
    holder.kill()
    holder.join()
    joined = time.monotonic()
    waiter.join()
    return (told[0] - killed) * 1e3, (joined - killed) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="holders of each size (%(default)s)")
    parser.add_argument("--megabytes", type=int, nargs="*", default=[0, 500, 2000])
    arguments = parser.parse_args()
    print("| holder | killed | told, median ms | worst | joined, median ms | worst |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("Lock", "RLock"):
        for megabytes in arguments.megabytes:
            both = [measure(megabytes, kind) for _ in range(arguments.times)]
            columns = (
                f"{statistics.median(one):.1f} | {max(one):.1f}" for one in zip(*both, strict=True)
            )
            print(f"| {kind}, {megabytes} MB | {len(both)} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
