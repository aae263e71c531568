"""Run a program on the standard library and on procession, and compare."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

from tests.conftest import PACKAGE_FOLDER
from tests.integration.catalogue import FOLDER, Program

LIMIT = 300  # seconds for a run: some packages take long to import on a busy machine
_PACKAGE = re.compile(r"^( *(?:import|from) )multiprocessing\b(?=( import)?)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended, with its folder's name taken out of the output."""

    status: int | str
    out: str
    errors: str

    def __str__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.errors}"


def ways(program: Program) -> list[str]:
    """Return how a program can be put on procession.

    "run": by `procession run`; "import": by another import in the program.
    """
    if program.run_only or not _PACKAGE.search(program.text):
        return ["run"]
    return ["run", "import"]


def with_procession(text: str) -> str:
    """Return the text of a program that imports procession instead of `multiprocessing`."""
    return _PACKAGE.sub(
        lambda found: found[1] + ("procession" if found[2] else "procession as multiprocessing"),
        text,
    )


def run(program: Program, method: str, under: str, folder: pathlib.Path) -> Ended:
    """Run a program in a folder of its own below `folder`.

    `under` is "plain", with the standard library, or one of `ways`.
    """
    own = folder / f"{program.name}-{method}-{under}"
    own.mkdir()
    script = own / "program.py"
    text = with_procession(program.text) if under == "import" else program.text
    script.write_text(text, encoding="utf-8")
    before = ["-m", "procession", "run"] if under == "run" else []
    try:
        done = subprocess.run(
            [sys.executable, *before, str(script), method],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=environment(),
            cwd=own,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as late:
        told = [(text or b"").decode(errors="replace") for text in (late.stdout, late.stderr)]
        return Ended(f"not ended after {LIMIT} s", *told)
    return Ended(
        done.returncode, *(text.replace(str(own), "FOLDER") for text in (done.stdout, done.stderr))
    )


def environment() -> dict[str, str]:
    """Return an environment in which the packages of `FOLDER` and procession are found."""
    folders = [PACKAGE_FOLDER, str(FOLDER)]
    path = os.pathsep.join([str(FOLDER / "bin"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PATH": path}


def difference(plain: Ended, own: Ended) -> str | None:
    """Return what a run on procession did otherwise than `plain`, or None.

    Warnings of the packages may differ in their wording; new ones may not appear.
    """
    if (plain.status, plain.out) != (own.status, own.out):
        return f"the standard library: {plain}\n\nprocession: {own}"
    if own.errors and not plain.errors:
        return f"only on procession:\n{own.errors}"
    return None
