"""What the death, the stop and the silence of either side leave behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from queue import Empty

import pytest

import procession
from procession import process
from procession._cluster import link, place, wire

from ..waiting import LONG, is_running, until, until_ended
from .loopback import Elsewhere, state


def _deputies():
    """Return the deputies in this process's family, by the names of their clients."""
    return {
        member["name"]: member["pid"]
        for member in procession._procession.members()
        if is_running(member["pid"])
    }


def _deputy(worker):
    return _deputies()[worker.process.name]


def _hold(lock):
    lock.acquire()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_a_killed_holder(ctx, elsewhere, kind):
    lock = getattr(ctx, kind)()
    elsewhere(_hold, lock)
    elsewhere.process.kill()
    with pytest.raises(procession.OwnerDied) as caught:
        lock.acquire(timeout=LONG)
    process = elsewhere.process
    assert (caught.value.name, caught.value.pid) == (process.name, process.pid)
    assert caught.value.node == "node1"
    assert f"process {process.name} ({process.pid} on node node1) died" in str(caught.value)
    assert lock.acquire(timeout=LONG)
    elsewhere.process.join(LONG)
    assert elsewhere.process.exitcode == -signal.SIGKILL


def test_a_killed_holder_with_a_waiter_on_its_own_node(ctx, elsewhere, peer):
    lock = ctx.Lock()
    elsewhere(_hold, lock)
    peer.begin(_acquire, lock)
    elsewhere.process.kill()
    assert peer.end() == (elsewhere.process.pid, "node1")
    assert lock.acquire(timeout=LONG)


def test_a_killed_holder_at_the_locks_home(ctx, peer):
    lock = ctx.Lock()
    holder = procession.get_context("forkserver").Process(target=_hold, args=(lock,))
    holder.start()
    holder.join()
    assert peer(_acquire, lock) == (holder.pid, "driver")


def _acquire(lock):
    try:
        lock.acquire()
    except procession.OwnerDied as error:
        return error.pid, error.node
    return "acquired"


def test_a_holder_that_ends_its_thread(ctx, peer):
    lock = ctx.RLock()
    peer(_hold_in_a_thread, lock)
    with pytest.raises(procession.OwnerDied):
        lock.acquire(timeout=LONG)


def _hold_in_a_thread(lock):
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()


def test_a_killed_waiter_for_a_lock(ctx, elsewhere):
    lock = ctx.Lock()
    lock.acquire()
    elsewhere(lambda lock: lock.acquire(False), lock)
    deputy = _deputy(elsewhere)
    elsewhere.begin(_hold, lock)
    elsewhere.process.kill()
    until_ended([deputy])
    lock.release()
    assert lock.acquire(timeout=LONG)


def test_a_waiter_killed_in_get_takes_nothing_along(ctx, elsewhere):
    queue = ctx.Queue()
    elsewhere(_use, queue)
    deputy = _deputy(elsewhere)
    elsewhere.begin(_get, queue)
    elsewhere.process.kill()
    elsewhere.process.join(LONG)  # the deputy may not know yet
    queue.put("item")
    until_ended([deputy])
    assert queue.get(timeout=LONG) == "item"


def _get(queue):
    return queue.get()


def _get_and_stop(queue):
    """Stop this process when the deputy has been asked for an item, before that arrives."""

    def stop(*_):
        os.kill(os.getpid(), signal.SIGSTOP)

    link._Channel._reply = stop
    queue.get()


def _begin_to_get(worker, queue):
    worker.begin(_get_and_stop, queue)
    until(lambda: state(worker.process.pid) == "T")


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_an_item_on_its_way_to_a_killed_process_comes_back(ctx, elsewhere, kind):
    queue = getattr(ctx, kind)()
    elsewhere(_use, queue)
    deputy = _deputy(elsewhere)
    _begin_to_get(elsewhere, queue)
    queue.put("item")
    until(queue.empty)
    elsewhere.process.kill()
    assert queue.get() == "item"
    until_ended([deputy])
    if kind == "JoinableQueue":
        queue.task_done()
        queue.join()
        with pytest.raises(ValueError, match="too many times"):
            queue.task_done()


def _use(queue):
    return queue.empty()


def test_an_item_comes_back_to_a_full_queue(ctx, elsewhere):
    queue, lock = ctx.Queue(1), ctx.Lock()
    elsewhere(_hold, lock)
    _begin_to_get(elsewhere, queue)
    queue.put("first")
    until(queue.empty)
    queue.put("second")
    elsewhere.process.kill()
    with pytest.raises(procession.OwnerDied):  # although the queue has no room
        lock.acquire(timeout=LONG)
    assert [queue.get(timeout=LONG), queue.get(timeout=LONG)] == ["second", "first"]


def test_a_put_in_the_middle_is_all_or_nothing(ctx, elsewhere):
    queue = ctx.Queue()
    elsewhere.begin(_put_for_ever, queue)
    taken = [queue.get(timeout=LONG) for _ in range(20)]
    elsewhere.process.kill()
    deputies = _deputies()
    until_ended(deputies[name] for name in deputies if name == elsewhere.process.name)
    while True:
        try:
            taken.append(queue.get(timeout=0))
        except Empty:
            break
    assert [number for number, _data in taken] == list(range(len(taken)))
    assert all(len(data) == 300_000 for _number, data in taken)


