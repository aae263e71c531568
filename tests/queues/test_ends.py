"""What code that reaches into the standard library's queues finds: ends to wait for, and names.

What queues do for their users is tested in test_queue.py.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import pickle
import select
import threading
import weakref

import pytest

import procession
from procession import connection, queues

ctx = procession.get_context("fork")


@pytest.fixture(params=["Queue", "SimpleQueue", "JoinableQueue"])
def queue(request):
    return getattr(ctx, request.param)()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_ends_carry_items_and_their_pickles(queue):
    queue._writer.send(["item"])
    queue._writer.send_bytes(pickle.dumps("pickled"))
    assert queue._reader.poll()
    assert queue._reader.recv() == ["item"]
    assert pickle.loads(queue._reader.recv_bytes()) == "pickled"
    assert not queue._reader.poll()
    assert not queue._reader.poll(0.01)


def test_wait_says_when_there_are_items_and_when_there_are_none(queue):
    other, _writer = ctx.Pipe(duplex=False)
    reader = queue._reader
    for _ in range(20):
        assert connection.wait([other, reader], 0) == []
        queue.put(1)
        queue.put(2)
        assert connection.wait([other, reader]) == [reader]
        assert queue.get() == 1
        assert connection.wait([other, reader]) == [reader]
        assert reader.recv() == 2


def test_an_item_of_another_process_wakes_the_waiter(queue, method):
    process = procession.get_context(method).Process(target=queue.put, args=("from afar",))
    process.start()
    reader = queue._reader
    assert connection.wait([reader], 60) == [reader]
    assert queue.get() == "from afar"
    process.join()


def test_what_another_process_took_is_not_announced_for_ever(queue):
    queue.put(1)
    reader = queue._reader
    assert connection.wait([reader]) == [reader]
    process = ctx.Process(target=queue.get)
    process.start()
    process.join()
    assert connection.wait([reader], 0) == []


def test_a_child_waits_by_a_descriptor_of_its_own():
    there, back = ctx.Queue(), ctx.Queue()
    assert connection.wait([there._reader], 0) == []

    def serve() -> None:
        for _ in range(10):
            assert connection.wait([there._reader])
            back.put(there.get())

    process = ctx.Process(target=serve)
    process.start()
    for number in range(10):
        there.put(number)
        assert connection.wait([back._reader])
        assert back.get() == number
    process.join()
    assert process.exitcode == 0


def test_select_and_an_event_loop_take_it(queue):
    async def receive() -> object:
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        loop.add_reader(queue._reader.fileno(), lambda: result.set_result(queue.get()))
        threading.Timer(0.01, queue.put, ["late"]).start()
        try:
            return await result
        finally:
            loop.remove_reader(queue._reader.fileno())

    assert asyncio.run(receive()) == "late"
    assert select.select([queue._reader], [], [], 0) == ([], [], [])
    queue.put(1)
    assert select.select([queue._reader], [], [])[0]


def test_a_queue_that_nobody_polls_has_no_descriptor_and_no_thread(alone):
    def count() -> None:
        descriptors, threads = open_descriptors(), len(os.listdir("/proc/self/task"))
        queues = [ctx.Queue() for _ in range(10)]
        for queue in queues:
            queue.put(1)
            assert queue._reader.poll() and queue.get() == 1
        assert open_descriptors() == descriptors
        assert len(os.listdir("/proc/self/task")) == threads

    alone(count)


def test_a_closed_queue_gives_its_descriptor_back(queue, alone):
    def count() -> None:
        descriptors = open_descriptors()
        queue._reader.fileno()
        assert open_descriptors() == descriptors + 1
        queue.close()
        while open_descriptors() != descriptors:  # the thread releases it a moment later
            pass

    alone(count)
    queue.close()
    assert queue._reader.closed and queue._writer.closed
    with pytest.raises(OSError, match="handle is closed"):
        queue._reader.fileno()
    with pytest.raises(OSError, match="handle is closed"):
        queue._reader.poll()


def test_closing_an_end_closes_no_more_than_it(queue):
    reader = queue._reader
    reader.close()
    assert reader.closed
    with pytest.raises(OSError, match="handle is closed"):
        reader.recv()
    queue.put(1)
    assert queue.get() == 1


def test_an_end_travels(queue, method):
    process = procession.get_context(method).Process(target=send, args=(queue._writer, "sent"))
    process.start()
    assert queue.get() == "sent"
    process.join()


def send(end: object, item: object) -> None:
    end.send(item)


def test_private_names_can_be_read_and_replaced():
    queue = ctx.Queue(3)
    assert queue._opid == os.getpid()
    assert queue._ignore_epipe is False
    assert len(queue._buffer) == 0
    with queue._rlock, queue._wlock, queue._notempty:
        pass
    assert queue._sem.acquire(False)
    queue._reader = "mine"
    assert queue._reader == "mine"
    with pytest.raises(AttributeError, match="no_such_name"):
        queue.no_such_name  # noqa: B018


def test_the_standard_executor_works_on_it(method):
    context = procession.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        future = executor.submit(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            future.result()


def test_a_worker_of_the_standard_executor_that_dies_is_noticed(method):
    context = procession.get_context(method)
    with (
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor,
        pytest.raises(concurrent.futures.process.BrokenProcessPool),
    ):
        executor.submit(os._exit, 3).result(60)


class Quiet(queues.Queue):
    def _on_queue_feeder_error(self, e, obj):
        self.error = e


def test_an_error_that_a_queue_keeps_does_not_keep_the_callers_frames():
    class Local:
        pass

    def put_with_local() -> weakref.ref:
        local = Local()
        queue.put(threading.Lock())
        return weakref.ref(local)

    queue = Quiet(ctx=ctx)
    gone = put_with_local()
    gc.collect()
    assert isinstance(queue.error, TypeError)
    assert gone() is None


def test_each_private_part_has_a_descriptor():
    from procession._pickling.queue_ends import PARTS

    described = {
        name for name, value in vars(queues._Parts).items() if isinstance(value, queues._Part)
    }
    assert described == set(PARTS)
    for make in (queues.Queue, queues.JoinableQueue, queues.SimpleQueue):
        # With it, the interpreter would make an object of each method that it calls.
        assert not hasattr(make, "__getattr__")
