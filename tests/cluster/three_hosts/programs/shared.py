"""Scenes of values, arrays, managers, and what processes are given on several hosts."""

from __future__ import annotations

import ctypes

from helper import CONSTANT, Point
from scenes import LONG, host, hosts_of, joined, main, started


class Pair(ctypes.Structure):
    _fields_ = [("left", ctypes.c_int), ("right", ctypes.c_double)]


def add(value, array, times):
    for number in range(times):
        with value.get_lock():
            value.value += 1
        with array.get_lock():
            array[number % len(array)] += 1


def values_and_arrays(ctx):
    value, array = ctx.Value("i", 5), ctx.Array("d", [0.5] * 4)
    joined(started(ctx, add, value, array, 20, times=3))
    assert value.value == 65
    assert array[:] == [15.5] * 4 and len(array) == 4


def write_raw(value, array, text, pair):
    value.value = 2.5
    array[1:3] = [7, 8]
    text.value = b"written"
    pair.left, pair.right = 3, 4.5


def raw_values_and_arrays(ctx):
    for _ in range(2):
        value, array = ctx.RawValue("d"), ctx.RawArray("i", 4)
        text, pair = ctx.Array("c", 20), ctx.Value(Pair, 1, 2.0)
        joined(started(ctx, write_raw, value, array, text, pair))
        assert (value.value, array[:], text.value) == (2.5, [0, 7, 8, 0], b"written")
        assert (pair.left, pair.right) == (3, 4.5)


def change(dictionary, things, namespace, lock, number):
    dictionary[number] = host()
    things.append(number)
    with lock:
        namespace.total += number


def a_manager(ctx):
    with ctx.Manager() as manager:
        dictionary, things, lock = manager.dict(), manager.list(), manager.Lock()
        namespace = manager.Namespace(total=0)
        processes = [
            started(ctx, change, dictionary, things, namespace, lock, number)[0]
            for number in range(6)
        ]
        joined(processes)
        assert sorted(dictionary) == sorted(things) == list(range(6))
        assert len(set(dictionary.values())) == hosts_of(ctx.get_start_method())
        assert namespace.total == sum(range(6))


def tell(queue, *given, **named):
    queue.put((given, named, CONSTANT, host()))


def what_a_process_is_given(ctx):
    """Objects of a module that only the driver's host has a file of, and functions by value."""
    queue = ctx.Queue()
    processes = [
        ctx.Process(target=tell, args=(queue, Point(number, 2)), kwargs={"f": lambda x: x + 1})
        for number in range(3)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        given, named, constant, _ = queue.get(timeout=LONG)
        assert given[0].y == 2 and named["f"](1) == 2 and constant == "of the helper"
    joined(processes)


def a_pool(ctx):
    with ctx.Pool(3) as pool:
        assert pool.map(abs, range(-5, 5), 1) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


if __name__ == "__main__":
    main()
