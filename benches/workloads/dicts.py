"""Dictionaries and lists that processes share: a manager's, `SharedDict` and `SharedList`."""

from __future__ import annotations

import contextlib
import random

from rows import curve, row

from .timing import clock, rate


@contextlib.contextmanager
def dictionary(library):
    """Yield a dictionary that processes of the library can share."""
    if hasattr(library, "SharedDict"):
        yield library.SharedDict()
    else:
        with library.Manager() as manager:
            yield manager.dict()


def names(number):
    """Return so many keys."""
    return [f"key{index}" for index in range(number)]


def chosen(keys, count):
    """Return keys in random order, each perhaps several times."""
    choose = random.Random(1).choice
    return [choose(keys) for _ in range(count)]


def look_up(shared, keys):
    for key in keys:
        shared[key]


def assign(shared, keys):
    for key in keys:
        shared[key] = 1


def one_process(library, work, count, number=1000):
    """Return calls per second of one process, with so many keys."""
    with dictionary(library) as shared:
        keys = names(number)
        shared.update(dict.fromkeys(keys, 0))
        picked = chosen(keys, count)
        return rate(lambda turns: work(shared, picked[:turns]), count)


def together(library, work, count, processes, number=1000):
    """Return calls per second of several processes together."""
    with dictionary(library) as shared:
        keys = names(number)
        shared.update(dict.fromkeys(keys, 0))
        begun = library.Barrier(processes + 1)
        children = [
            library.Process(target=_begin, args=(begun, work, shared, chosen(keys, count)))
            for _ in range(processes)
        ]
        for child in children:
            child.start()
        begun.wait()
        begin = clock()
        for child in children:
            child.join()
        return processes * count / (clock() - begin)


def _begin(begun, work, shared, keys):
    work(shared, keys[:10])
    begun.wait()
    work(shared, keys)


def several(library, standard, ours):
    """Return how often to call: a manager's calls take longer."""
    return ours if hasattr(library, "SharedDict") else standard


@row("dictionary: look-up", "/s", 50)
def dict_get(library):
    return one_process(library, look_up, several(library, 10_000, 500_000))


@row("dictionary: assignment", "/s", 20)
def dict_set(library):
    return one_process(library, assign, several(library, 10_000, 300_000))


@row("dictionary: look-up, two processes", "/s", 50)
def dict_get_two(library):
    return together(library, look_up, several(library, 5_000, 500_000), 2)


@row("dictionary: look-up, four processes", "/s", 50)
def dict_get_four(library):
    return together(library, look_up, several(library, 5_000, 500_000), 4)


@row("dictionary: assignment, two processes", "/s", 20)
def dict_set_two(library):
    return together(library, assign, several(library, 5_000, 300_000), 2)


@contextlib.contextmanager
def items(library, number=1000):
    """Yield a list with so many items that processes of the library can share."""
    if hasattr(library, "SharedList"):
        yield library.SharedList(range(number))
    else:
        with library.Manager() as manager:
            yield manager.list(range(number))


def in_list(library, work, count, number=1000):
    """Return calls per second of one process, with a list of so many items."""
    with items(library, number) as shared:
        picked = chosen(range(number), count)
        return rate(lambda turns: work(shared, picked[:turns]), count)


def append(shared, values):
    for value in values:
        shared.append(value)


@row("list: item", "/s", 50)
def list_get(library):
    return in_list(library, look_up, several(library, 10_000, 500_000))


@row("list: assignment", "/s", 20)
def list_set(library):
    return in_list(library, assign, several(library, 10_000, 200_000))


@row("list: append", "/s", 20)
def list_append(library):
    return in_list(library, append, several(library, 10_000, 200_000), 1)


def plain(number):
    """Return the look-ups per second of a plain dict."""
    keys = names(number)
    shared, picked = dict.fromkeys(keys, 0), chosen(keys, 500_000)
    return rate(lambda turns: look_up(shared, picked[:turns]), len(picked))


SIZES = [10**power for power in range(2, 7)]


@curve(
    "Look-ups in a shared dictionary",
    "keys",
    "look-ups per second",
    SIZES,
    most=10**5,
    floor=plain,
    floor_title="a plain dict",
)
def dict_gets(library, number):
    return one_process(library, look_up, several(library, 10_000, 500_000), number)


@curve("Assignments in a shared dictionary", "keys", "assignments per second", SIZES, most=10**5)
def dict_sets(library, number):
    return one_process(library, assign, several(library, 10_000, 300_000), number)


@curve("Assignments in a shared list", "items", "assignments per second", SIZES, most=10**5)
def list_sets(library, number):
    return in_list(library, assign, several(library, 10_000, 200_000), number)


@curve("Filling a shared dictionary", "keys", "keys per second", SIZES, most=10**5)
def dict_filled(library, number):
    with dictionary(library) as shared:
        keys = names(number)
        begin = clock()
        assign(shared, keys)
        return number / (clock() - begin)
