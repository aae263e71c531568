"""The reference has every public name, and the texts of errors that the package raises."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest

import procession

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
MODULES = [
    "procession",
    *(
        f"procession.{name}"
        for name in (
            *("connection", "managers", "pool", "process", "queues", "reduction"),
            *("shared_memory", "sharedctypes", "synchronize"),
        )
    ),
]


def sources(*folders):
    return "\n".join(
        path.read_text()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".rs") and "tests" not in path.parts
    )


@pytest.mark.parametrize("name", MODULES)
def test_has_every_public_name(name):
    directives = re.findall(
        r"^\.\. (?:auto)?(?:class|data|exception|function):: (\S+)",
        "\n".join(page.read_text() for page in REFERENCE.glob("*.rst")),
        re.MULTILINE,
    )
    shown = {directive.rpartition(".")[2] for directive in directives}
    assert directives
    assert set(importlib.import_module(name).__all__) <= shown


def test_every_error_is_in_the_package():
    text = sources("python", "crates")
    titles = re.findall(r"^### `(.*)`$", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    assert titles
    parts = [part.strip(" '") for title in titles for part in re.split(r"\.\.\.|SIGKILL", title)]
    assert not [part for part in parts if len(part) > 6 and part not in text]


def test_every_exception_is_among_the_errors():
    text = (REFERENCE / "errors.md").read_text()
    own = {name for name in procession.__all__ if getattr(procession, name, None) in exceptions()}
    silent = {"BufferTooShort", "TimeoutError"}  # they have no text of their own
    assert not [name for name in own - silent if name not in text]


def exceptions():
    pending, found = [procession.ProcessError], set()
    while pending:
        found.add(error := pending.pop())
        pending += error.__subclasses__()
    return found


def test_every_variable_is_described():
    text = sources("python", "crates/procession", "crates/procession-core")
    used = set(re.findall(r'"(PROCESSION_[A-Z_]+)"', text))
    described = set(re.findall(r"`(PROCESSION_\w+)`", (REFERENCE / "environment.md").read_text()))
    assert used == described
