"""Compare procession with the standard library: the same work on both, in turn, on this machine.

Each measurement runs in a fresh interpreter. Rounds alternate between the libraries, so that other
load on the machine affects both. Prints for each library the median, least and greatest figure and
the processor seconds of all processes of a measurement, and how many times better procession is:
absolute times differ between machines, ratios hardly do.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import measure
from rows import Row
from workloads import ROWS

MEASURE = pathlib.Path(measure.__file__).resolve()
LIBRARIES = ("multiprocessing", "procession")
LIMIT = 120
PR_SET_CHILD_SUBREAPER = 36
MANY = "many"
MANY_TITLE = "1,000 queues and 10,000 locks"
MOST_DESCRIPTORS, MOST_MEGABYTES = 8, 20


class Failed(Exception):
    """A measurement failed."""


@dataclass(frozen=True)
class Measured:
    """One measurement: its figure, and the processor seconds of all its processes."""

    figure: Any
    cpu: float


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def adopt_orphans() -> None:
    """Adopt a measurement's orphans, so that their processor time is counted."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    signal.signal(signal.SIGALRM, out_of_time)


def reap_orphans(session: int) -> None:
    """Wait for the processes that a measurement leaves behind: its servers end after it."""
    signal.alarm(LIMIT)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass
    except TimeoutError:
        os.killpg(session, signal.SIGKILL)
        raise Failed(
            f"a process of session {session} outlived its measurement by {LIMIT} s"
        ) from None
    finally:
        signal.alarm(0)


def out_of_time(*_: object) -> None:
    raise TimeoutError


def run(library: str, workload: str, *options: str) -> Measured:
    """Run one measurement in its own interpreter and session."""
    command = [sys.executable, str(MEASURE), library, workload, *options]
    # The standard library's modules are compiled already. procession's must be as well, or every
    # spawned child would compile them again.
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    # numpy's threads for linear algebra spin for a while after they have started, on the cores that are measured.
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    before = processor_seconds()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    )
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failed(f"{library}, {workload}: no result in {LIMIT} s") from None
    finally:
        reap_orphans(process.pid)
    if process.returncode != 0:
        raise Failed(f"{library}, {workload}: exit code {process.returncode}\n{errors}")
    return Measured(json.loads(output), processor_seconds() - before)


def in_turn(workload: str, rounds: int, *options: str) -> dict[str, list[Measured]]:
    """Run rounds of both libraries; the order alternates from round to round."""
    figures: dict[str, list[Measured]] = {library: [] for library in LIBRARIES}
    for number in range(rounds):
        for library in LIBRARIES if number % 2 == 0 else LIBRARIES[::-1]:
            figures[library].append(run(library, workload, *options))
    return figures


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(measured: list[Measured]) -> str:
    """Return median, least and greatest figure, and the median of processor seconds."""
    values = [each.figure for each in measured]
    cpu = statistics.median(each.cpu for each in measured)
    extent = f"({short(min(values))}-{short(max(values))})"
    return f"{short(statistics.median(values)):>9} {extent:21} {cpu:5.1f} s"


def markdown(result: dict[str, Any]) -> str:
    """Return a row of a table in Markdown: medians, and the processor seconds of both libraries."""
    if result["name"] == MANY:
        cells = [
            f"{files:g} descriptors, {size:.0f} MB"
            for files, size in (result[library] for library in LIBRARIES)
        ]
        return f"| {MANY_TITLE} | {' | '.join(cells)} | | | |"
    cells = [
        f"{short(statistics.median(result[library]))} {result['unit']}" for library in LIBRARIES
    ]
    cpu = " / ".join(f"{statistics.median(result['cpu'][library]):.1f} s" for library in LIBRARIES)
    goal = f"{result['goal']:g}x" if result["goal"] != 1 else ""
    return f"| {result['title']} | {' | '.join(cells)} | {result['ratio']:.1f}x | {goal} | {cpu} |"


