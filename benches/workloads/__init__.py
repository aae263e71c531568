"""The workloads of the comparison with the standard library, each with its title and its goal.

A workload gets one of the two libraries and returns one figure. The files are in the order of the
printed table.
"""

from rows import ROWS as ROWS

from . import queues, locks, processes, managers  # noqa: F401, I001 (the order of the table)
