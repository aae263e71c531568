"""What a row of the comparison is: a workload, its title and its goal.

`workloads` has the workloads, each under a `row`. `compare` runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NOISE = 0.05
"""The tolerance of "no slower": medians of the same program differ by about this between runs."""


@dataclass(frozen=True)
class Row:
    """One row: the workload returns one figure of the library that it is given."""

    title: str
    unit: str
    goal: float
    """How many times better procession must be; 1 means no slower."""
    higher_is_better: bool
    one_core: bool
    workload: Callable[[Any], float]

    def ratio(self, standard: float, ours: float) -> float:
        return ours / standard if self.higher_is_better else standard / ours

    def reached(self, ratio: float) -> bool:
        return ratio >= (self.goal if self.goal != 1 else 1 - NOISE)


#: All rows by the names of their workloads, in the order in which they are printed.
ROWS: dict[str, Row] = {}


def row(title: str, unit: str, goal: float = 1, *, one_core: bool = False) -> Callable[[Any], Any]:
    """Enter a workload as a row. Figures in a unit per second are better when they are higher.

    With `one_core`, all its processes share one core.
    """

    def enter(workload: Callable[[Any], float]) -> Callable[[Any], float]:
        name = workload.__name__
        assert name not in ROWS, f"two workloads are named {name}"
        ROWS[name] = Row(title, unit, goal, unit.endswith("/s"), one_core, workload)
        return workload

    return enter
