"""`dump --stacks`: in which Python functions the processes are."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys

import pytest

from tests.sight.family import dump_when_asleep, family, process_of, run

pytestmark = pytest.mark.timeout(120)

#: Answers as py-spy does, with the value of a variable, which must not be shown.
FAKE = """#!/bin/sh
[ "$*" = "dump --nonblocking --json --pid $5" ] || exit 1
echo '[{"pid": 1, "thread_id": 1, "thread_name": "MainThread", "os_thread_id": '$5', "active": true,
  "frames": [{"name": "hold", "filename": "/srv/sick.py", "line": 7, "locals": [{"name": "top-secret"}]}]}]'
"""


def has_pyspy() -> bool:
    """Return whether the command would find py-spy."""
    beside = pathlib.Path(sys.executable).parent / "py-spy"
    return beside.exists() or shutil.which("py-spy") is not None


def dump_stacks(pid: int, capfd: pytest.CaptureFixture[str]) -> dict:
    """Return what `dump --stacks --json` says of a family."""
    capfd.readouterr()
    assert run("dump", str(pid), "--stacks", "--json") == 0
    return json.loads(capfd.readouterr().out)


def functions(process: dict) -> list[str]:
    """Return the names of all calls in the first thread of a process, the innermost first."""
    stacks = process["stacks"]
    assert stacks["error"] is None, stacks
    threads = [one for one in stacks["threads"] if one["thread"] in (process["pid"], None)]
    return [frame["function"] for frame in threads[0]["frames"]]


@pytest.mark.skipif(
    (pathlib.Path(sys.executable).parent / "py-spy").exists(), reason="py-spy itself is found first"
)
def test_functions_are_shown_without_values(tmp_path, capfd, monkeypatch):
    fake = tmp_path / "bin" / "py-spy"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        seen = dump_stacks(root.pid, capfd)
        assert len(seen["processes"]) >= 6
        for process in seen["processes"]:
            assert functions(process) == ["hold"]
        assert run("dump", str(root.pid), "--stacks") == 0
        out = capfd.readouterr().out
        holder = process_of(seen, "holder")["pid"]
        shown = (
            f"  holder ({holder})\n    thread {holder} MainThread\n      hold (/srv/sick.py:7)\n"
        )
        assert shown in out
        assert "top-secret" not in out + json.dumps(seen)
        # Without the option it is not asked.
        assert run("dump", str(root.pid)) == 0
        assert "hold (" not in capfd.readouterr().out


@pytest.mark.skipif(not has_pyspy(), reason="py-spy is not installed")
def test_pyspy_shows_where_each_process_is(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        dump_when_asleep(root.pid, capfd)
        seen = dump_stacks(root.pid, capfd)
        for name, function in (("holder", "hold"), ("wanter", "want"), ("getter", "take")):
            assert function in functions(process_of(seen, name))


@pytest.mark.skipif(sys.version_info < (3, 14), reason="needs sys.remote_exec, of Python 3.14")
@pytest.mark.skipif(has_pyspy(), reason="py-spy is installed, and is used instead")
def test_python_itself_shows_where_each_process_is(tmp_path, method, capfd, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with family(tmp_path, method) as root:
        dump_when_asleep(root.pid, capfd)
        seen = dump_stacks(root.pid, capfd)
        for name, function in (("holder", "hold"), ("wanter", "want"), ("getter", "take")):
            process = process_of(seen, name)
            if "Operation not permitted" in (process["stacks"]["error"] or ""):
                pytest.skip("tracing is not allowed here")
            assert function in functions(process)
            assert "write" not in functions(process)
        # The program goes on, and is not asked twice.
        dump_when_asleep(root.pid, capfd)


@pytest.mark.skipif(has_pyspy(), reason="py-spy is installed")
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python does it itself")
def test_without_either_way_it_is_said_what_is_missing(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir(tmp_path))
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        seen = dump_stacks(root.pid, capfd)
        reasons = {process["stacks"]["error"] for process in seen["processes"]}
        assert reasons == {
            "py-spy is not installed, and Python itself: Python 3.14 or later is needed"
        }
    assert set(os.listdir(tmp_path)) - before == {"sick.py"}, "nothing is left behind"
