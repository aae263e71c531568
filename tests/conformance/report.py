"""The results of a run: its table, the record of full runs, and docs/compatibility.md."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import json
import pathlib
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RECORDS = ROOT / ".build" / "conformance"
DOCUMENT = ROOT / "docs" / "compatibility.md"
SUITES = ("multiprocessing", "main_handling", "futures")
GROUPS = {"multiprocessing": ("multiprocessing", "main_handling"), "futures": ("futures",)}
STATUSES = ("ok", "skip", "fail", "hang", "crash", "excused")


def baseline() -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """Return (Python, method) -> tests, passed, must pass, futures; see baseline.txt."""
    rows = (line.split() for line in (HERE / "baseline.txt").read_text().splitlines())
    return {
        (row[0], row[1]): tuple(map(int, row[2:]))  # type: ignore[misc]
        for row in rows
        if row and row[0] != "#"
    }


@dataclasses.dataclass
class Result:
    """One start method on one Python: the statuses of each test, one for each run."""

    python: str
    method: str
    runs: dict[str, dict[str, list[str]]]
    missing: list[str]
    seconds: float

    @property
    def version(self) -> str:
        """Return the Python's version without the patch number."""
        return ".".join(self.python.split(".")[:2])

    def counts(self, group: str) -> collections.Counter[str]:
        """Count the tests of a group of suites by status; the worst of a test's runs counts."""
        return collections.Counter(
            worst(runs) for suite in GROUPS[group] for runs in self.runs.get(suite, {}).values()
        )

    def bad(self) -> dict[str, list[str]]:
        """Return the tests that did not pass in every run."""
        return {
            test: statuses
            for suite in self.runs.values()
            for test, statuses in suite.items()
            if worst(statuses) not in ("ok", "skip", "excused")
        }

    def must_pass(self, group: str) -> int | None:
        """Return how many tests must pass, where the baseline gives a number."""
        known = baseline().get((self.version, self.method))
        if known is None:
            return None
        return known[2] if group == "multiprocessing" else known[3]

    def number_of_runs(self) -> int:
        return max((len(s) for suite in self.runs.values() for s in suite.values()), default=0)

    def save(self) -> None:
        RECORDS.mkdir(parents=True, exist_ok=True)
        record = RECORDS / f"{self.version}-{self.method}.json"
        record.write_text(json.dumps(dataclasses.asdict(self), indent=1))


def failed(counts: collections.Counter[str]) -> int:
    """Return how many tests neither passed nor were skipped."""
    return sum(counts[status] for status in ("fail", "hang", "crash"))


def worst(statuses: list[str]) -> str:
    """Return the status that counts for several runs."""
    return next((s for s in statuses if s not in ("ok", "skip", "excused")), statuses[0])


def print_table(results: list[Result], complete: bool) -> None:
    """Print the table at a run's end, with the baseline if all tests were to run."""
    print(
        f"\n{'Python':<9}{'method':<12}{'suite':<17}{'tests':>6}"
        + "".join(f"{s:>8}" for s in STATUSES)
        + "   must pass"
    )
    for result in results:
        for group in GROUPS:
            counts = result.counts(group)
            if group in result.missing:
                print(
                    f"{result.python:<9}{result.method:<12}{group:<17}not part of this interpreter"
                )
            elif counts:
                must = result.must_pass(group) if complete else None
                print(
                    f"{result.python:<9}{result.method:<12}{group:<17}{sum(counts.values()):>6}"
                    + "".join(f"{counts[s]:>8}" for s in STATUSES)
                    + (f"{must:>12}" if must is not None else "")
                )
        print(
            f"{result.python:<9}{result.method:<12}{result.number_of_runs()} runs, {result.seconds:.0f} s"
        )
        for test, statuses in result.bad().items():
            print(f"    {test}: {' '.join(statuses)}")


def write(skips: dict[str, str]) -> None:
    """Write docs/compatibility.md from the records of full runs."""
    results = [Result(**json.loads(path.read_text())) for path in RECORDS.glob("*.json")]
    results.sort(
        key=lambda r: (
            [int(n) for n in r.version.split(".")],
            ("fork", "spawn", "forkserver", "ray").index(r.method),
        )
    )
    lines = [
        "# Compatibility: CPython's own tests",
        "",
        "Made by `make conformance CONFORMANCE_ARGS=--report` (`tests/conformance/`): the tests that each Python brings along, run from",
        "its own folder, unmodified, with procession under the name `multiprocessing` in parent and children. The first group of columns is",
        "`_test_multiprocessing` and `test_multiprocessing_main_handling`. *Must pass*: what the standard library passes, without the tests",
        "whose subject is a private internal of it. *Excused*: the list further down. *Failed*: in at least one of the runs.",
        "",
        "| Python | start method | runs | tests | passed | must pass | skipped by themselves | excused | failed | process-pool futures passed | must pass |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        counts = result.counts("multiprocessing")
        cells: list[object] = [result.python, result.method, result.number_of_runs()]
        cells += [sum(counts.values()), counts["ok"], result.must_pass("multiprocessing") or ""]
        cells += [counts["skip"], counts["excused"], failed(counts)]
        if "futures" in result.missing:
            cells += ["not there", ""]
        else:
            counts = result.counts("futures")
            cells += [
                f"{counts['ok']} ({failed(counts)} failed)",
                result.must_pass("futures") or "",
            ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "## Deviations", ""]
    tests = {test for r in results for suite in r.runs.values() for test in suite}
    for pattern, reason in skips.items():
        if any(fnmatch.fnmatch(test, pattern) for test in tests):
            text = f"- `{pattern}` is excused: {reason}."
            lines += textwrap.wrap(
                text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
    for result in results:
        for test, statuses in result.bad().items():
            lines.append(
                f"- Python {result.python}, {result.method}: `{test}` {', '.join(statuses)}."
            )
    done = {(result.version, result.method) for result in results}
    lacking = [
        f"{version} {method}" for version, method in baseline() if (version, method) not in done
    ]
    if lacking:
        lines += ["", f"Not run for this page: {', '.join(lacking)}."]
    notes = HERE / "notes.md"
    lines += ["", notes.read_text().rstrip()] if notes.exists() else []
    DOCUMENT.write_text("\n".join(lines) + "\n")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
