"""Objects of this node, used by a process of another."""

from __future__ import annotations

import os
import threading
from queue import Empty, Full

import pytest

import procession

from ..waiting import LONG, until


def _held(lock):
    with lock:
        return lock.acquire(False)


@pytest.mark.parametrize(("kind", "again"), [("Lock", False), ("RLock", True)])
def test_locks(ctx, peer, kind, again):
    lock = getattr(ctx, kind)()
    assert peer(_held, lock) is again
    if again:
        assert peer(lambda lock: lock.release() or lock.acquire(False), lock)
        assert not lock.acquire(False)
        peer(lambda lock: lock.release(), lock)
    with lock:
        assert not peer(lambda lock: lock.acquire(timeout=0.2), lock)
        assert not peer(lambda lock: lock.acquire(block=False), lock)


def test_a_lock_is_passed_on(ctx, peer):
    lock = ctx.Lock()
    with lock:
        peer.begin(lambda lock: lock.acquire() and os.getpid(), lock)
    assert peer.end() == peer.process.pid
    assert not lock.acquire(False)
    lock.release()  # of a Lock, any process may


def test_an_rlock_belongs_to_a_thread(ctx, peer):
    assert peer(_in_two_threads, ctx.RLock()) == (True, False)


def _in_two_threads(lock):
    with lock:
        got = []
        thread = threading.Thread(target=lambda: got.append(lock.acquire(False)))
        thread.start()
        thread.join()
        return lock.acquire(False), *got


def test_wrong_releases_raise(ctx, peer):
    with pytest.raises(ValueError, match="released too many times"):
        peer(lambda lock: lock.release(), ctx.Lock())
    with pytest.raises(AssertionError, match="not owned"):
        peer(lambda lock: lock.release(), ctx.RLock())
    with pytest.raises(ValueError, match="too many"):
        peer(lambda semaphore: semaphore.release(), ctx.BoundedSemaphore(2))


def test_semaphores(ctx, peer):
    semaphore = ctx.Semaphore(2)
    assert peer(
        lambda s: (s.acquire(), s.get_value(), s.acquire(), s.acquire(False)), semaphore
    ) == (
        *(True, 1),
        *(True, False),
    )
    semaphore.release()
    assert peer(lambda s: s.acquire(timeout=1), semaphore)


def _wait_for(condition, value):
    with condition:
        return condition.wait_for(lambda: value.value == 3, LONG)


def test_conditions(ctx, peer):
    condition, value = ctx.Condition(), ctx.Value("i", 0)
    peer.begin(_wait_for, condition, value)
    for number in 1, 2, 3:
        with condition:
            value.value = number
            condition.notify_all()
    assert peer.end()
    with condition:
        peer.begin(_notify, condition)
        assert condition.wait(LONG)
    peer.end()
    assert peer(lambda c: c.acquire() and (c.wait(0.05), c.release()), condition) == (False, None)


def _notify(condition):
    with condition:
        condition.notify()


def test_events(ctx, peer):
    event = ctx.Event()
    assert peer(lambda event: event.wait(0.01), event) is False
    peer.begin(lambda event: event.wait(), event)
    event.set()
    assert peer.end() is True
    peer(lambda event: event.clear(), event)
    assert not event.is_set()


def _pid_of_action(pids):
    pids.put(os.getpid())


def test_barriers(ctx, peer):
    pids = ctx.Queue()
    barrier = ctx.Barrier(2, _Noting(pids))
    arrivals = []
    for _ in range(3):
        peer.begin(lambda barrier: barrier.wait(), barrier)
        arrivals.append({barrier.wait(LONG), peer.end()})
        assert pids.get(timeout=LONG) in (os.getpid(), peer.process.pid)
    assert arrivals == [{0, 1}] * 3
    assert peer(lambda b: (b.parties, b.n_waiting, b.broken), barrier) == (2, 0, False)
    # The last to arrive runs the action: here the other process.
    waiting = threading.Thread(target=barrier.wait)
    waiting.start()
    until(lambda: barrier.n_waiting == 1)
    peer(lambda barrier: barrier.wait(), barrier)
    waiting.join()
    assert pids.get(timeout=LONG) == peer.process.pid


class _Noting:
    """Puts the process that runs it into a queue."""

    def __init__(self, pids):
        self.pids = pids

    def __call__(self):
        self.pids.put(os.getpid())


