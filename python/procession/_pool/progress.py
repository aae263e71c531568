"""Progress of calls with many items.

It is shown by a bar of rich or tqdm, by plain text without them, or by the caller's own function.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

__all__: list[str] = []

#: Seconds between two looks at the progress.
INTERVAL = 0.1


class Progress:
    """Shows the progress of a call.

    `report` may be called at any rate; `finish` ends the display.
    """

    _end: Any = None  # for an object with an interrupted `__init__`

    def __init__(
        self,
        show: Callable[[int, int | None], object],
        end: Callable[[], object],
        total: int | None,
    ) -> None:
        self._show = show
        self._total = total
        self._done = 0
        self._shown = -1
        self._next = 0.0
        self._end = end

    def report(self, done: int) -> None:
        """Report that `done` items are done."""
        self._done = done
        if done != self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL
            self._shown = done
            self._show(done, self._total)

    def finish(self, done: int) -> None:
        """Show the final state and end the display."""
        if done != self._shown:
            self._shown = done
            self._show(done, self._total)
        end, self._end = self._end, _nothing
        end()

    def __del__(self) -> None:
        if self._end not in (None, _nothing):
            self.finish(self._done)  # its iterator was dropped before the end


def progress(wanted: Any, total: int | None) -> Progress | None:
    """Return what to report to, or None.

    Args:
        wanted: False or None: nothing. True: a bar on stderr, if that is a terminal. "always": the
            same even if it is none. A callable: called with the number of items done and the number
            of all items, None if that is unknown.
        total: the number of all items, None if unknown.
    """
    if callable(wanted):
        return Progress(wanted, _nothing, total)
    if wanted not in (True, "always"):
        if wanted:
            raise ValueError(f"progress is to be a bool, 'always' or a callable, not {wanted!r}")
        return None
    if wanted is True and not (sys.stderr is not None and sys.stderr.isatty()):
        return None
    for make in (_by_rich, _by_tqdm):
        try:
            return make(total)
        except ImportError:
            pass
    return _plain(total)


def _nothing() -> None:
    pass


def _by_rich(total: int | None) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    bar = Bar(*columns, console=Console(stderr=True))
    bar.start()
    task = bar.add_task("", total=total)
    return Progress(lambda done, _: bar.update(task, completed=done), bar.stop, total)


def _by_tqdm(total: int | None) -> Progress:
    from tqdm import tqdm

    bar = tqdm(total=total)
    return Progress(lambda done, _: bar.update(done - bar.n), bar.close, total)


def _plain(total: int | None) -> Progress:
    begin = time.monotonic()
    terminal = sys.stderr.isatty()

    def show(done: int, total: int | None) -> None:
        seconds = time.monotonic() - begin
        share = f"/{total} ({done / total:.0%})" if total else ""
        text = f"{done}{share} items in {seconds:.1f} s"
        sys.stderr.write(f"\r{text}\x1b[K" if terminal else f"{text}\n")
        sys.stderr.flush()

    def end() -> None:
        if terminal:
            sys.stderr.write("\n")

    return Progress(show, end, total)
