"""Measure how soon a blocking call is interrupted by a signal, and how late its timeout is.

The calls are those of `tests/boundary/test_signals.py`. Each call is interrupted by SIGINT at random moments
around the one at which it falls asleep (milliseconds from the signal to the exception). It then
times out while a signal arrives every 2 ms (milliseconds beyond its timeout). Prints a line for
each call.
"""

from __future__ import annotations

import argparse
import gc
import os
import pathlib
import signal
import statistics
import sys
import time
from collections.abc import Callable

import procession

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from tests.boundary.test_signals import CALLS, ENDLESS, ring

TIMEOUT = 0.02


def noticed(call: Callable[[], object], turns: int) -> list[float]:
    """Return the milliseconds from each signal until it ended the call."""
    cells = procession.RawArray("Q", 2)
    sender = procession.Process(target=ring, args=(cells, os.getpid(), turns), daemon=True)
    sender.start()
    took = []
    # An exception raised in a callback of the collector would be lost.
    gc.collect()
    gc.disable()
    for turn in range(1, turns + 1):
        try:
            cells[0] = turn
            call()
        except KeyboardInterrupt:
            took.append((time.monotonic_ns() - cells[1]) / 1e6)
        else:
            raise AssertionError("the call was not interrupted by the signal")
    gc.enable()
    sender.join()
    return took


def late(call: Callable[..., object], times: int) -> list[float]:
    """Return the milliseconds by which each timeout is late while a signal arrives every 2 ms."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    took = []
    for _ in range(times):
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
        began = time.monotonic()
        call(timeout=TIMEOUT)
        took.append((time.monotonic() - began - TIMEOUT) * 1e3)
        signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    return took


def figures(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} | {max(values):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1000, help="signals a call (%(default)s)")
    parser.add_argument("names", nargs="*", help="parts of the names of calls; all by default")
    arguments = parser.parse_args()
    print("| call | signals | noticed, median ms | worst | timeouts | late, median ms | worst |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    signals = 0
    worst = 0.0
    for name, make in (CALLS | ENDLESS).items():
        if arguments.names and not any(part in name for part in arguments.names):
            continue
        call, _timed_out, end = make()
        took = noticed(call, arguments.times)
        line = f"| {name} | {len(took)} | {figures(took)} |"
        if name in CALLS:
            delays = late(call, max(arguments.times // 10, 1))
            line += f" {len(delays)} | {figures(delays)} |"
        else:
            line += " | | |"
        print(line, flush=True)
        signals, worst = signals + len(took), max(worst, *took)
        if end is not None:
            end()
    print(f"\n{signals:,} signals, none lost, the latest noticed after {worst:.1f} ms")


if __name__ == "__main__":
    main()
