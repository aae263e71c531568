"""Whole programs: the interpreter's end, and Ctrl-C."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(60)

PROGRAM = """
import contextlib, os, signal, sys, threading, time
import procession
from procession import actor

class Worker:
    def pid(self):
        return os.getpid()
    def wait(self, event, forever):
        event.set()
        forever.wait()
    def add(self):
        return 1

if __name__ == "__main__":
    procession.set_start_method(sys.argv[1])
    worker = actor.options(max_restarts=None)(Worker)
    began, forever = procession.Event(), procession.Event()
    print(worker.pid(), flush=True)
"""

PENDING = """
    future = actor.submit(worker.wait, began, forever)
    def wait():
        with contextlib.suppress(procession.ActorDied):
            worker.wait(began, forever)
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    began.wait()
    print("end", flush=True)
"""

INTERRUPTED = """
    def interrupt():
        began.wait()
        # As a terminal does: to all processes of the group.
        os.killpg(0, signal.SIGINT)

    os.setpgid(0, 0)
    thread = threading.Thread(target=interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    grouped = actor(Worker)
    thread.start()
    try:
        grouped.wait(began, forever)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    thread.join()
    forever.set()
    print(grouped.add(), worker.add())
"""

KILLED = """
    future = actor.submit(worker.wait, began, forever)
    began.wait()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def gone(pid):
    from tests.waiting import is_running, until

    until(lambda: not is_running(pid))
    return True


def test_the_interpreter_ends_with_calls_pending(run_program, method):
    result = run_program(PROGRAM + PENDING, method)
    assert result.stderr == ""
    pid, end = result.stdout.split()
    assert (end, result.returncode) == ("end", 0)
    assert gone(int(pid))


def test_ctrl_c_ends_the_wait_and_not_the_actor(run_program, method):
    result = run_program(PROGRAM + INTERRUPTED, method)
    assert result.stderr == ""
    assert result.stdout.split()[1:] == ["interrupted", "1", "1"]
    assert result.returncode == 0


def test_the_actor_ends_with_a_killed_parent(run_program, method):
    result = run_program(PROGRAM + KILLED, method)
    assert result.returncode == -9
    assert gone(int(result.stdout))