def _put_for_ever(queue):
    number = 0
    while True:
        queue.put((number, b"x" * 300_000))
        number += 1


def test_a_killed_waiter_breaks_a_barrier(ctx, elsewhere):
    barrier = ctx.Barrier(2)
    elsewhere.begin(_wait_at, barrier)
    until(lambda: barrier.n_waiting == 1)
    elsewhere.process.kill()
    until(lambda: barrier.broken)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(LONG)


def _wait_at(barrier):
    return barrier.wait()


def test_a_stopped_process_keeps_what_it_holds(ctx, elsewhere):
    lock, queue = ctx.Lock(), ctx.Queue()
    elsewhere(_hold, lock)
    os.kill(elsewhere.process.pid, signal.SIGSTOP)
    assert not lock.acquire(timeout=0.3)
    queue.put(1)  # others go on
    assert queue.get() == 1
    os.kill(elsewhere.process.pid, signal.SIGCONT)
    elsewhere(_release, lock)
    assert lock.acquire(timeout=LONG)


def _release(lock):
    lock.release()


def test_a_killed_deputy(ctx, elsewhere):
    lock, queue, answers = ctx.Lock(), ctx.Queue(), _Answers(ctx)
    elsewhere.begin(_hold_and_get, lock, queue, answers.address)
    conn = answers.accept()
    assert conn.recv() == "holding"
    os.kill(_deputy(elsewhere), signal.SIGKILL)
    kind, node = conn.recv()
    assert (kind, node) == ("NodeLost", "driver")
    with pytest.raises(procession.OwnerDied):
        lock.acquire(timeout=LONG)
    lock.acquire()
    # What it had is given up: it must not release what another process has acquired since.
    assert [conn.recv() for _ in range(3)] == ["get", "release", "acquire"]
    assert not lock.acquire(False)
    conn.send(bytes(wire.dumps(queue)))
    assert queue.get(timeout=LONG) == "from an object that was sent anew"
    conn.close()


class _Answers:
    """Receives what a process says that can use no shared object."""

    def __init__(self, ctx):
        from procession.connection import Listener

        self._listener = Listener(("127.0.0.1", 0))
        self.address = self._listener.address

    def accept(self):
        with self._listener:
            return self._listener.accept()


def _hold_and_get(lock, queue, address):
    from procession.connection import Client

    with Client(address) as conn:
        lock.acquire()
        conn.send("holding")
        try:
            queue.get()
        except procession.NodeLost as error:
            conn.send((type(error).__name__, error.node))
        for call in queue.get, lock.release, lock.acquire:
            try:
                call()
            except procession.NodeLost:
                conn.send(call.__name__)
        wire.loads(conn.recv()).put("from an object that was sent anew")


def test_a_lost_node(loopback):
    """Its processes count as killed, and what lived there is lost."""
    ctx = procession.get_context("ray")
    loopback.add("doomed")
    try:
        children = [
            ctx.Process(target=_make_and_wait, args=(queue,)) for queue in [ctx.Queue()] * 8
        ]
        queue = children[0]._args[0]
        for child in children:
            child.start()
        made = {}
        for _ in children:
            pid, theirs = queue.get(timeout=LONG)
            made[pid] = theirs
        there = [child for child in children if child._popen.node.name == "doomed"]
        assert 0 < len(there) < len(children)
        theirs = made[there[0].pid]
        assert theirs.get(timeout=LONG) == "from there"
        agent = loopback.agents[-1]
        agent.kill()
        for child in there:
            child.join(LONG)
            assert child.exitcode == -signal.SIGKILL
        until_ended([child.pid for child in there])
        with pytest.raises(procession.NodeLost, match="doomed") as caught:
            theirs.get(timeout=LONG)
        assert caught.value.node == "doomed"
        for child in children:
            if child not in there:
                assert child.is_alive()
                child.kill()
            child.join(LONG)
    finally:
        loopback.nodes.pop()


def _make_and_wait(queue):
    own = procession.get_context("ray").Queue()
    own.put("from there")
    queue.put((os.getpid(), own))
    time.sleep(LONG)


def test_no_process_can_be_started_on_a_lost_node(loopback):
    ctx = procession.get_context("ray")
    loopback.add("gone")
    loopback.agents[-1].kill()
    loopback.agents[-1].wait()
    here = place.here()
    before, here.nodes = here.nodes, loopback.nodes[-1:]
    try:
        with pytest.raises(procession.NodeLost, match="gone") as caught:
            ctx.Process(target=os.getpid).start()
        assert caught.value.node == "gone"
        assert not [child for child in process._children if child._popen is None]
    finally:
        here.nodes = before
        loopback.nodes.pop()


def test_the_deputy_ends_with_its_client(ctx):
    worker = Elsewhere(ctx)
    worker(_use, ctx.Queue())
    deputy = _deputy(worker)
    worker.close()
    until_ended([deputy])
