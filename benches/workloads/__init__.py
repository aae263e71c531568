"""The workloads of the comparison with the standard library, each with its title and its goal.

A workload gets one of the two libraries and returns one figure. The files are in the order of the
printed table.
"""

from rows import CURVES as CURVES
from rows import ROWS as ROWS

# isort: off
# The order of the table.
from . import (  # noqa: F401
    queues,
    pipes,
    items,
    locks,
    events,
    values,
    processes,
    managers,
    memory,
    dicts,
    curves,
)
