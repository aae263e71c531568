"""Processes that are killed at random and replaced, or stopped for a while.

A watch checks that the others go on.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .patience import Patience, descriptions

TIMEOUT = 30.0
"""Seconds without progress of a process after which it counts as stuck.

What a process waited for a processor is left out.
"""


class Stuck(AssertionError):
    """A process made no progress."""


@contextlib.contextmanager
def stopped(process: Any) -> Iterator[None]:
    """Stop the process for the block, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.sentinel, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process.sentinel, signal.SIGCONT)


class Workers:
    """`size` processes that run `work(place, *args)`.

    `beats[place]` must keep changing as long as a process is in that place.
    """

    def __init__(
        self, context: Any, seed: int, size: int, work: Callable[..., Any], *args: Any
    ) -> None:
        self.context = context
        self.random = random.Random(seed)
        self.beats = context.RawArray("Q", size)
        self.work = work
        self.args = args
        self.kills = 0
        self.places = [self._start(place) for place in range(size)]
        self._seen = [(0, self._limit()) for _ in range(size)]

    def _pids(self) -> list[int]:
        return [process.pid for process in self.places]

    def _limit(self) -> Patience:
        return Patience(self._pids, TIMEOUT)

    def _start(self, place: int) -> Any:
        process = self.context.Process(
            target=self.work, args=(place, self.beats, *self.args), daemon=True
        )
        process.start()
        return process

    def storm(
        self, kills: int, pause: float, *, on_kill: Callable[[int], None] = lambda place: None
    ) -> None:
        """Kill that many processes, with pauses of up to twice `pause` seconds, and replace each.

        Before each kill a process is stopped for such a pause.
        """
        for _ in range(kills):
            # Not synchronisation: it only varies when the kills happen.
            time.sleep(self.random.uniform(0, 2 * pause))
            with stopped(self.random.choice(self.places)):
                time.sleep(self.random.uniform(0, 2 * pause))
            place = self.random.randrange(len(self.places))
            self.places[place].kill()
            self.places[place].join()
            assert self.places[place].exitcode == -9, (
                f"it ended by itself: {self.places[place].exitcode}"
            )
            self.kills += 1
            on_kill(place)
            self.places[place] = self._start(place)
            self._seen[place] = (self.beats[place], self._limit())
            self.watch()

    def watch(self) -> None:
        """Raise `Stuck` when a process has made no progress for too long."""
        for place, process in enumerate(self.places):
            beat, limit = self._seen[place]
            if self.beats[place] != beat:
                self._seen[place] = (self.beats[place], self._limit())
            elif limit.is_over():
                doing = descriptions(self._pids())
                raise Stuck(f"{process} in place {place} makes no progress:\n{doing}")

    def resolve(self, places: Iterable[int] | None = None) -> None:
        """Wait, without further kills, until all processes (or those in some places) progress."""
        before = list(self.beats)
        waiting = set(range(len(before)) if places is None else places)
        limit = self._limit()
        while stuck := [place for place in waiting if self.beats[place] == before[place]]:
            if limit.is_over():
                doing = descriptions(self._pids())
                raise Stuck(f"no progress any more in places {stuck}:\n{doing}")
            time.sleep(0.005)

    def end(self) -> None:
        """Kill all that are left."""
        for process in self.places:
            process.kill()
            process.join()
