"""Compare procession with the standard library: the same work on both, in turn, on this machine.

Each measurement runs in a fresh interpreter. Rounds alternate between the libraries, so that other
load on the machine affects both. Prints the medians, and how many times better procession is:
absolute times differ between machines, ratios hardly do.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

WORKLOADS = pathlib.Path(__file__).resolve().parent / "workloads.py"
LIBRARIES = ("multiprocessing", "procession")
LIMIT = 120
NOISE = 0.05
"""The tolerance of "no slower": medians of the same program differ by about this between runs."""


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    workload: str
    title: str
    unit: str
    target: float
    """How many times better procession must be; 1 means no slower."""
    higher_is_better: bool = False

    def ratio(self, standard: float, ours: float) -> float:
        return ours / standard if self.higher_is_better else standard / ours

    def reached(self, ratio: float) -> bool:
        return ratio >= (self.target if self.target != 1 else 1 - NOISE)


ROWS = [
    Row("small_tuples", "queue, small tuples, 1 to 1", "/s", 4, higher_is_better=True),
    Row("round_trip", "round trip over two queues", "us", 10),
    Row("one_core", "the same, on one core", "us", 2),
    Row("arrays", "queue, 64 MB arrays", "GB/s", 5, higher_is_better=True),
    Row("with_lock", "with lock", "ns", 2),
    Row("acquire_release", "lock, acquire + release", "ns", 1),
    Row("fork", "Process start + join, fork", "ms", 1),
    Row("spawn", "Process start + join, spawn", "ms", 1),
    Row("forkserver", "Process start + join, forkserver", "ms", 8),
    Row("pool", "Pool(2) to its first result", "ms", 1),
]
MANY = "many"
MOST_DESCRIPTORS, MOST_MEGABYTES = 8, 20


class Failed(Exception):
    """A measurement failed."""


def measure(library: str, workload: str) -> float | list[float]:
    """Run one measurement in its own interpreter and session."""
    command = [sys.executable, str(WORKLOADS), library, workload]
    # The standard library's modules are compiled already. procession's must be as well, or every
    # spawned child would compile them again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failed(f"{library}, {workload}: no result in {LIMIT} s") from None
    if process.returncode != 0:
        raise Failed(f"{library}, {workload}: exit code {process.returncode}\n{errors}")
    return json.loads(output)


def in_turn(workload: str, rounds: int) -> dict[str, list[float | list[float]]]:
    """Run rounds of both libraries; the order alternates from round to round."""
    figures: dict[str, list[float | list[float]]] = {library: [] for library in LIBRARIES}
    for number in range(rounds):
        for library in LIBRARIES if number % 2 == 0 else LIBRARIES[::-1]:
            figures[library].append(measure(library, workload))
    return figures


def figure(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{text} {unit}" if unit != "/s" else f"{text}/s"


@dataclass
class Report:
    """The measured figures, and the measurements that failed."""

    say: Callable[[str], None]
    results: list[dict[str, object]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def compare(self, row: Row, rounds: int) -> None:
        figures = in_turn(row.workload, rounds)
        standard, ours = (statistics.median(figures[library]) for library in LIBRARIES)
        ratio = row.ratio(standard, ours)
        reached = row.reached(ratio)
        target = f"{row.target:g}x" if row.target != 1 else "no slower"
        self.say(
            f"{row.title:34} {figure(standard, row.unit):>14} {figure(ours, row.unit):>14} {ratio:7.2f}x"
            f"   {target:9}  {'reached' if reached else 'NOT reached'}"
        )
        self.results.append(
            {
                "name": row.workload,
                "unit": row.unit,
                "ratio": ratio,
                "target": row.target,
                "reached": reached,
                **figures,
            }
        )

    def compare_many(self) -> None:
        figures = {library: measure(library, MANY) for library in LIBRARIES}
        (files, size), (our_files, our_size) = (figures[library] for library in LIBRARIES)
        reached = our_files <= MOST_DESCRIPTORS and our_size < MOST_MEGABYTES
        self.say(
            f"{'1,000 queues and 10,000 locks':34} {f'{files:g} fd, {size:.0f} MB':>14} {f'{our_files:g} fd, {our_size:.0f} MB':>14}"
            f" {'':8}   {'< 20 MB':9}  {'reached' if reached else 'NOT reached'}"
        )
        self.results.append({"name": MANY, "reached": reached, **figures})

    def attempt(self, what: Callable[[], None], title: str) -> None:
        try:
            what()
        except Failed as error:
            self.failures.append(str(error))
            self.say(f"{title:34} FAILED (see below)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three rounds instead of seven")
    parser.add_argument("--only", action="append", choices=[*(row.workload for row in ROWS), MANY], help="this row")
    parser.add_argument("--rounds", type=int, help="rounds of each library")
    parser.add_argument("--json", action="store_true", help="every figure, as JSON")
    parser.add_argument("--strict", action="store_true", help="exit code 1 also when a target is not reached")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 7)
    wanted = set(options.only or [*(row.workload for row in ROWS), MANY])

    report = Report((lambda _: None) if options.json else (lambda text: print(text, flush=True)))
    version = "{}.{}.{}".format(*sys.version_info)
    report.say(f"Python {version}, medians of {rounds} rounds of each in turn\n")
    report.say(f"{'':34} {'std library':>14} {'procession':>14} {'ratio':>8}   {'to reach':9}")
    for row in ROWS:
        if row.workload in wanted:
            report.attempt(lambda row=row: report.compare(row, rounds), row.title)
    if MANY in wanted:
        report.attempt(report.compare_many, "1,000 queues and 10,000 locks")
    if options.json:
        print(json.dumps({"python": version, "rounds": rounds, "rows": report.results}, indent=1))
    for failure in report.failures:
        print(failure, file=sys.stderr)
    missed = [result for result in report.results if not result["reached"]]
    return 1 if report.failures or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
