"""The queues that loky's are derived from, where procession stands in."""

from __future__ import annotations

import queue as standard_queue

import pytest

from procession._compat import pipe_queues
from tests.waiting import until


def get_two(queue, back):
    back.put(queue.get())
    queue.get()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_items_go_to_a_child_and_back(ctx, kind):
    queue, back = getattr(pipe_queues, kind)(ctx=ctx), pipe_queues.SimpleQueue(ctx=ctx)
    child = ctx.Process(target=get_two, args=(queue, back))
    child.start()
    queue.put("there")
    assert back.get() == "there"
    queue.put("end")
    child.join()
    assert child.exitcode == 0


def test_nothing_is_read_after_a_reader_that_died(ctx):
    # It may have read a part of a message. loky ends the other workers when it sees the death.
    queue, back = pipe_queues.Queue(ctx=ctx), pipe_queues.SimpleQueue(ctx=ctx)
    child = ctx.Process(target=get_two, args=(queue, back))
    child.start()
    queue.put("first")
    assert back.get() == "first"
    until(lambda: is_taken(queue._rlock))
    child.kill()
    child.join()
    queue.put("second")
    for _ in range(2):
        with pytest.raises(standard_queue.Empty):
            queue.get(timeout=0.1)


def is_taken(lock):
    if lock.acquire(block=False):
        lock.release()
        return False
    return True
