"""Waiting for what no object of a test reports: other processes' deaths, counts, files."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds that a passing test never waits.
LONG = 60


def until(condition: Callable[[], object]) -> None:
    """Return once the condition is true."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)
