"""`Value` and `Array`, alone and contended."""

from __future__ import annotations

from rows import row

from .timing import clock, nanoseconds


@row("Value: read value", "ns", 4)
def value_read(library, count=300_000):
    value = library.Value("i", 5)

    def work(number):
        for _ in range(number):
            value.value  # noqa: B018 (the access is what is measured)

    return nanoseconds(work, count)


@row("Value: write value", "ns", 4)
def value_write(library, count=300_000):
    value = library.Value("i", 5)

    def work(number):
        for _ in range(number):
            value.value = 7

    return nanoseconds(work, count)


@row("Value: with get_lock(): value += 1", "ns", 4)
def value_increment(library, count=100_000):
    value = library.Value("i", 5)

    def work(number):
        for _ in range(number):
            with value.get_lock():
                value.value += 1

    return nanoseconds(work, count)


@row("Array: a[5]", "ns", 10)
def array_item(library, count=200_000):
    array = library.Array("i", range(1000))

    def work(number):
        for _ in range(number):
            array[5]

    return nanoseconds(work, count)


@row("Array: a[:] of 1,000", "ns", 4)
def array_slice(library, count=5_000):
    array = library.Array("i", range(1000))

    def work(number):
        for _ in range(number):
            array[:]

    return nanoseconds(work, count)


def increment(value, count):
    for _ in range(count):
        with value.get_lock():
            value.value += 1


def contended(library, processes, count):
    """Return the rate at which so many processes together increment a value under its lock."""
    value = library.Value("q")
    begun = library.Barrier(processes + 1)
    children = [
        library.Process(target=_begin, args=(begun, value, count)) for _ in range(processes)
    ]
    for child in children:
        child.start()
    begin = clock()
    begun.wait()
    for child in children:
        child.join()
    seconds = clock() - begin
    assert value.value == processes * count
    return processes * count / seconds


def _begin(begun, value, count):
    begun.wait()
    increment(value, count)


@row("Value += 1 under its lock, 2 processes", "/s", 4)
def value_contended(library):
    return contended(library, 2, 200_000)


@row("Value += 1 under its lock, 4 processes", "/s", 4)
def value_contended_4(library):
    return contended(library, 4, 100_000)
