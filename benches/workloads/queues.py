"""Messages through queues."""

from __future__ import annotations

from rows import row

from .timing import MEGABYTE, clock


def produce(queue, count):
    for number in range(count):
        queue.put((number, "task", 0.5))


def one_to_one(library, queue, send=produce, count=100_000):
    """Return messages per second through a queue, from one process to another."""
    process = library.Process(target=send, args=(queue, count + 1))
    process.start()
    queue.get()
    begin = clock()
    for _ in range(count):
        queue.get()
    seconds = clock() - begin
    process.join()
    return count / seconds


@row("queue, small tuples, 1 to 1", "/s", 4)
def small_tuples(library):
    return one_to_one(library, library.Queue())


@row("SimpleQueue, small tuples, 1 to 1", "/s", 9)
def simple_queue(library):
    return one_to_one(library, library.SimpleQueue())


def produce_and_join(queue, count):
    produce(queue, count)
    queue.join()


@row("JoinableQueue, small tuples, 1 to 1", "/s", 9)
def joinable_queue(library, count=100_000):
    """Return messages per second, each of which the receiver marks as done."""
    queue = library.JoinableQueue()
    process = library.Process(target=produce_and_join, args=(queue, count + 1))
    process.start()
    queue.get()
    queue.task_done()
    begin = clock()
    for _ in range(count):
        queue.get()
        queue.task_done()
    seconds = clock() - begin
    process.join()
    return count / seconds


def produce_bytes(queue, count):
    for _ in range(count):
        queue.put(bytes(64))


@row("queue, bytes of 64, 1 to 1", "/s", 9)
def bytes_64(library):
    return one_to_one(library, library.Queue(), produce_bytes)


@row("queue, small tuples, 16 to 1", "/s", 7)
def sixteen_producers(library, count=6_000, number=16):
    """Return messages per second that several processes together put into a queue."""
    queue, begun = library.Queue(), library.Barrier(number + 1)
    processes = [
        library.Process(target=produce_at_once, args=(queue, begun, count)) for _ in range(number)
    ]
    for process in processes:
        process.start()
    begun.wait()
    begin = clock()
    for _ in range(number * count):
        queue.get()
    seconds = clock() - begin
    for process in processes:
        process.join()
    return number * count / seconds


def produce_at_once(queue, begun, count):
    begun.wait()
    produce(queue, count)


def produce_many(queue, count, size):
    if not hasattr(queue, "put_many"):
        produce(queue, count)
        return
    for first in range(0, count, size):
        queue.put_many([(number, "task", 0.5) for number in range(first, min(first + size, count))])


def receive_many(queue, count, size):
    """Receive so many messages, several at a time if the queue can do that."""
    if not hasattr(queue, "get_many"):
        for _ in range(count):
            queue.get()
        return
    while count > 0:
        count -= len(queue.get_many(min(size, count)))


@row("queue, small tuples, a hundred at a time", "/s", 15)
def small_tuples_many(library, count=200_000, size=100):
    """Return messages per second through a queue; the standard library's takes one at a time."""
    queue = library.Queue()
    process = library.Process(target=produce_many, args=(queue, count + 1, size))
    process.start()
    queue.get()
    begin = clock()
    receive_many(queue, count, size)
    seconds = clock() - begin
    process.join()
    return count / seconds


def echo(requests, replies):
    for request in iter(requests.get, None):
        replies.put(request)


@row("round trip over two queues", "us", 10)
def round_trip(library, count=3_000):
    """Return microseconds from a put into one queue to the get of the echo from another."""
    requests, replies = library.Queue(), library.Queue()
    process = library.Process(target=echo, args=(requests, replies))
    process.start()
    for warm in (True, False):
        begin = clock()
        for number in range(300 if warm else count):
            requests.put(number)
            replies.get()
        seconds = clock() - begin
    requests.put(None)
    process.join()
    return seconds / count * 1e6


@row("round trip over two queues, on one core", "us", 2, one_core=True)
def one_core(library):
    return round_trip(library, 2_000)


def payload():
    """Return 64 MB: a numpy array, or bytes where numpy is not installed."""
    try:
        import numpy
    except ImportError:
        return bytes(64 * MEGABYTE)
    return numpy.ones(8 * MEGABYTE)


def produce_arrays(queue, count):
    array = payload()
    for _ in range(count):
        queue.put(array)


@row("queue, 64 MB arrays", "GB/s", 5)
def arrays(library, count=8):
    """Return gigabytes per second through a queue that holds at most two arrays of 64 MB."""
    queue = library.Queue(2)
    process = library.Process(target=produce_arrays, args=(queue, count + 2))
    process.start()
    for _ in range(2):
        item = queue.get()
    begin = clock()
    for _ in range(count):
        item = queue.get()
        assert len(item) and item[0] == item[-1]
    seconds = clock() - begin
    process.join()
    return count * 64 * MEGABYTE / seconds / 1e9
