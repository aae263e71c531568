"""The standard library's queues and connections as arguments of procession's processes.

`concurrent.futures` passes these to its workers. This module is loaded only where the standard
library's `multiprocessing` is loaded beside procession.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from .. import reduction

__all__: list[str] = []


def set_spawning_popen(popen: Any) -> None:
    """Tell the standard library's objects which process they are pickled for.

    None means that no process is being pickled any more.
    """
    # Another thread may be importing either module: this waits until the import is complete.
    importlib.import_module("multiprocessing.context").set_spawning_popen(popen)
    if "multiprocessing.connection" not in sys.modules:
        return
    theirs = importlib.import_module("multiprocessing.connection")
    if theirs.Connection not in reduction.ForkingPickler._extra_reducers:
        reduction.register(theirs.Connection, theirs.reduce_connection)
