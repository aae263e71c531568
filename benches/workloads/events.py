"""From the `set` of an event to the return of a process that slept for it."""

from __future__ import annotations

import statistics
import time

from rows import row

from .timing import clock


def sleep_for(event, answers, count):
    """Send the time of each wake-up; the clock is the same in all processes."""
    for _ in range(count):
        event.wait()
        awake = clock()
        event.clear()
        answers.send(awake)


def wakes(library, count=300):
    """Return how many microseconds each wake-up took."""
    event = library.Event()
    times, answers = library.Pipe(duplex=False)
    process = library.Process(target=sleep_for, args=(event, answers, count))
    process.start()
    taken = []
    for _ in range(count):
        # Long enough for the process to fall asleep: a wake-up of one that spins takes less.
        time.sleep(0.003)
        begin = clock()
        event.set()
        taken.append((times.recv() - begin) * 1e6)
    process.join()
    return taken


@row("event, set to the return of a wait", "us", 10)
def event_wake(library):
    """Return the median of the wake-ups, in microseconds."""
    return statistics.median(wakes(library))


@row("event, the same, 99th percentile", "us", 5)
def event_wake_late(library):
    return statistics.quantiles(wakes(library), n=100)[98]
