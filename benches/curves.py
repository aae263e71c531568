"""Draw how figures of both libraries change with sizes: ``curves.py`` writes SVG files.

Each point is the median of some measurements, each in a fresh interpreter, the libraries in turn.
``--json FILE`` keeps the figures, ``--draw FILE`` draws those of an earlier run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import statistics
import sys
from typing import Any

import compare
from rows import Curve
from workloads import CURVES

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs" / "figures"
COLOURS = {"multiprocessing": "#b45309", "procession": "#1d4ed8", "floor": "#6b7280"}
MOST_FALL = 0.5
"""A figure per second may fall to this share from one point to the next; less is a cliff.

Unless what the machine does without a library falls as well: then to this share of that fall.
"""


def measured(name: str, curve: Curve, rounds: int) -> dict[str, list[list[float]]]:
    """Return the points of both libraries and of the floor, as pairs."""
    figures: dict[str, list[list[float]]] = {library: [] for library in compare.LIBRARIES}
    for x in curve.points:
        runs: dict[str, list[Any]] = {library: [] for library in compare.LIBRARIES}
        for number in range(rounds):
            for library in compare.LIBRARIES if number % 2 == 0 else compare.LIBRARIES[::-1]:
                if library == "procession" or x <= curve.most:
                    runs[library].append(compare.run(library, name, "--at", str(x)).figure)
        for library, values in runs.items():
            if values:
                figures[library].append([x, statistics.median(values)])
    if curve.floor:
        figures["floor"] = [
            [x, statistics.median(curve.floor(x) for _ in range(rounds))] for x in curve.points
        ]
    return figures


def cliffs(curve: Curve, figures: dict[str, list[list[float]]]) -> list[str]:
    """Return the places where a figure gets worse by more than the size accounts for."""
    found = []
    floor = dict(figures.get("floor", ()))
    for (x, before), (following, after) in itertools.pairwise(figures["procession"]):
        kept = after / before if "per second" in curve.y else before / after
        machine = min(1, floor[following] / floor[x]) if floor else 1
        if kept < MOST_FALL * machine:
            found.append(f"{curve.title}: {kept:.2f} of the figure from {x:,} to {following:,}")
    return found


def draw(name: str, curve: Curve, figures: dict[str, list[list[float]]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and a drawing of the same figures is the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "procession"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for library, points in figures.items():
        style = {"linestyle": "--"} if library == "floor" else {"marker": "o", "markersize": 4}
        label = curve.floor_title if library == "floor" else library
        axes.plot(*zip(*points, strict=True), color=COLOURS[library], label=label, **style)
    axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y, xscale="log", yscale="log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each point")
    parser.add_argument("--only", action="append", choices=list(CURVES), help="this curve")
    parser.add_argument("--json", type=pathlib.Path, help="keep the figures in this file")
    parser.add_argument(
        "--draw", type=pathlib.Path, help="draw the figures in this file, measure nothing"
    )
    options = parser.parse_args()
    compare.adopt_orphans()
    kept = json.loads(options.draw.read_text()) if options.draw else {}
    falls = []
    for name in options.only or CURVES:
        if not options.draw:
            kept[name] = measured(name, CURVES[name], options.rounds)
            if options.json:
                options.json.write_text(json.dumps(kept, indent=1))
        draw(name, CURVES[name], kept[name])
        found = cliffs(CURVES[name], kept[name])
        falls += found
        print(f"{name}: {'; '.join(found) or 'no cliff'}", flush=True)
    return 1 if falls else 0


if __name__ == "__main__":
    sys.exit(main())
