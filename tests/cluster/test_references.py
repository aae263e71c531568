"""Objects inside items, tasks and results: what owns them, how long they live, what may use them."""

from __future__ import annotations

import gc
import os
import pickle

import pytest

import procession
from procession import synchronize
from procession._cluster import place, proxies, wire

from ..waiting import LONG, until
from .loopback import Elsewhere


@pytest.fixture(scope="module")
def third(loopback):
    """A process on a third node."""
    loopback.add("third")
    here, nodes = place.here(), loopback.nodes
    here.nodes = nodes[-1:]
    worker = Elsewhere(procession.get_context("ray"))
    here.nodes = nodes[:-1]
    yield worker
    worker.close()
    nodes.pop()


def _same(thing):
    return thing


def _kind(thing):
    return type(thing).__module__, type(thing).__name__


def test_an_object_comes_home_as_itself(ctx, peer):
    lock = ctx.Lock()
    assert peer(_kind, lock) == (proxies.__name__, "_Acquired")
    back = peer(_same, lock)
    assert type(back) is synchronize.Lock
    with back:
        assert not lock.acquire(False)


def test_an_object_made_elsewhere(ctx, peer):
    queue = peer(_make_queue)
    assert queue.get(timeout=LONG) == "made there"
    queue.put("from here")
    assert peer(_get, queue) == ("from here", "Queue")


def _make_queue():
    queue = procession.get_context("ray").Queue()
    queue.put("made there")
    return queue


def _get(queue):
    return queue.get(), type(queue).__name__


def test_between_two_other_nodes(ctx, peer, third):
    theirs = peer(_make_queue)
    assert third(_get, theirs) == ("made there", "_Queue")
    third(lambda queue: queue.put("from the third"), theirs)
    assert theirs.get(timeout=LONG) == "from the third"


def test_through_a_queue_at_a_third_home(ctx, peer, third):
    """The item waits here, while only a ticket keeps what is in it."""
    carrier = ctx.Queue()
    peer(_put_new_lock, carrier)
    gc.collect()
    assert third(_use_lock, carrier) is True
    peer(_put_new_lock, carrier)
    lock = carrier.get(timeout=LONG)
    assert lock.acquire(False) and not lock.acquire(False)


def _put_new_lock(carrier):
    carrier.put(procession.get_context("ray").Lock())
    gc.collect()


def _use_lock(carrier):
    return carrier.get().acquire(False)


def _objects():
    return procession._procession.counters()["objects"]


def test_references_are_given_back(ctx, loopback, peer):
    peer(_same, ctx.Event())
    until(lambda: not loopback.home._tickets)
    before = _objects()
    for _ in range(20):
        peer(_same, [ctx.Lock(), ctx.Queue(), ctx.Value("i", 1)])
    # What the peer needs no longer, it tells its deputy with the next call.
    until(lambda: not loopback.home._tickets and (peer(os.getpid) and _objects() <= before + 3))


def test_what_a_process_had_is_given_back_when_it_ends(ctx, loopback):
    before = _objects()
    worker = Elsewhere(ctx)
    worker(_keep, [ctx.Lock() for _ in range(30)])
    assert _objects() >= before + 30
    worker.close()
    del worker
    until(lambda: gc.collect() is not None and _objects() <= before + 2)


_kept = []


def _keep(things):
    _kept.extend(things)
    return len(_kept)


def test_a_pickle_that_is_loaded_again_when_the_object_is_gone(ctx, peer):
    data = peer(_pickled_lock)
    lock = wire.loads(data)
    assert lock.acquire(False)
    peer(_forget)
    del lock
    with pytest.raises(ValueError, match=r"gone|freed|stale|exist"):
        for _ in range(100):
            peer(os.getpid)
            wire.loads(data).locked()


def _pickled_lock():
    _kept.append(procession.get_context("ray").Lock())
    return bytes(wire.dumps(_kept[-1]))


def _forget():
    _kept.clear()


class _Unreadable:
    def __reduce__(self):
        return _read, ()


def _read():
    if not place.is_courier:
        raise FileNotFoundError("it is not here")
    return _Unreadable()


def test_an_item_that_cannot_be_unpickled_is_gone(ctx, peer):
    queue = ctx.Queue()
    queue.put(_Unreadable())
    queue.put("the next")
    with pytest.raises(FileNotFoundError, match="it is not here"):
        peer(lambda queue: queue.get(), queue)
    assert peer(lambda queue: queue.get(), queue) == "the next"
    assert queue.empty()


def test_a_plain_pickle_is_for_the_family(ctx, peer):
    queue = ctx.Queue()
    queue.put([ctx.Lock()])
    (lock,) = queue.get()
    assert type(lock) is synchronize.Lock
    data = pickle.dumps(lock)
    with pytest.raises(ValueError, match="family"):
        peer(pickle.loads, data)


def test_a_child_of_fork_uses_its_parents_proxies(ctx, peer):
    lock, queue = ctx.Lock(), ctx.Queue()
    assert peer(_use_in_a_fork, lock, queue) == 0
    assert queue.get(timeout=LONG) == "from the fork"
    with pytest.raises(procession.OwnerDied):
        lock.acquire(timeout=LONG)  # the child died with it, and not its parent
    assert peer(lambda lock: lock.acquire(timeout=1), lock)


def _use_in_a_fork(lock, queue):
    assert queue.empty()
    pid = os.fork()
    if pid == 0:
        queue.put("from the fork")
        lock.acquire()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert not queue.full()
    return status


def test_a_fork_does_not_hide_its_parents_death(ctx, elsewhere):
    lock, pids = ctx.Lock(), ctx.Queue()
    elsewhere(_hold_and_fork, lock, pids)
    child = pids.get(timeout=LONG)
    elsewhere.process.kill()
    with pytest.raises(procession.OwnerDied):
        lock.acquire(timeout=LONG)
    os.kill(child, 9)


def _hold_and_fork(lock, pids):
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        import time

        time.sleep(LONG)
        os._exit(0)
    pids.put(pid)


def test_a_process_outside_the_cluster_cannot_use_a_reference(ctx, peer, run_program):
    data = bytes(wire.dumps(ctx.Lock()))
    done = run_program(
        f"import procession, pickle\ntry: pickle.loads({data!r})\nexcept ValueError as e: print(e)",
        timeout=LONG,
    )
    assert "was not started by the context 'ray'" in done.stdout
