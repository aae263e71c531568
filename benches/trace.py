"""Measure what a trace costs: nanoseconds an event, and how many events a second are written down.

The same loop runs with and without a trace, in turns; the least processor time of each counts.

    python benches/trace.py
"""

from __future__ import annotations

import json
import pathlib
import tempfile
import time

import procession

ROUNDS = 200_000
#: Of each kind; times vary, and the least one is the cost.
RUNS = 7


def locks() -> float:
    """Return the seconds of processor time that so many pairs of acquire and release take."""
    lock = procession.Lock()
    begin = time.thread_time()
    for _ in range(ROUNDS):
        lock.acquire()
        lock.release()
    return time.thread_time() - begin


def main() -> None:
    off, on = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "trace.json"
        for _ in range(RUNS):
            off.append(locks())
            with procession.trace(path):
                begin = time.perf_counter()
                on.append(locks())
                seconds = time.perf_counter() - begin
            told = json.loads(path.read_text())["otherData"]
    each = (min(on) - min(off)) / ROUNDS / 2 * 1e9
    print(f"off          {min(off) / ROUNDS * 1e9:8.0f} ns for acquire and release")
    print(f"on           {min(on) / ROUNDS * 1e9:8.0f} ns")
    print(f"an event     {each:8.0f} ns")
    written = told["events"]
    print(f"written down {written / seconds:8.0f} events a second, {told['lost']} lost")


if __name__ == "__main__":
    main()
