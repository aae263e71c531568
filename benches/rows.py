"""What a row of the comparison is, and what a curve is: a workload, its title and its goal or axes.

`workloads` has the workloads. `compare` runs the rows, `curves` the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


@dataclass(frozen=True)
class Curve:
    """One plot: the workload returns one figure of the library for a value on the x axis."""

    title: str
    x: str
    y: str
    points: tuple[int, ...]
    """The values on the x axis."""
    most: int
    """The last point at which the standard library is measured."""
    floor: Callable[[int], float] | None
    floor_title: str
    workload: Callable[[Any, int], float]


#: All curves by the names of their workloads.
CURVES: dict[str, Curve] = {}


def curve(
    title: str,
    x: str,
    y: str,
    points: Iterable[int],
    *,
    most: int | None = None,
    floor: Callable[[int], float] | None = None,
    floor_title: str = "",
) -> Callable[[Any], Any]:
    """Enter a workload as a curve. `floor` gives what the machine does without any library."""

    def enter(workload: Callable[[Any, int], float]) -> Callable[[Any, int], float]:
        values = tuple(points)
        CURVES[workload.__name__] = Curve(
            title, x, y, values, most or values[-1], floor, floor_title, workload
        )
        return workload

    return enter
