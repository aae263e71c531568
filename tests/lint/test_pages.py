"""The files that the pages name exist, and no page has a placeholder."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/**/*.md",
    "examples/README.md",
]
#: Where a name may begin.
ROOTS = [
    ROOT,
    ROOT / "crates/procession-core/src",
    ROOT / "crates/procession",
    ROOT / "crates/procession-killer/src",
    ROOT / "python/procession",
]


def pages():
    found = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in found]


@pytest.mark.parametrize("page", pages())
def test_files_exist(page):
    text = page.read_text()
    names = set(re.findall(r"`([\w./-]+/[\w.-]+\.(?:rs|py|pyi|md|toml|txt))`", text))
    roots = [page.parent, *ROOTS]
    names = {name for name in names if "NAME" not in name}
    missing = [name for name in sorted(names) if not any((root / name).exists() for root in roots)]
    linked = set(re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text))
    missing += [name for name in sorted(linked) if not (page.parent / name).exists()]
    assert not missing
    assert not re.findall(r"^[A-Z]{3,}$", text, re.MULTILINE), "a placeholder"
