"""Queues: order, bounds, closing, several processes, and handles that travel.

What items may be is tested in test_items.py, and the deaths at every point by the killer.
"""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import procession
from procession import queues

ctx = procession.get_context("fork")


@pytest.fixture
def queue():
    return ctx.Queue()


def forked(work) -> int:
    """Run `work` in a child of os.fork and return its pid.

    The child exits with 0 if `work` returns.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def joined(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("make", [ctx.Queue, ctx.JoinableQueue, ctx.SimpleQueue])
def test_items_arrive_in_order(make):
    queue = make()
    items = [1, "two", 3.0, None, (4, [5, {"six": b"7"}]), {8}, b"x" * 1000, "y" * 100_000]
    for item in items:
        queue.put(item)
    assert not queue.empty()
    assert [queue.get() for _ in items] == items
    assert queue.empty()


def test_between_processes_both_ways():
    there, back = ctx.Queue(), ctx.SimpleQueue()

    def double():
        while (item := there.get()) is not None:
            back.put(item * 2)

    pid = forked(double)
    for number in range(1000):
        there.put(number)
        assert back.get() == number * 2
    there.put(None)
    assert joined(pid) == 0


def test_bounded():
    queue = ctx.Queue(2)
    assert queue._maxsize == 2
    queue.put(1)
    assert not queue.full()
    queue.put(2)
    assert queue.full() and queue.qsize() == 2
    with pytest.raises(queues.Full):
        queue.put_nowait(3)
    with pytest.raises(queues.Full):
        queue.put(3, False)
    with pytest.raises(queues.Full):
        queue.put(3, True, 0.01)
    assert queue.get() == 1
    queue.put(3, timeout=10)
    assert [queue.get(), queue.get()] == [2, 3]


def test_empty_and_timeouts(queue):
    with pytest.raises(queues.Empty):
        queue.get_nowait()
    with pytest.raises(queues.Empty):
        queue.get(block=False)
    start = time.monotonic()
    with pytest.raises(queues.Empty):
        queue.get(timeout=0.05)
    assert time.monotonic() - start >= 0.05
    with pytest.raises(queues.Empty):
        queue.get(True, -1)


def test_a_waiting_put_goes_on_after_a_get():
    queue = ctx.Queue(1)

    def produce():
        for number in range(2000):
            queue.put(number)

    pid = forked(produce)
    assert [queue.get() for _ in range(2000)] == list(range(2000))
    assert joined(pid) == 0


def test_everything_put_is_there_at_once(queue):
    for number in range(500):
        queue.put(number)
        assert not queue.empty()
        assert queue.qsize() == number + 1
    got = []
    while not queue.empty():
        got.append(queue.get())
    assert got == list(range(500))


def test_closed_queue_says_so(queue):
    queue.put(1)
    queue.close()
    queue.close()
    queue.join_thread()
    for use in (lambda: queue.put(1), lambda: queue.put_nowait(1), queue.get, queue.get_nowait):
        with pytest.raises(ValueError, match="is closed"):
            use()


def test_a_closed_queue_that_was_never_used_is_empty(queue):
    queue.close()
    assert queue.empty()
    used = ctx.Queue()
    used.put(1)
    used.close()
    with pytest.raises(OSError, match="is closed"):
        used.empty()


def test_a_closed_simple_queue_says_so(both):
    queue = both.SimpleQueue()
    queue.put(1)
    queue.close()
    for use in (queue.get, lambda: queue.put(2), queue.empty):
        with pytest.raises(OSError, match="handle is closed"):
            use()


def test_closing_concerns_this_process_only(queue):
    def produce():
        queue.put("from the child")
        queue.close()
        queue.join_thread()

    assert joined(forked(produce)) == 0
    assert queue.get() == "from the child"


def test_task_done_and_join():
    queue = ctx.JoinableQueue()
    with pytest.raises(ValueError, match="called too many times"):
        queue.task_done()

    def work():
        for _ in range(100):
            queue.get()
            queue.task_done()

    for number in range(100):
        queue.put(number)
    pid = forked(work)
    queue.join()
    assert queue.empty()
    assert joined(pid) == 0
    with pytest.raises(ValueError, match="called too many times"):
        queue.task_done()


def test_a_child_may_exit_with_20_mb_unread(queue):
    assert joined(forked(lambda: queue.put(b"x" * 20_000_000))) == 0
    assert queue.get() == b"x" * 20_000_000


def test_jobs_put_before_the_workers_start(queue):
    results = ctx.Queue()
    for number in range(10):
        queue.put(number)

    def work():
        while True:
            try:
                results.put(queue.get_nowait())
            except queues.Empty:
                return

    for pid in [forked(work) for _ in range(4)]:
        assert joined(pid) == 0
    assert sorted(results.get() for _ in range(10)) == list(range(10))


def test_queues_inside_items(queue):
    answers = ctx.Queue()

    def work():
        item = queue.get()
        item["answer to"].put("here")

    pid = forked(work)
    queue.put({"answer to": answers})
    assert answers.get() == "here"
    assert joined(pid) == 0


def test_an_item_keeps_the_queue_inside_it_alive(queue):
    inner = ctx.Queue()
    inner.put("still here")
    queue.put(inner)
    del inner
    gc.collect()
    assert queue.get().get() == "still here"


def test_subclasses_with_their_own_init():
    class Counting(queues.Queue):
        def __init__(self, name):
            super().__init__(ctx=ctx)
            self.name = name
            self.puts = 0

        def put(self, *args, **kwargs):
            self.puts += 1
            super().put(*args, **kwargs)

    queue = Counting("mine")
    queue.put(1)
    assert (queue.name, queue.puts, queue.get()) == ("mine", 1, 1)


def test_a_handle_from_another_family_is_refused(queue):
    program = f"""
        import pickle, procession
        procession.Queue()
        try:
            pickle.loads({pickle.dumps(queue)!r})
        except ValueError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert "another family" in done.stdout, done


def test_signal_handlers_run_while_waiting(queue):
    class Ring(Exception):
        pass

    def ring(*_):
        raise Ring

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Ring):
            queue.get()
        queue.put("still usable")
        assert queue.get() == "still usable"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_killed_producers_and_consumers_do_not_hold_up_the_others(queue):
    def produce():
        number = 0
        while True:
            queue.put((os.getpid(), number))
            number += 1

    def consume():
        while True:
            queue.get()

    for _ in range(15):
        victims = [forked(produce), forked(consume)]
        queue.get(timeout=30)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert [joined(pid) for pid in victims] == [-9, -9]
        got = []
        while True:
            try:
                got.append(queue.get_nowait())
            except queues.Empty:
                break
        assert len(set(got)) == len(got)
        # The item that the killed consumer was taking is put back, and may come after later items.
        assert sum(later < earlier for earlier, later in itertools.pairwise(got)) <= 1
        queue.put("ours")
        assert queue.get(timeout=30) == "ours"
