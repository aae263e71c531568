"""Measure how much shared memory a family still holds a second after its last use, and its peak.

Then how much a dictionary holds whose random keys come and go, beside what its entries alone take.

    python benches/memory_back.py
"""

from __future__ import annotations

import os
import random
import time

import procession
from procession._procession import arena_fd

MEGABYTE = 1 << 20
#: The most that an idle family may keep.
STAYS = 16 * MEGABYTE


def committed() -> int:
    return os.fstat(arena_fd()).st_blocks * 512


def put(queue: procession.Queue, items: int, size: int) -> None:
    item = (1, "two", 3.0) if size == 0 else bytes(size)
    for _ in range(items):
        queue.put(item)


def alone(items: int, size: int) -> int:
    queue = procession.Queue()
    put(queue, items, size)
    most = committed()
    for _ in range(items):
        queue.get()
    return most


def from_a_child(items: int, size: int) -> int:
    queue = procession.Queue()
    child = procession.Process(target=put, args=(queue, items, size))
    child.start()
    child.join()
    most = committed()
    for _ in range(items):
        queue.get()
    return most


def churn(changes: int, live: int, size: int) -> tuple[int, int, int]:
    """Return what the first entries take, the peak, and what is held at the end."""
    shared, chance, before = procession.SharedDict(), random.Random(1), committed()
    keys = [chance.getrandbits(64) for _ in range(live)]
    for key in keys:
        shared[key] = bytes(size)
    entries = most = committed() - before
    for turn in range(changes):
        place = chance.randrange(live)
        del shared[keys[place]]
        keys[place] = chance.getrandbits(64)
        shared[keys[place]] = bytes(size)
        if turn % 1000 == 0:
            most = max(most, committed() - before)
    time.sleep(1)
    return entries, most, committed() - before


def main() -> None:
    print("| what | at most | after 1 s | |\n| --- | ---: | ---: | --- |")
    for title, items, size in (
        ("1,000,000 small tuples", 1_000_000, 0),
        ("100,000 items of 1 KB", 100_000, 1000),
        ("1,000 items of 100 KB", 1000, 100_000),
        ("12 items of 4 MB", 12, 4 * MEGABYTE),
        ("10 items of 40 MB", 10, 40 * MEGABYTE),
    ):
        for how in (alone, from_a_child):
            most = how(items, size)
            time.sleep(1)
            left = committed()
            verdict = "reached" if left < STAYS else "NOT reached"
            print(
                f"| {title}, {how.__name__} | {most >> 20} MB | {left / MEGABYTE:.1f} MB | {verdict} |",
                flush=True,
            )
    print("| 1,000,000 keys that come and go, of | entries | at most | after 1 s | |")
    print("| --- | ---: | ---: | ---: | --- |")
    for live, size in ((1000, 8), (100_000, 8), (10_000, 3000)):
        entries, most, left = churn(1_000_000, live, size)
        verdict = "reached" if left < 2 * entries + STAYS else "NOT reached"
        sizes = " | ".join(f"{part / MEGABYTE:.1f} MB" for part in (entries, most, left))
        print(f"| {live:,} entries of {size:,} B | {sizes} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
