"""The programs that the pages show do what the pages say.

The fenced blocks of a page are run in their order, in one folder:

- `python`: a program, which is saved and run. Its name is that of its first line, if this is a
  comment like `# words.py`. It exits with 0 and writes nothing to standard error, where a child
  would report its failure. If the next block of the page is `text`, this is what it prints.
- `console`: after each `$`, a command for a shell. What follows is what it writes.
- `pycon`: sessions of the interpreter, of which a page has one.

In what is written, `...` stands for anything.
"""

from __future__ import annotations

import doctest
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

import procession
from tests.conftest import METHODS, PACKAGE_FOLDER

# A page has many programs, and the machine may have other work.
pytestmark = pytest.mark.timeout(300)

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
#: Folders of packages that no other test should meet: `make docs` and `make bench` fill them.
EXTRAS = [
    str(ROOT / ".build" / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}")
    for name in ("pages", "peers")
]
START = str(ROOT / "tests" / "programs" / "start.py")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r"^ *(?:import|from) (\w+)", re.MULTILINE)


def blocks(page):
    return BLOCK.findall(page.read_text())


def with_programs():
    kinds = {"python", "console", "pycon"}
    found = [page for page in PAGES if kinds & {kind for kind, _ in blocks(page)}]
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in found]


def with_start_methods():
    tutorial = [page for page in with_programs() if "tutorial" in page.id]
    return [
        pytest.param(*page.values, method, id=f"{page.id}-{method}")
        for page in tutorial
        for method in METHODS
        if method != procession.get_all_start_methods()[0]
    ]


class Folder:
    """The folder of a page: its files, and commands that find Python and procession."""

    def __init__(self, path):
        self.path = path / "page"
        self.path.mkdir()
        commands = path / "bin"
        commands.mkdir()
        for name, options in (("python", ""), ("procession", "-m procession")):
            command = commands / name
            command.write_text(f'#!/bin/sh\nexec {sys.executable} {options} "$@"\n')
            command.chmod(0o755)
        self.commands = f"{commands}:{os.environ['PATH']}"

    def run(self, command, text, **options):
        """Run a command. Skip the test if `text`, the program, needs a package that is missing."""
        names = [name for name in IMPORT.findall(text) if not self.has(name)]
        lacking = [name for name in names if importlib.util.find_spec(name) is None]
        extras = EXTRAS if lacking else []
        for name in lacking:
            if not any(os.path.exists(f"{folder}/{name}") for folder in EXTRAS):
                pytest.skip(f"{name} is not installed")
        environment = {**os.environ, "PATH": self.commands, "COLUMNS": "80"}
        # As in a terminal: a peer's forked workers would print what their parent had buffered once more.
        environment["PYTHONUNBUFFERED"] = "1"
        environment["PYTHONPATH"] = os.pathsep.join([PACKAGE_FOLDER, *extras])
        return subprocess.run(
            command,
            cwd=self.path,
            env=environment,
            text=True,
            timeout=200,
            stdout=subprocess.PIPE,
            check=False,
            **options,
        )

    def has(self, name):
        return (self.path / f"{name}.py").exists()

    def save(self, program):
        named = re.match(r"# ([\w./]+\.py)\n", program)
        path = self.path / (named.group(1) if named else "program.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(program)
        return path.relative_to(self.path)


def matches(want, got):
    return doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)


def check(want, got, what):
    assert matches(want, got), f"{what}\n--- the page says\n{want}--- it is\n{got}"


@pytest.mark.parametrize("page", with_programs())
def test_does_what_the_page_says(page, tmp_path):
    folder = Folder(tmp_path)
    found = blocks(page)
    for number, (kind, text) in enumerate(found):
        following = found[number + 1] if number + 1 < len(found) else ("", "")
        if kind == "python":
            run_program(folder, [sys.executable], text, following)
        elif kind == "console":
            run_commands(folder, text)
    sessions = "\n".join(text for kind, text in found if kind == "pycon")
    if sessions:
        (folder.path / "sessions.txt").write_text(sessions)
        doctest_run = [sys.executable, "-m", "doctest", "-o", "ELLIPSIS", "sessions.txt"]
        done = folder.run(doctest_run, sessions.replace(">>> ", ""))
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("page", "method"), with_start_methods())
def test_tutorial_works_with_the_other_start_methods(page, method, tmp_path):
    folder = Folder(tmp_path)
    found = blocks(page)
    for number, (kind, text) in enumerate(found):
        following = found[number + 1] if number + 1 < len(found) else ("", "")
        if kind == "python" and "set_start_method" not in text:
            run_program(folder, [sys.executable, START, "procession", method], text, following)


def run_program(folder, command, text, following):
    path = folder.save(text)
    done = folder.run([*command, str(path)], text, stderr=subprocess.PIPE)
    assert not done.stderr and done.returncode == 0, f"{text}\n{done.stderr}"
    if following[0] == "text":
        check(following[1], done.stdout, text)


def run_commands(folder, text):
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, want = step.partition("\n")
        programs = "".join(path.read_text() for path in folder.path.glob("*.py"))
        done = folder.run(command, programs, shell=True, stderr=subprocess.STDOUT)
        check(want, done.stdout, f"$ {command}")
