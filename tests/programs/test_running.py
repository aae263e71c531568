"""The harness detects what it must: a hang, a process left behind, a torn line, a wrong line."""

from __future__ import annotations

import sys

import pytest

from tests.programs import checks
from tests.programs.running import Run, command_line, members, run

PYTHON = [sys.executable, "-c"]
LEAVES_ONE = "import subprocess; print(subprocess.Popen(['sleep', '1234']).pid)"


def test_a_program_that_ends() -> None:
    result = run([*PYTHON, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"])
    assert (result.code, result.stdout, result.stderr, result.left) == (3, "out\n", "err\n", [])


def test_a_hang_is_stopped_and_says_where() -> None:
    result = run([*PYTHON, "import threading; threading.Event().wait()"], limit=2)
    assert result.code is None
    assert "threading.py" in result.stderr
    assert result.left == []


def test_a_process_left_behind_is_named_and_killed() -> None:
    result = run([*PYTHON, LEAVES_ONE])
    assert result.code == 0
    pid = int(result.stdout)
    assert result.left == [f"{pid} sleep 1234"]
    assert command_line(pid) in ("", "(gone)")
    assert members(pid) == []


def test_an_ended_last_line_is_asked_for() -> None:
    with pytest.raises(AssertionError, match="torn last line"):
        _ = Run(0, "one\ntwo", "", 0).lines


def test_lost_and_doubled_lines_are_seen() -> None:
    with pytest.raises(AssertionError, match=r"missing \['b'\], not wanted \['a'\]"):
        checks.same_lines(["a", "a"], ["a", "b"])


def test_a_mixed_line_is_seen() -> None:
    with pytest.raises(AssertionError, match="not of the form"):
        checks.five_processes(
            Run(
                0,
                "parent 1\nprocess 2 doubles 5: 10process 3 doubles 10: 20\n\nall five have ended\n",
                "",
                0,
            )
        )
