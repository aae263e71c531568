"""The fork server keeps one child forked ahead for a while; its death at any time harms no other process.

What a preloaded module leaves behind is tested here, too.
"""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import sys

import pytest

import procession
from procession import forkserver
from tests.waiting import LONG, until


def own_parent(results):
    results.put((os.getpid(), os.getppid()))


def start_one(context) -> tuple[int, int]:
    results = context.SimpleQueue()
    process = context.Process(target=own_parent, args=(results,))
    process.start()
    process.join(LONG)
    assert process.exitcode == 0
    return results.get()


def children_of(pid: int) -> list[int]:
    return [
        int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


def ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], LONG)[0])


@pytest.fixture
def context():
    return procession.get_context("forkserver")


@pytest.fixture
def patient(monkeypatch):
    """Have the spare of the fork server stay."""
    forkserver._forkserver._stop()
    with monkeypatch.context() as patch:
        patch.setattr(forkserver._forkserver, "_spare_seconds", 2 * LONG)
        yield
    forkserver._forkserver._stop()


def wait_for_spare(fork_server: int, last: int) -> int:
    """Wait for the spare.

    It is forked after the answer, and the last child may not be reaped yet.
    """
    until(lambda: set(children_of(fork_server)) - {last})
    (spare,) = set(children_of(fork_server)) - {last}
    return spare


def test_the_spare_becomes_the_next_child(context, patient):
    last, fork_server = start_one(context)
    spare = wait_for_spare(fork_server, last)
    assert start_one(context) == (spare, fork_server)


def test_an_unused_spare_leaves(context):
    last, fork_server = start_one(context)
    until(lambda: not children_of(fork_server))
    pid, parent = start_one(context)
    assert parent == fork_server
    assert pid != last


def test_a_spare_that_was_killed_is_replaced(context, patient):
    last, fork_server = start_one(context)
    for _ in range(5):
        spare = wait_for_spare(fork_server, last)
        watched = os.pidfd_open(spare)
        os.kill(spare, signal.SIGKILL)
        assert ended(watched)
        os.close(watched)
        last, parent = start_one(context)
        assert parent == fork_server
        assert last != spare


def test_the_spare_leaves_with_its_server(context, patient):
    last, fork_server = start_one(context)
    watched = os.pidfd_open(wait_for_spare(fork_server, last))
    os.kill(fork_server, signal.SIGKILL)
    assert ended(watched)
    os.close(watched)
    _, successor = start_one(context)
    assert successor != fork_server
    forkserver._forkserver._stop()


PRELOADED = """
import os, select, signal, procession, procession.forkserver

lock = procession.Lock()  # made once, in the fork server, and inherited by its children


def outlive(fork_server_killed, results):
    fork_server_killed.wait()
    others = [procession.Lock() for _ in range(1000)]
    with lock:
        results.put(all(other.acquire(False) for other in others))


if __name__ == "__main__":
    context = procession.get_context("forkserver")
    killed, results = context.Event(), context.SimpleQueue()
    child = context.Process(target=outlive, args=(killed, results))
    child.start()
    fork_server = procession.forkserver._forkserver._forkserver_pid
    watched = os.pidfd_open(fork_server)
    os.kill(fork_server, signal.SIGKILL)
    select.select([watched], [], [])
    killed.set()
    print(results.get())
"""


def test_what_a_preloaded_module_made_outlives_the_server(tmp_path):
    program = tmp_path / "preloaded.py"
    program.write_text(PRELOADED)
    run = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (run.stdout, run.stderr) == ("True\n", "")
