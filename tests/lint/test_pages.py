"""The files that the pages name exist."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/*.md",
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
    names = set(re.findall(r"`([\w./-]+/[\w.-]+\.(?:rs|py|pyi|md|toml|txt))`", page.read_text()))
    roots = [page.parent, *ROOTS]
    names = {name for name in names if "NAME" not in name}
    missing = [name for name in sorted(names) if not any((root / name).exists() for root in roots)]
    assert not missing