@dataclass
class Report:
    """The measured figures, and the measurements that failed."""

    say: Callable[[str], None]
    pin: str | None
    results: list[dict[str, object]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def head(self) -> None:
        library = f"{'median':>9} {'(least-greatest)':21} {'cpu':>7}"
        self.say(f"{'':44}   {'standard library':38}   procession")
        self.say(f"{'':44} {library}   {library} {'ratio':>8}   goal")

    def compare(self, name: str, row: Row, rounds: int) -> None:
        figures = in_turn(name, rounds, *(["--pin", self.pin] if self.pin else []))
        standard, ours = (
            statistics.median(each.figure for each in figures[library]) for library in LIBRARIES
        )
        ratio = row.ratio(standard, ours)
        reached = row.reached(ratio)
        goal = f"{row.goal:g}x" if row.goal != 1 else "no slower"
        cells = "   ".join(cell(figures[library]) for library in LIBRARIES)
        self.say(
            f"{f'{row.title}, {row.unit}':44} {cells} {ratio:7.2f}x   {goal:9}"
            f"  {'reached' if reached else 'NOT reached'}"
        )
        self.results.append(
            {
                "name": name,
                "title": row.title,
                "unit": row.unit,
                "ratio": ratio,
                "goal": row.goal,
                "reached": reached,
                "cpu": {library: [each.cpu for each in figures[library]] for library in LIBRARIES},
                **{library: [each.figure for each in figures[library]] for library in LIBRARIES},
            }
        )

    def compare_many(self) -> None:
        figures = {library: run(library, MANY).figure for library in LIBRARIES}
        (files, size), (our_files, our_size) = (figures[library] for library in LIBRARIES)
        reached = our_files <= MOST_DESCRIPTORS and our_size < MOST_MEGABYTES
        self.say(
            f"{MANY_TITLE:44} {f'{files:g} descriptors, {size:.0f} MB':38}"
            f"   {f'{our_files:g} descriptors, {our_size:.0f} MB':38} {'':8}   {'< 20 MB':9}"
            f"  {'reached' if reached else 'NOT reached'}"
        )
        self.results.append({"name": MANY, "reached": reached, **figures})

    def attempt(self, what: Callable[[], None], title: str) -> None:
        try:
            what()
        except Failed as error:
            self.failures.append(str(error))
            self.say(f"{title:44} FAILED (see below)")


def main() -> int:
    names = [*ROWS, MANY]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three rounds instead of seven")
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="ROW",
        help=f"only this row, of: {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=int, help="rounds of each library")
    parser.add_argument(
        "--pin",
        choices=measure.PINS,
        help="bind forked processes to one core, or each to the next core",
    )
    parser.add_argument("--json", action="store_true", help="every figure, as JSON")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/performance.md")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 also when a goal is not reached"
    )
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 7)
    wanted = options.only or names

    adopt_orphans()
    quiet = options.json or options.markdown
    report = Report(
        (lambda _: None) if quiet else (lambda text: print(text, flush=True)), options.pin
    )
    version = "{}.{}.{}".format(*sys.version_info)
    report.say(f"Python {version}, {rounds} rounds of each in turn\n")
    report.head()
    for name, row in ROWS.items():
        if name in wanted:
            report.attempt(lambda name=name, row=row: report.compare(name, row, rounds), row.title)
    if MANY in wanted:
        report.attempt(report.compare_many, MANY_TITLE)
    if options.json:
        print(
            json.dumps(
                {"python": version, "rounds": rounds, "pin": options.pin, "rows": report.results},
                indent=1,
            )
        )
    if options.markdown:
        print(
            "| | `multiprocessing` | procession | ratio | goal | CPU |\n| --- | --- | --- | --- | --- | --- |"
        )
        print(*map(markdown, report.results), sep="\n")
    for failure in report.failures:
        print(failure, file=sys.stderr)
    missed = [result for result in report.results if not result["reached"]]
    return 1 if report.failures or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
