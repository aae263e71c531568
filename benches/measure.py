"""Make one measurement of one library in its own interpreter: ``measure.py LIBRARY WORKLOAD [PIN]``.

The library, ``multiprocessing`` or ``procession``, is a name on the command line; all other text is
the same. Prints the measured figure as JSON. ``compare.py`` runs this for both libraries in turn.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys

import workloads
from workloads.memory import many

PINS = ("same", "spread")


def pin(how: str) -> None:
    """Bind this process and those that it forks to cores.

    "same": all to one core. "spread": each to the next core, in turn.
    """
    cores = sorted(os.sched_getaffinity(0))
    if how == "spread":
        turn = itertools.cycle(cores)
        os.register_at_fork(
            before=lambda: next(turn), after_in_child=lambda: bind(next(turn))
        )
    bind(cores[0])


def bind(core: int) -> None:
    os.sched_setaffinity(0, {core})


def main() -> None:
    library, name = sys.argv[1:3]
    row = workloads.ROWS.get(name)
    if row is None:
        print(json.dumps(many(importlib.import_module(library))))
        return
    if row.one_core:
        pin("same")
    elif len(sys.argv) > 3:
        pin(sys.argv[3])
    print(json.dumps(row.workload(importlib.import_module(library))))


if __name__ == "__main__":
    main()
