"""What README.md says of procession beside its alternatives is what a program sees."""

from __future__ import annotations

import importlib.util
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_row_of_procession(monkeypatch):
    path = ROOT / "benches" / "alternatives.py"
    spec = importlib.util.spec_from_file_location("alternatives", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "alternatives", module)
    spec.loader.exec_module(module)
    table = (ROOT / "README.md").read_text()
    assert f"| | {' | '.join(module.QUESTIONS)} |" in table
    assert module.row("procession") in table.splitlines()