def test_a_barrier_breaks_in_time(ctx, peer):
    barrier = ctx.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        peer(lambda barrier: barrier.wait(0.05), barrier)
    assert barrier.broken
    peer(lambda barrier: barrier.reset(), barrier)
    assert not barrier.broken


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_queues(ctx, peer, kind):
    to, back = getattr(ctx, kind)(), getattr(ctx, kind)()
    peer.begin(_echo, to, back, 50)
    for number in range(50):
        to.put((number, "x" * number))
    assert [back.get() for _ in range(50)] == [(number, "x" * number) for number in range(50)]
    peer.end()
    assert back.empty()


def _echo(to, back, count):
    for _ in range(count):
        back.put(to.get())


def test_limits_and_timeouts_of_queues(ctx, peer):
    queue = ctx.Queue(2)
    assert peer(_fill, queue) == ("full", "full", True, 2)
    assert [queue.get(), queue.get()] == [1, 2]
    assert peer(_drain, queue) == ("empty", "empty", True)
    peer.begin(lambda queue: [queue.put(number) for number in range(6)] and "done", queue)
    assert [queue.get(timeout=LONG) for _ in range(6)] == list(range(6))
    assert peer.end() == "done"


def _raised(error, function, *args):
    try:
        function(*args)
    except error:
        return error.__name__.lower()
    return "nothing"


def _fill(queue):
    queue.put_many([1, 2])
    return (
        _raised(Full, queue.put_nowait, 3),
        _raised(Full, queue.put, 3, True, 0.15),
        queue.full(),
        queue.qsize(),
    )


def _drain(queue):
    return (
        _raised(Empty, queue.get_nowait),
        _raised(Empty, queue.get, True, 0.15),
        queue.empty(),
    )


def test_many_items(ctx, peer):
    queue = ctx.Queue()
    queue.put_many(range(100))
    assert peer(_take_all, queue, 100) == list(range(100))


def _take_all(queue, count):
    items = []
    while len(items) < count:
        items += queue.get_many(30)
    return items


def test_task_done_and_join(ctx, peer):
    queue = ctx.JoinableQueue()
    queue.put("item")
    peer.begin(lambda queue: queue.join() or "joined", queue)
    assert queue.get() == "item"
    queue.task_done()
    assert peer.end() == "joined"
    with pytest.raises(ValueError, match="too many times"):
        peer(lambda queue: queue.task_done(), queue)


def test_a_closed_queue_is_closed_in_its_process_alone(ctx, peer):
    queue = ctx.Queue()
    with pytest.raises(ValueError, match="closed"):
        peer(lambda queue: queue.close() or queue.put(1), queue)
    queue.put(2)
    assert queue.get() == 2


def test_values_and_arrays(ctx, peer):
    value, array = ctx.Value("i", 1), ctx.Array("d", [0.5, 1.5])
    raw, text = ctx.RawArray("i", 3), ctx.Array("c", b"text")
    assert peer(_change, value, array, raw, text) == (42, [0.5, 7.0], 2, [1, 2, 3], b"text", 2)
    assert (value.value, array[:], raw[:]) == (42, [0.5, 7.0], [1, 2, 3])


def _change(value, array, raw, text):
    with value.get_lock():
        value.value += 40
    value.add(1)
    array[1] = 7.0
    for index in range(3):
        raw[index] = index + 1
    return value.value, array[:], len(array), list(raw), text.value, array[:].index(7.0) + 1


def test_the_memory_of_a_value_is_elsewhere(ctx, peer):
    with pytest.raises(NotImplementedError, match="use value"):
        peer(lambda value: value.get_obj(), ctx.Value("i"))


def test_managers(ctx, peer):
    with ctx.Manager() as manager:
        shared = manager.dict(a=1)
        items = manager.list()
        assert peer(_use_managed, shared, items) == {"a": 1, "b": 2}
        assert (dict(shared), list(items)) == ({"a": 1, "b": 2}, ["there"])


def _use_managed(shared, items):
    shared["b"] = 2
    items.append("there")
    return dict(shared)


def test_what_must_stay_on_its_node_says_so(ctx, peer):
    for thing in procession.SharedDict(), procession.SharedList():
        with pytest.raises(NotImplementedError, match="use"):
            peer(lambda queue: queue.get(), _holding(ctx, thing))


def _holding(ctx, thing):
    queue = ctx.Queue()
    queue.put(thing)
    return queue
