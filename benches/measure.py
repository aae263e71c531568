"""Make one measurement of one library in its own interpreter: ``measure.py LIBRARY WORKLOAD``.

The library, ``multiprocessing`` or ``procession``, is a name on the command line; all other text is
the same. Prints the measured figure as JSON. ``compare.py`` runs this for both libraries in turn,
and ``curves.py`` with the value of the horizontal axis.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os

from workloads import CURVES, ROWS
from workloads.memory import many

PINS = ("same", "spread")


def pin(how: str) -> None:
    """Bind this process and those that it forks to cores.

    "same": all to one core. "spread": each to the next core, in turn.
    """
    cores = sorted(os.sched_getaffinity(0))
    if how == "spread":
        turn = itertools.cycle(cores)
        os.register_at_fork(before=lambda: next(turn), after_in_child=lambda: bind(next(turn)))
    bind(cores[0])


def bind(core: int) -> None:
    os.sched_setaffinity(0, {core})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("workload")
    parser.add_argument("--pin", choices=PINS)
    parser.add_argument("--at", type=int, help="the point of a curve")
    options = parser.parse_args()
    library = importlib.import_module(options.library)
    row = ROWS.get(options.workload)
    how = "same" if row is not None and row.one_core else options.pin
    if how:
        pin(how)
    if options.at is not None:
        figure = CURVES[options.workload].workload(library, options.at)
    elif options.workload == many.__name__:
        figure = many(library)
    else:
        figure = ROWS[options.workload].workload(library)
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
