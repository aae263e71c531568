"""Figures that depend on a size: of a message, of a queue, of a family, of a job."""

from __future__ import annotations

import pickle

from rows import curve

from .timing import MEGABYTE, clock

KIB, GIB = 1 << 10, 1 << 30


def of_size(size):
    """Return an array of so many bytes, or bytes where numpy is not installed."""
    try:
        import numpy
    except ImportError:
        return bytes(size)
    return numpy.ones(size, dtype="u1")


def turns(size, most=20_000, total=256 * MEGABYTE):
    """Return how often to send a message of this size: often, but not too much in all."""
    return max(8, min(most, total // size))


def send(queue, begun, item, before, count):
    for _ in range(before):
        queue.put(item)
    begun.wait()
    for _ in range(count):
        queue.put(item)


def received(library, item, count, producers=1, bound=0):
    """Return the items per second that so many processes together put into a queue.

    With a bound, the queue has at most as many items, and twice as many pass before the measurement:
    all memory that the queue uses was used before.
    """
    queue, begun = library.Queue(bound), library.Barrier(producers + 1)
    before = 2 * bound
    processes = [
        library.Process(target=send, args=(queue, begun, item, before, count // producers))
        for _ in range(producers)
    ]
    for process in processes:
        process.start()
    for _ in range(before * producers):
        queue.get()
    begin = clock()
    begun.wait()
    for _ in range(count // producers * producers):
        queue.get()
    seconds = clock() - begin
    for process in processes:
        process.join()
    return count / seconds


def copied(size):
    """Return the bytes per second of copies within one process, source and target warm."""
    # Not at the same place of a page: the processor would take each read for one of the last write.
    source, target = bytes(size), memoryview(bytearray(size + 1024))[1024:]
    count = turns(size)
    target[:] = source
    begin = clock()
    for _ in range(count):
        target[:] = source
    return size * count / (clock() - begin)


def by_size(library, item, size):
    return size * received(library, item, turns(size), bound=2)


SIZES = [8 << (3 * power) for power in range(10)]


@curve(
    "Arrays through a queue, one process to another",
    "bytes of an array",
    "bytes per second",
    SIZES,
    most=128 * MEGABYTE,
    floor=copied,
    floor_title="one copy within a process",
)
def array_size(library, size):
    return by_size(library, of_size(size), size)


@curve(
    "Byte strings through a queue, one process to another",
    "bytes of a string",
    "bytes per second",
    SIZES,
    most=128 * MEGABYTE,
    floor=copied,
    floor_title="one copy within a process",
)
def bytes_size(library, size):
    return by_size(library, bytes(size), size)


def pickled(_producers):
    """Return how many small tuples per second one process pickles and unpickles."""
    count = 100_000
    begin = clock()
    for number in range(count):
        pickle.loads(pickle.dumps((number, "task", 0.5), 5))
    return count / (clock() - begin)


@curve(
    "Small tuples through a queue, several producers to one consumer",
    "producers",
    "items per second",
    [1, 2, 4, 8, 16],
    floor=pickled,
    floor_title="pickle and unpickle within a process",
)
def producers(library, number, count=48_000):
    return received(library, (1, "task", 0.5), count, number)


@curve(
    "Items that wait in a queue while others pass",
    "items in the queue",
    "seconds per put and get",
    [10**power for power in range(8)],
    most=10**5,
)
def queue_length(library, length, count=20_000):
    queue = library.Queue()
    for number in range(length):
        queue.put(number)
    begin = clock()
    for number in range(count):
        queue.put(number)
        queue.get()
    seconds = clock() - begin
    for _ in range(length):
        queue.get()
    return seconds / count


@curve(
    "Other objects alive while items pass through a queue",
    "locks alive",
    "seconds per put and get",
    [10**power for power in range(7)],
    most=10**4,
)
def objects_alive(library, number, count=20_000):
    alive = [library.Lock() for _ in range(number)]
    figure = queue_length(library, 1, count)
    assert len(alive) == number
    return figure


@curve(
    "Trivial tasks of Pool(2).map",
    "tasks of a call",
    "tasks per second",
    [10**power for power in range(1, 8)],
    most=10**6,
)
def pool_tasks(library, number):
    with library.Pool(2) as pool:
        pool.map(abs, range(1000))
        begin = clock()
        pool.map(abs, range(number))
        return number / (clock() - begin)
