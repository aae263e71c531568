"""Queues and connections of the standard library as arguments of procession's processes: what `concurrent.futures` gives to its workers.

Loaded only where the standard library's `multiprocessing` is loaded beside procession.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from . import reduction

__all__: list[str] = []


def set_spawning_popen(popen: Any) -> None:
    """Let the standard library's objects know what process they are pickled for; None: for none any more."""
    # Another thread may be importing either just now: this waits until it is there as a whole.
    importlib.import_module("multiprocessing.context").set_spawning_popen(popen)
    if "multiprocessing.connection" not in sys.modules:
        return
    theirs = importlib.import_module("multiprocessing.connection")
    if theirs.Connection not in reduction.ForkingPickler._extra_reducers:
        reduction.register(theirs.Connection, theirs.reduce_connection)
