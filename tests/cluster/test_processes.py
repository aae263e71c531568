"""Processes on another node: their life as the parent sees it, and themselves."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

import procession
from procession import connection
from procession._cluster import start

from ..waiting import LONG, is_running, until_ended


def _exit(code):
    sys.exit(code)


def _describe(queue):
    me, parent = procession.current_process(), procession.parent_process()
    queue.put((me.name, me.pid, me.daemon, parent.name, parent.pid, os.getppid()))


def _report_parent(queue, go_on):
    parent = procession.parent_process()
    queue.put(parent.is_alive())
    go_on.wait()
    while parent.is_alive():
        time.sleep(0.01)
    queue.put("it has ended")


def _start_reporter(queue, go_on):
    ctx = procession.get_context("ray")
    ctx.Process(target=_report_parent, args=(queue, go_on)).start()
    time.sleep(LONG)


def test_a_process_learns_whether_its_parent_lives(ctx, loopback):
    queue, go_on = ctx.Queue(), ctx.Event()
    loopback.add("another")  # the child of the child is there
    try:
        child = ctx.Process(target=_start_reporter, args=(queue, go_on))
        child.start()
        assert queue.get(timeout=LONG) is True
        child.kill()
        child.join(LONG)
        go_on.set()
        assert queue.get(timeout=LONG) == "it has ended"
    finally:
        loopback.nodes.pop()


def _sleep(queue=None):
    if queue is not None:
        queue.put(os.getpid())
    time.sleep(LONG)


def _fail():
    raise ValueError("meant to fail")


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_arrives(ctx, code):
    child = ctx.Process(target=_exit, args=(code,))
    child.start()
    child.join(LONG)
    assert (child.exitcode, child.is_alive()) == (code, False)


def test_an_error_is_exit_code_1(ctx):
    child = ctx.Process(target=_fail)
    child.start()
    child.join(LONG)
    assert child.exitcode == 1


def test_a_process_knows_itself_and_its_parent(ctx, loopback):
    queue = ctx.Queue()
    child = ctx.Process(target=_describe, args=(queue,), name="describer", daemon=True)
    child.start()
    name, pid, daemon, parent, parent_pid, maker = queue.get(timeout=LONG)
    me = procession.current_process()
    assert (name, pid, daemon, parent, parent_pid) == (
        *("describer", child.pid, True),
        *(me.name, os.getpid()),
    )
    assert maker != os.getpid()  # the other family's fork server
    child.join(LONG)


@pytest.mark.parametrize(
    ("method", "signum"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)]
)
def test_signals_end_it(ctx, method, signum):
    queue = ctx.Queue()
    child = ctx.Process(target=_sleep, args=(queue,))
    child.start()
    queue.get(timeout=LONG)
    assert child.is_alive() and child.exitcode is None
    getattr(child, method)()
    assert connection.wait([child.sentinel], LONG) == [child.sentinel]
    child.join(LONG)
    assert child.exitcode == -signum


def test_join_gives_up_in_time(ctx):
    child = ctx.Process(target=_sleep)
    child.start()
    child.join(0.01)
    assert child.is_alive() and child in procession.active_children()
    with pytest.raises(ValueError, match="still running"):
        child.close()
    child.kill()
    child.join(LONG)
    child.close()
    assert child not in procession.active_children()


def test_a_process_that_cannot_be_sent_is_refused_at_start(ctx):
    with pytest.raises(Exception, match=r"cannot|pickle"):
        ctx.Process(target=_exit, args=(open(os.devnull),)).start()  # noqa: SIM115


class Counting(start.RayProcess):
    """Its own attributes are set before those of the base, and so are pickled first."""

    def __init__(self, queue, number):
        self.queue, self.number = queue, number
        super().__init__(name="counter")

    def run(self):
        self.queue.put((self.name, self.number + 1))


def test_a_subclass_runs_there(ctx):
    child = Counting(ctx.Queue(), 41)
    queue = child.queue
    child.start()
    assert queue.get(timeout=LONG) == ("counter", 42)
    child.join(LONG)


def _grandchild(queue):
    ctx = procession.get_context("ray")
    child = ctx.Process(target=_describe, args=(queue,))
    child.start()
    child.join()
    queue.put(("its exit code", child.exitcode))


def test_its_own_children(ctx):
    queue = ctx.Queue()
    child = ctx.Process(target=_grandchild, args=(queue,))
    child.start()
    name, _pid, _daemon, parent, _parent_pid, _maker = queue.get(timeout=LONG)
    assert (name, parent) == (f"{child.name}:1", child.name)
    assert queue.get(timeout=LONG) == ("its exit code", 0)
    child.join(LONG)


def _start_a_daemon(queue):
    ctx = procession.get_context("ray")
    ctx.Process(target=_sleep, args=(queue,), daemon=True).start()
    time.sleep(LONG)


def test_daemons_end_with_a_killed_parent(ctx):
    queue = ctx.Queue()
    child = ctx.Process(target=_start_a_daemon, args=(queue,))
    child.start()
    daemon = queue.get(timeout=LONG)
    assert is_running(daemon)
    child.kill()
    until_ended([daemon])
    child.join(LONG)


def test_a_stopped_process_is_alive(ctx):
    queue = ctx.Queue()
    child = ctx.Process(target=_sleep, args=(queue,))
    child.start()
    os.kill(queue.get(timeout=LONG), signal.SIGSTOP)
    child.join(0.05)
    assert child.is_alive()
    child.kill()
    child.join(LONG)
    assert child.exitcode == -signal.SIGKILL
