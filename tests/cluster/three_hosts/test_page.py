"""The program of the page "From one machine to a cluster" prints what the page says."""

from __future__ import annotations

import pytest

from tests.cluster.hosts import ADDRESS, ROOT

pytestmark = pytest.mark.timeout(400)

PAGE = ROOT / "docs" / "howto" / "cluster.md"


def test_the_page(begin):
    launcher = ("-m", "procession", "run", "--cluster", ADDRESS)
    program = begin("ray", "squares.py", launcher=launcher)
    out, err = program.end()
    assert program.process.returncode == 0, f"{out}\n{err}"
    assert f"`procession run --cluster {ADDRESS} squares.py` prints" in PAGE.read_text()
    assert f"```text\n{out}```" in PAGE.read_text(), f"{out}\n{err}"


def test_the_program_of_the_page(begin):
    out, err = begin("fork", "squares.py").end()
    assert "the sum is 328350\n" in out, f"{out}\n{err}"
