"""A soak: all storms at once, again and again.

At the end the family must use what it used after the first part.

`python -m tests.storm.soak [--seconds 1800] [--part 60]`
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import procession
from procession import _procession

from .scenes import SCENES, double

KILLS = 10
"""Kills in each storm of a round."""
MEGABYTE = 1 << 20
PARTS = 5
"""The use is printed each time this many further parts are done."""
CALM = 2.5
"""Seconds without a change after which counts are settled. The longest delay: an entry that a dead
process reserved for a child lasts two seconds."""
LOOKS = 20
"""Looks in that time: a look may take longer than the time itself where the machine is busy."""
GROWTH = 8 * MEGABYTE
"""How much memory may differ: what allocators keep for reuse depends on what ran last."""
KEPT = 16 * MEGABYTE
"""How much shared memory an idle family may keep beside twice what lives in it."""
HELD = 4000
"""References that the root holds at once before the first round; no round holds so many. A process
keeps a cell for each 127 references that it held at once, as long as it lives."""


@dataclass
class Use:
    """What the family uses while nothing happens."""

    resident: int
    shared: int
    descriptors: int
    processes: int
    objects: int
    references: int
    cells: int
    other: int

    @classmethod
    def settled(cls) -> Use:
        """Return the use once none of the counts has changed for a while.

        Ended processes disappear gradually, and the fork server forks its next child ahead. Waits in
        the engine: a process that does so gives idle memory back. Where none does, memory that was
        in constant reuse stays. Raises AssertionError if an object is still being destroyed then.
        """
        use, unchanged = cls.now(), 0
        while unchanged < LOOKS:
            procession.Event().wait(CALM / LOOKS)
            now = cls.now()
            unchanged = unchanged + 1 if counts(now) == counts(use) else 0
            use = now
        assert use.other == 0, use
        return use

    @classmethod
    def now(cls) -> Use:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what malloc keeps for reuse says nothing, either
        counters = _procession.counters()
        with open("/proc/self/statm") as statm:
            fields = [int(field) * os.sysconf("SC_PAGESIZE") for field in statm.read().split()]
        return cls(
            # Only private memory: the arena's pages are counted with the arena.
            resident=fields[1] - fields[2],
            shared=os.fstat(_procession.arena_fd()).st_blocks * 512,
            descriptors=len(os.listdir("/proc/self/fd")),
            processes=len(_procession.members()),
            objects=counters["objects"],
            references=counters["references"],
            cells=counters["owned"] + counters["transit"] + counters["deferred"],
            other=counters["other"],
        )


def calm(context: Any, seed: int, kills: int) -> str:
    """Work without disturbance, with children of another start method."""
    context = procession.get_context("forkserver")
    with context.Pool(2) as pool:
        assert pool.map(double, range(200)) == [2 * number for number in range(200)]
    value = context.Value("i", 0)
    with value.get_lock():
        value.value += 1
    return "undisturbed"


def round_of(seed: int) -> int:
    """Run all storms once, side by side; return their number."""
    context = procession.get_context("fork")
    errors: list[BaseException] = []

    def run(scene: Any) -> None:
        try:
            scene(context, seed, KILLS)
        except BaseException as error:
            errors.append(error)

    scenes = [scene for name, scene in SCENES.items() if name != "forks"] + [calm]
    threads = [threading.Thread(target=run, args=(scene,)) for scene in scenes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return len(threads)


MEMORY = ("resident", "shared")


def counts(use: Use) -> dict[str, int]:
    """Return all counts, without memory."""
    return {name: value for name, value in asdict(use).items() if name not in MEMORY}


def compare(first: Use, last: Use) -> list[str]:
    """Return what differs."""
    grown = ["resident"] if last.resident > first.resident + GROWTH else []
    if last.shared > max(first.shared + GROWTH, KEPT):
        grown.append("shared")
    before, after = counts(first), counts(last)
    return grown + [name for name in before if after[name] != before[name]]


def keep_to_one_arena() -> None:
    """Let all threads allocate in one arena of malloc.

    Otherwise each thread of each round may leave free memory in another arena, and how much memory
    the process has resident says little.
    """
    m_arena_max = -8
    if ctypes.CDLL(None).mallopt(m_arena_max, 1) != 1:
        raise OSError("malloc has no such option")


def hold_many() -> None:
    """Hold more references at once than any round does.

    Otherwise the number of cells would say how many references were held at once so far, which
    depends on when processes run and on when cycles are collected.
    """
    held = [procession.Lock() for _ in range(HELD)]
    del held


def soak(seconds: float, part: float) -> tuple[Use, Use, int]:
    """Run rounds for this many seconds.

    Return the use after the first part and at the end, and the number of killed processes.
    """
    begin, due, seed = time.monotonic(), part, 0
    uses: list[Use] = []
    while not uses or time.monotonic() - begin < seconds:
        seed += 1
        round_of(seed)
        lasted = time.monotonic() - begin
        if lasted >= min(due, seconds):
            uses.append(Use.settled())
            print(f"after {lasted:.0f} s: {uses[-1]}", flush=True)
            due += PARTS * part
    return uses[0], uses[-1], seed * (len(SCENES) - 1) * KILLS


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.storm.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--part", type=float, default=60)
    options = parser.parse_args()
    faulthandler.dump_traceback_later(options.seconds + 600, exit=True)
    keep_to_one_arena()
    hold_many()
    first, last, kills = soak(options.seconds, options.part)
    different = compare(first, last)
    print(f"{kills} processes killed; not as it was: {', '.join(different) or 'nothing'}")
    if different:
        for kind in json.loads(_procession.snapshot_json())["memory"]:
            print(kind)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
