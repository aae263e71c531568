"""Scenes of queues and pipes between hosts: order, each item once, limits, handles in items."""

from __future__ import annotations

import hashlib
import queue as queues
import time

from scenes import LONG, host, hosts_of, joined, main, started

ITEMS = 200


def produce(queue, producer):
    for number in range(ITEMS):
        queue.put((producer, number))


def consume(queue, results):
    """Take items until the end; then say which, and where."""
    items = []
    while (item := queue.get()) is not None:
        items.append(item)
    results.put((host(), items))


def check_order(results, producers):
    """Check that all items were taken once, and those of a producer in their order."""
    taken = []
    for _, items in results:
        taken += items
        for producer in range(producers):
            own = [number for name, number in items if name == producer]
            assert own == sorted(own)
    assert sorted(taken) == [(p, number) for p in range(producers) for number in range(ITEMS)]


def each_item_once_in_the_order_of_its_producer(ctx):
    for queue in (ctx.Queue(), ctx.Queue(5), ctx.SimpleQueue(), ctx.JoinableQueue()):
        results = ctx.SimpleQueue()
        consumers = started(ctx, consume, queue, results, times=3)
        producers = [started(ctx, produce, queue, number)[0] for number in range(3)]
        joined(producers)
        for _ in consumers:
            queue.put(None)
        found = [results.get() for _ in consumers]
        joined(consumers)
        check_order(found, 3)
        assert len({name for name, _ in found}) == hosts_of(ctx.get_start_method())


def try_limits(queue, results):
    """The queue has room for one more item."""
    seen = []
    queue.put("last", timeout=LONG)
    for call in (queue.put_nowait, lambda item: queue.put(item, timeout=0.05)):
        try:
            call("too many")
        except queues.Full:
            seen.append("Full")
    seen += [queue.get(timeout=LONG), queue.get(timeout=LONG)]
    for call in (queue.get_nowait, lambda: queue.get(timeout=0.05)):
        try:
            call()
        except queues.Empty:
            seen.append("Empty")
    results.put((seen, queue.qsize(), queue.empty(), queue.full()))


def a_full_and_an_empty_queue(ctx):
    for _ in range(3):
        queue, results = ctx.Queue(2), ctx.SimpleQueue()
        queue.put("first")
        process = started(ctx, try_limits, queue, results)
        want = (["Full", "Full", "first", "last", "Empty", "Empty"], 0, True, False)
        assert results.get() == want
        joined(process)


def put_when_there_is_room(queue, results):
    queue.put("second")
    results.put("put")


def a_put_waits_for_room(ctx):
    queue, results = ctx.Queue(1), ctx.SimpleQueue()
    queue.put("first")
    processes = started(ctx, put_when_there_is_room, queue, results)
    processes[0].join(0.3)
    assert results.empty()
    assert [queue.get(timeout=LONG), queue.get(timeout=LONG)] == ["first", "second"]
    assert results.get() == "put"
    joined(processes)


def work(queue, done):
    while True:
        item = queue.get()
        if item is not None:
            with done.get_lock():
                done.value += item
        queue.task_done()
        if item is None:
            return


def a_joinable_queue(ctx):
    queue, done = ctx.JoinableQueue(), ctx.Value("i", 0)
    processes = started(ctx, work, queue, done, times=3)
    for item in range(30):
        queue.put(item)
    queue.join()
    assert done.value == sum(range(30))
    for _ in processes:
        queue.put(None)
    joined(processes)
    queue.join()
    try:
        queue.task_done()
    except ValueError:
        pass
    else:
        raise AssertionError("task_done was called too often")


def digests(queue, results):
    while (item := queue.get()) is not None:
        results.put((len(item), hashlib.sha256(item).hexdigest(), item[:10]))


def large_items(ctx):
    queue, results = ctx.Queue(), ctx.Queue()
    processes = started(ctx, digests, queue, results)
    for size in (0, 1, 100, 105, 4_096, 70_000, 3_000_000, 17):
        item = bytes(number % 251 for number in range(size))
        queue.put(item)
        want = (size, hashlib.sha256(item).hexdigest(), item[:10])
        assert results.get(timeout=LONG) == want
    queue.put(None)
    joined(processes)


def answer(connection):
    with connection:
        while (item := connection.recv()) is not None:
            connection.send((item, host()))


def a_pipe_both_ways(ctx):
    for _ in range(3):
        here, there = ctx.Pipe()
        process = started(ctx, answer, there)
        there.close()
        for item in (1, "two", [None], list(range(1_000)), b"x" * 500_000):
            here.send(item)
            assert here.poll(LONG)
            assert here.recv()[0] == item
        assert not here.poll(0)
        here.send(None)
        try:
            here.recv()
        except EOFError:
            joined(process)
        else:
            raise AssertionError("the other end is closed")


def use_what_comes(queue):
    """Each item is a lock, a counter and the queue for the answer."""
    while (item := queue.get()) is not None:
        lock, counter, answers = item
        with lock:
            counter.value += 1
        answers.put(host())


def objects_in_items(ctx):
    queue = ctx.Queue()
    lock, counter, answers = ctx.Lock(), ctx.RawValue("i", 0), ctx.Queue()
    processes = started(ctx, use_what_comes, queue, times=3)
    for _ in range(12):
        queue.put((lock, counter, answers))
    for _ in range(12):
        answers.get(timeout=LONG)
    for _ in processes:
        queue.put(None)
    joined(processes)
    assert counter.value == 12


def wait_for_an_item(queue, ready):
    ready.release()
    queue.get()


def a_killed_consumer_takes_no_item_with_it(ctx):
    """Killed while it waits."""
    queue, ready = ctx.Queue(), ctx.Semaphore(0)
    processes = started(ctx, wait_for_an_item, queue, ready, times=3)
    for _ in processes:
        assert ready.acquire(timeout=LONG)
    time.sleep(0.1)  # most likely all of them wait; if not, the scene holds as well
    for process in processes:
        process.kill()
    for process in processes:
        process.join(LONG)
    queue.put("for the living")
    assert queue.get(timeout=LONG) == "for the living"


if __name__ == "__main__":
    main()
