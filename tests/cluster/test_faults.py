"""Faults of the machinery: interrupted starts, strangers, silent and lost nodes."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time

import pytest

import procession
import procession.shared_memory
from procession import process
from procession._cluster import place, popen, wire

from ..waiting import LONG, until
from .loopback import stop


def _sleep():
    time.sleep(LONG)


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


class _Interrupt(Exception):
    pass


def test_an_interrupted_start_harms_no_other_child(ctx, loopback):
    bystander = ctx.Process(target=_sleep)
    bystander.start()
    agent = loopback.agents[0].pid
    stop(agent)

    def interrupt(*_):
        raise _Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        child = ctx.Process(target=_sleep)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(_Interrupt):
            child.start()
    finally:
        signal.signal(signal.SIGALRM, before)
        os.kill(agent, signal.SIGCONT)
    line = bystander._popen._line
    assert list(line._children.values()) == [bystander._popen]
    another = ctx.Process(target=os.getpid)
    another.start()  # the agent answers again
    another.join(LONG)
    assert (another.exitcode, bystander.is_alive()) == (0, True)


def test_no_start_waits_for_ever(ctx, loopback, monkeypatch):
    bystander = ctx.Process(target=_sleep)
    bystander.start()
    monkeypatch.setattr(popen, "START", 0.3)
    agent = loopback.agents[0].pid
    stop(agent)
    try:
        with pytest.raises(procession.NodeLost, match=r"node1 has not started late within 0\.3 s"):
            ctx.Process(target=_sleep, name="late").start()
    finally:
        os.kill(agent, signal.SIGCONT)
    assert list(bystander._popen._line._children.values()) == [bystander._popen]
    assert bystander.is_alive()


def test_no_question_waits_for_ever(ctx, loopback, monkeypatch):
    """The home has admitted the process that asks, and is stopped before it answers."""
    monkeypatch.setattr(wire, "ANSWER", 0.3)
    node = loopback.nodes[-1]
    agent = loopback.agents[0].pid
    connect = wire.connect

    def connect_and_stop(*args):
        conn = connect(*args)
        stop(agent)
        return conn

    monkeypatch.setattr(wire, "connect", connect_and_stop)
    try:
        with pytest.raises(OSError, match=r"no answer for 0\.3 s"):
            wire.ask(node.address, loopback.key, "lives", os.getpid())
    finally:
        os.kill(agent, signal.SIGCONT)


def test_a_stopped_node_does_not_hold_up_the_others(ctx, loopback):
    loopback.add("stopped")
    agent = loopback.agents[-1].pid
    here, nodes = place.here(), loopback.nodes
    stop(agent)
    try:
        here.nodes = nodes[-1:]
        blocked = threading.Thread(target=lambda: ctx.Process(target=os.getpid).start())
        blocked.start()
        until(lambda: nodes[-1].address in popen._Line._making)
        here.nodes = nodes[:-1]
        child = ctx.Process(target=os.getpid)
        child.start()
        child.join(LONG)
        assert child.exitcode == 0
        assert blocked.is_alive()
    finally:
        here.nodes = nodes
        os.kill(agent, signal.SIGCONT)
        blocked.join()
        nodes.pop()


def test_a_lost_node_gets_no_more_processes(ctx, loopback):
    loopback.add("killed")
    loopback.agents[-1].kill()
    loopback.agents[-1].wait()
    try:
        children = [ctx.Process(target=os.getpid) for _ in range(8)]
        for child in children:
            child.start()
            child.join(LONG)
        assert [child.exitcode for child in children] == [0] * 8
    finally:
        loopback.nodes.pop()


def test_a_handler_signals_another_child_in_the_middle_of_a_start(ctx, loopback):
    """A large process object is on its way to a node that does not take it yet."""
    other = ctx.Process(target=_sleep)
    other.start()
    agent = loopback.agents[0].pid

    def end_the_other(*_):
        other.kill()
        os.kill(agent, signal.SIGCONT)

    before = signal.signal(signal.SIGALRM, end_the_other)
    stop(agent)
    try:
        child = ctx.Process(target=len, args=(b"x" * 30_000_000,))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        child.start()
    finally:
        signal.signal(signal.SIGALRM, before)
        os.kill(agent, signal.SIGCONT)
    child.join(LONG)
    other.join(LONG)
    assert (child.exitcode, other.exitcode) == (0, -signal.SIGKILL)


def test_children_leave_no_descriptors(ctx):
    def one():
        child = ctx.Process(target=os.getpid)
        child.start()
        child.join(LONG)

    one()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        one()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_truth_and_length(ctx, peer):
    things = ctx.Value("i"), ctx.RawValue("i"), ctx.Array("i", 2), ctx.RawArray("i", 0)
    assert peer(lambda *things: list(map(bool, things)), *things) == [True, True, True, False]
    with pytest.raises(TypeError, match="no length"):
        peer(len, things[0])


def test_strangers_hold_nobody_up(ctx, loopback):
    for _ in range(50):
        with socket.create_connection(loopback.nodes[1].address) as stranger:
            stranger.sendall(b"\0\0\0\5wrong")
    child = ctx.Process(target=os.getpid)
    child.start()
    child.join(LONG)
    assert child.exitcode == 0


class _Exiting:
    def __call__(self):
        sys.exit(3)


def test_an_action_that_exits(ctx, elsewhere):
    barrier = ctx.Barrier(1, _Exiting())
    assert elsewhere(_exit_code_of_wait, barrier) == 3
    assert barrier.broken


def _exit_code_of_wait(barrier):
    try:
        barrier.wait()
    except SystemExit as error:
        return error.code
    return "no exit"


def test_actors_refuse(ctx):
    with pytest.raises(NotImplementedError, match="has no actors yet"):
        procession.actor.options(context=ctx)(list)


def test_parts_of_structures_refuse(ctx, peer):
    array = ctx.Array(Point, [(1.5, 2.5)])
    with pytest.raises(NotImplementedError, match="numbers and strings"):
        peer(lambda array: array[0], array)


def test_named_memory_refuses(ctx, peer):
    memory = procession.shared_memory.SharedMemory(create=True, size=16)
    try:
        with pytest.raises(NotImplementedError, match="memory of one node"):
            ctx.Process(target=print, args=(memory,)).start()
    finally:
        memory.close()
        memory.unlink()


def _make_actor():
    return procession.actor.options(context=procession.get_context("forkserver"))(list)


@pytest.mark.parametrize("make", [_make_actor, lambda: procession.share([1])])
def test_actors_and_shared_copies_refuse_to_leave_their_node(ctx, elsewhere, make):
    made = make()
    with pytest.raises(NotImplementedError, match="cannot be used on another node"):
        ctx.Process(target=print, args=(made,)).start()
    queue = ctx.Queue()
    queue.put(made)
    with pytest.raises(NotImplementedError, match="cannot be used on another node"):
        elsewhere(lambda queue: queue.get(), queue)


def test_nothing_of_a_failed_start_is_left(ctx):
    before = len(process._children)
    with pytest.raises(Exception, match="pickle"):
        ctx.Process(target=print, args=(threading.Lock(),)).start()
    assert len(process._children) == before
    assert not any(
        child.returncode is None and child.sentinel < 0
        for line in popen._Line._all.values()
        for child in line._children.values()
    )
