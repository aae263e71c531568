"""Whole programs: the interpreter's end, Ctrl-C, and no free descriptors."""

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


WITHOUT_DESCRIPTORS = """
    import resource
    from procession._actor.client import Watch
    client = worker._link.client()
    watch = Watch(client)  # looks here, in place of the thread that does
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for _ in range(3):
            watch._look()
        ended = client.ending, client.incarnation, actor.status(worker).alive
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    watch._look()
    print(*ended, worker.add())
"""

GIVEN_UP = """
    from procession._actor.board import Ending
    worker._link.client().over(0, Ending("can no longer be watched", 0))
    actor.terminate(worker)
    while "was terminated by process" not in actor.status(worker).ended:
        time.sleep(0.001)  # until the owner has written down how it ended
"""


def test_without_a_free_descriptor_an_actor_is_not_taken_for_dead(run_program, method):
    result = run_program(PROGRAM + WITHOUT_DESCRIPTORS, method)
    assert result.stderr == ""
    assert result.stdout.split()[1:] == ["None", "0", "True", "1"]


def test_an_actor_that_was_given_up_can_be_terminated(run_program, method):
    result = run_program(PROGRAM + GIVEN_UP, method)
    assert result.stderr == ""
    assert gone(int(result.stdout))
