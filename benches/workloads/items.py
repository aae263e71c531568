"""Large items and arrays through queues."""

from __future__ import annotations

from rows import row

from .queues import payload
from .timing import MEGABYTE, clock


def produce(queue, make, count):
    item = make()
    for _ in range(count):
        queue.put(item)


def per_second(library, make, count, limit=0):
    """Return items per second through a queue that holds at most `limit` of them (0: any number)."""
    queue = library.Queue(limit)
    process = library.Process(target=produce, args=(queue, make, count + 2))
    process.start()
    for _ in range(2):  # the first loads what the items need
        queue.get()
    begin = clock()
    for _ in range(count):
        queue.get()
    seconds = clock() - begin
    process.join()
    return count / seconds


def make_bytes_1m():
    return b"x" * MEGABYTE


@row("queue, bytes of 1 MB", "/s", 10)
def bytes_1m(library):
    return per_second(library, make_bytes_1m, 300)


def make_bytes_64m():
    return b"x" * (64 * MEGABYTE)


@row("queue, bytes of 64 MB", "GB/s", 8)
def bytes_64m(library):
    return per_second(library, make_bytes_64m, 5, limit=2) * 64 * MEGABYTE / 1e9


def make_str_1m():
    return "x" * MEGABYTE


@row("queue, strings of 1 MB", "/s", 10)
def str_1m(library):
    return per_second(library, make_str_1m, 300)


def make_numpy_1k():
    import numpy

    return numpy.ones(128)


@row("queue, arrays of 1 KB", "/s", 10)
def numpy_1k(library):
    return per_second(library, make_numpy_1k, 20_000)


def make_numpy_64k():
    import numpy

    return numpy.ones(8192)


@row("queue, arrays of 64 KB", "/s", 12)
def numpy_64k(library):
    return per_second(library, make_numpy_64k, 4_000)


def make_dict_of_arrays():
    import numpy

    return {str(number): numpy.ones(1280) for number in range(100)}


@row("queue, dict of 100 arrays of 10 KB", "/s", 12)
def dict_of_arrays(library):
    return per_second(library, make_dict_of_arrays, 300)


def produce_fresh(queue, count):
    for _ in range(count):
        queue.put(payload())


@row("queue, fresh arrays of 64 MB, summed", "GB/s", 12)
def numpy_64m_sum(library, count=6):
    """Return gigabytes per second: the sender makes each array anew, the receiver sums it up."""
    queue = library.Queue(2)
    process = library.Process(target=produce_fresh, args=(queue, count + 2))
    process.start()
    for _ in range(2):
        queue.get().sum()
    begin = clock()
    for _ in range(count):
        queue.get().sum()
    seconds = clock() - begin
    process.join()
    return count * 64 * MEGABYTE / seconds / 1e9
