"""The record of what was run, and the page made of it."""

from __future__ import annotations

import collections
import json
import pathlib
import platform
from typing import Any

from tests.integration import catalogue, suites

RECORD = catalogue.ROOT / ".build" / f"integration-{catalogue.VERSION}.json"
PAGE = catalogue.ROOT / "docs" / "integrations.md"
METHODS = ("fork", "spawn", "forkserver")
#: A column of a program: under its title, how its runs compare with those on the standard library.
SAME, DIFFERS = "same", "differs"

HEAD = """\
# Integrations: other people's packages

Made by `make integration` (`tests/integration/`), with Python {python}. Each program uses a package as its users do. It
is run on the standard library, under `procession run`, and with procession imported instead of `multiprocessing` where
the program imports it. *Same*: all runs exited with 0, printed the same, and procession wrote no warning that the
standard library did not.

| package | version | what was run | fork | spawn | forkserver |
| --- | --- | --- | --- | --- | --- |
"""

SUITES_HEAD = """
## Their own suites

Each test of the package, once on the standard library and once under `procession run`. *Differ*: tests with another
outcome than there.

| package | version | tests | standard library | procession | differ |
| --- | --- | --- | --- | --- | --- |
"""


def load() -> dict[str, Any]:
    """Return the record: {"programs": {name: {...}}, "suites": {package: {...}}}."""
    if RECORD.exists():
        return json.loads(RECORD.read_text())
    return {"programs": {}, "suites": {}}


def note(*path: str, value: Any) -> None:
    """Enter a value in the record, beside what other runs have entered meanwhile."""
    record = load()
    inner = record
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = value
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def page(record: dict[str, Any]) -> str:
    """Return the page of a record."""
    text = HEAD.format(python=record.get("python", platform.python_version()))
    for program in catalogue.programs():
        done = record["programs"].get(program.name)
        if done is None:
            text += f"| {program.needs[0]} | | {program.title} | not run | not run | not run |\n"
            continue
        cells = [done["methods"].get(method, "not run") for method in METHODS]
        text += (
            f"| {program.needs[0]} | {done['version']} | {program.title} | {' | '.join(cells)} |\n"
        )
    text += "\n" + "".join(
        f"- {program.needs[0]} was run by `procession run` alone: {program.run_only}.\n"
        for program in catalogue.programs()
        if program.run_only
    )
    text += SUITES_HEAD
    notes = []
    for suite in suites.SUITES:
        done = record["suites"].get(suite.package)
        if done is None:
            text += f"| {suite.package} | | {suite.title} | not run | not run | |\n"
            continue
        plain, own = done["plain"], done["run"]
        changed = different(plain, own)
        notes += changed
        cells = [
            suite.package,
            done["version"],
            suite.title,
            _counts(plain),
            _counts(own),
            str(len(changed)),
        ]
        text += f"| {' | '.join(cells)} |\n"
    if notes:
        text += "\n" + "".join(f"- `{name}`: {_reason(name)}.\n" for name in notes)
    return text


def different(plain: dict[str, str], own: dict[str, str]) -> list[str]:
    """Return the tests whose outcome differs; one that did not run has none."""
    return sorted(test for test in plain.keys() | own.keys() if plain.get(test) != own.get(test))


def _counts(outcomes: dict[str, str]) -> str:
    counted = collections.Counter(outcomes.values())
    return ", ".join(
        f"{counted[name]} {name}"
        for name in ("passed", "skipped", "failure", "error")
        if counted[name]
    )


def _reason(test: str) -> str:
    found = [reason for end, reason in suites.EXPECTED.items() if test.endswith(end)]
    return found[0] if found else "not explained"


def write(record: dict[str, Any], path: pathlib.Path = PAGE) -> None:
    path.write_text(page(record), encoding="utf-8")
