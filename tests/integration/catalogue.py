"""The programs of ``programs/`` and the packages that each needs.

A program's docstring has what it does, then a line ``Needs:`` with the names of distributions, and
perhaps a line ``Run only:`` with the reason why procession cannot be imported instead of
`multiprocessing`. Its argument is a start method. It prints the same each time.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.metadata
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
#: Where `make integration` installs the packages, so that no other test meets them.
FOLDER = ROOT / ".build" / f"integration-{VERSION}"
#: Packages of some gigabytes, which are installed on request.
LARGE = {"torch"}


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that uses other packages.

    `needs` are their distributions, the one that it is about first. `run_only` is the reason why it
    works under `procession run` alone, or empty.
    """

    path: pathlib.Path
    title: str
    needs: tuple[str, ...]
    run_only: str = ""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def missing(self) -> list[str]:
        """Return the needed distributions that are not installed."""
        return [name for name in self.needs if version(name) is None]


@functools.cache
def programs() -> list[Program]:
    return [_read(path) for path in sorted((HERE / "programs").glob("*.py"))]


def _read(path: pathlib.Path) -> Program:
    described = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = re.fullmatch(r"(.+)\n\nNeeds: (.+)(?:\nRun only: (.+))?", described)
    if found is None:
        raise ValueError(f"{path} has no docstring of a title, an empty line, and 'Needs: ...'")
    return Program(path, found[1], tuple(found[2].split(", ")), found[3] or "")


@functools.cache
def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for each in importlib.metadata.distributions(path=[str(FOLDER), *sys.path]):
        found.setdefault(_same(each.name), each.version)
    return found


def _same(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    return _versions().get(_same(distribution))
