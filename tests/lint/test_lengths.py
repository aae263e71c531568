"""A file of more than 450 lines says at its head why it is long."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Folders with code of the project, and the patterns of its files.
FOLDERS = ["benches", "crates", "docs", "examples", "fuzz", "python", "release", "tests"]
SUFFIXES = {".py", ".pyi", ".rs"}
MOST = 450
#: What a long file's head says, before the reason itself.
FORM = "The file is long because "


def head(text: str) -> str:
    """Return the text of a file's first comment or docstring, on one line."""
    docstring = re.match(r'"""(.*?)"""', text, re.DOTALL)
    if docstring:
        return " ".join(docstring[1].split())
    comment = re.match(r"(?://!.*\n)*", text)
    assert comment is not None
    return " ".join(comment[0].replace("//!", "").split())


def is_right(text: str) -> bool:
    return len(text.splitlines()) <= MOST or FORM in head(text)


def files() -> list[pathlib.Path]:
    found = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.suffix in SUFFIXES and "target" not in parts and path.is_file():
                found.append(path)
    return found


def test_long_files_say_why():
    paths = files()
    assert len(paths) > 500, "the folders are not those of the project"
    wrong = [str(path.relative_to(ROOT)) for path in paths if not is_right(path.read_text())]
    assert not wrong, f"cut these files, or say at their head: {FORM}..."


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("x = 1\n" * MOST, True),
        ("x = 1\n" * (MOST + 1), False),
        ('"""What it is. The file is long\nbecause it is."""\n' + "x = 1\n" * MOST, True),
        ('"""What it is."""\n' + "# The file is long because it is.\n" * MOST, False),
        ("//! What it is. The file is\n//! long because it is.\n" + "a;\n" * MOST, True),
        ("//! What it is.\n" + "// The file is long because it is.\n" * MOST, False),
    ],
)
def test_it_reads_the_head(text, right):
    assert is_right(text) is right
