"""Small items of built-in types, which are not pickled: they arrive as a pickle would bring them."""

from __future__ import annotations

import collections
import enum
import gc
import math
import pickle
import random

import pytest

import procession
from procession._procession import load_body

ctx = procession.get_context("fork")

#: The first byte of such an item's body.
SMALL = 7


@pytest.fixture(scope="module")
def through():
    """Return a function that sends an item through a queue."""
    queue = ctx.SimpleQueue()

    def send(item):
        queue.put(item)
        return queue.get()

    return send


def shape(item):
    """Return the item with the type of each part: `1 == True == 1.0`, and NaN is equal to nothing."""
    if isinstance(item, (tuple, list)):
        parts = [shape(part) for part in item]
    elif isinstance(item, dict):
        parts = [(shape(key), shape(value)) for key, value in item.items()]
    else:
        parts = repr(item)
    return type(item), parts


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


class Pair(tuple):
    pass


Named = collections.namedtuple("Named", "x y")

ITEMS = [
    *(None, True, False, 0, 1, -1, 127, 128, -128, -129, 2**31, 2**63 - 1, -(2**63), 2**63, 10**40),
    *(0.0, -0.0, 1.5, math.inf, math.nan, 5e-324),
    *((), [], {}, (1,), [1], {1: 2}, {"a": None, 2: (3.5, b"x")}, ((((1,), 2), 3), [4, "x"])),
    *(("",), ("text",), ("\0é\xff",), ("€",), ("\U0001f600",), ("\ud800",), (b"\0\xff",)),
    *((bytearray(b"x"),), {1, 2}, (frozenset((1,)),), (1j,), (range(3),), (int, len)),
    *(Colour.RED, (Colour.RED,), Text("x"), (Text("x"),), Pair((1, 2)), (Pair(),), Named(1, [2])),
    *(collections.OrderedDict(a=1), (collections.defaultdict(int),)),
    *([[1], [2]], ({}, []), {"a": [1]}, ([1], (2, [3]))),
]


@pytest.mark.parametrize("item", ITEMS, ids=repr)
def test_an_item_arrives_as_it_was(through, item):
    assert shape(through(item)) == shape(item)


def test_sizes_about_what_a_message_header_holds(through):
    for size in range(300):
        for item in (("x" * size,), (b"x" * size,), (1,) * size, [1.5] * size, {"x" * size: size}):
            assert shape(through(item)) == shape(item)


def test_depths(through):
    item = ()
    for _ in range(80):
        item = (item,)
        assert through(item) == item


ONE = {
    "list": [1],
    "dict": {1: 2},
    "tuple": (math.nan,),
    "str": "some text",
    "bytes": b"some bytes",
}


@pytest.mark.parametrize("kind", ONE)
def test_parts_that_are_one_object_stay_one(through, kind):
    part = ONE[kind]
    first, second = through((part, part))
    assert first is second
    first, second = through([part, part])
    assert first is second
    first, (second, _) = through((part, (part, 1)))
    assert first is second
    got = through({"a": part, "b": [part]})
    assert got["a"] is got["b"][0]
    if kind in ("tuple", "str", "bytes"):
        key, mapping = through((part, {part: 1}))
        assert mapping[key] == 1


def test_an_item_within_itself(through):
    part = [1]
    part.append(part)
    got = through(part)
    assert got[1] is got


def test_a_dictionary_keeps_its_order(through):
    item = dict.fromkeys("zyxabc")
    assert list(through(item)) == list(item)


def any_item(chance, depth):
    kind = chance.randrange(10 if depth else 6)
    if kind == 0:
        return chance.choice((None, True, False))
    if kind == 1:
        return chance.randrange(-(2 ** chance.randrange(1, 70)), 2 ** chance.randrange(1, 70))
    if kind == 2:
        return chance.choice((chance.random(), chance.expovariate(1e-9), -0.0))
    if kind in (3, 4):
        return "".join(chance.choices("ab\0é€\U0001f600", k=chance.randrange(6)))
    if kind == 5:
        return chance.randbytes(chance.randrange(9))
    parts = [any_item(chance, depth - 1) for _ in range(chance.randrange(5))]
    if kind == 9:
        return dict(zip("abcde", parts, strict=False))
    return parts if kind == 8 else tuple(parts)


@pytest.mark.parametrize("seed", range(4))
def test_random_items_arrive_as_by_pickle(through, seed):
    chance = random.Random(seed)
    for _ in range(2_000):
        item = any_item(chance, 3)
        assert shape(through(item)) == shape(pickle.loads(pickle.dumps(item)))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_item_is_an_error_or_an_object(seed):
    chance = random.Random(seed)
    made = 0
    for _ in range(20_000):
        # Few values of a byte, so that many of them are types, and lengths that fit.
        body = bytes(chance.choices(range(12), k=chance.randrange(120)))
        try:
            load_body(bytes([SMALL]) + body)
            made += 1
        except (RuntimeError, TypeError) as error:
            assert "damaged" in str(error) or "unhashable" in str(error)
    assert made


def test_without_memory_it_is_a_memory_error():
    testing = pytest.importorskip("_testcapi")
    if not hasattr(testing, "set_nomemory"):
        pytest.skip("this interpreter cannot refuse memory")
    queue = ctx.SimpleQueue()
    for item in (
        (1.5, 2**40, "abc", b"xyz"),
        [1000.5],
        {"aa": (2.5,), 3: 4},
        b"lone",
        bytearray(9),
    ):
        failures = 0
        for start in range(30):
            queue.put(item)
            testing.set_nomemory(start, start + 1)
            try:
                got = queue.get()
            except MemoryError:
                failures += 1
                continue
            finally:
                testing.remove_mem_hooks()
            assert got == item
        # An unpickler asks for memory more often than the parts of an item do: none was at work.
        assert 0 < failures <= 5


def test_the_collector_finds_no_half_made_containers():
    """It may run at each object that is made, and shows the program what it finds."""
    queue, found = ctx.SimpleQueue(), []

    def look(phase, info):
        found.extend(
            part
            for part in gc.get_objects()
            if type(part) in (tuple, list) and len(part) == 3 and "NULL" in repr(part)
        )

    threshold = gc.get_threshold()
    gc.freeze()
    gc.callbacks.append(look)
    gc.set_threshold(2, 100, 100)
    try:
        kept = []
        for item in ((1000.5, (2, (3,)), (4,)), [7, [2, (3,)], (4,)]) * 200:
            queue.put(item)
            kept.append(queue.get())
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(look)
        gc.unfreeze()
    assert kept[0] == (1000.5, (2, (3,)), (4,))
    assert not found


LATE = """
import builtins, procession

class Late:
    def __del__(self):
        self.queue.put({1, 2})
        print(self.queue.get())

late = builtins.late = Late()
late.queue = procession.SimpleQueue()
late.queue.put((1, 2))
late.queue.get()
"""


def test_another_item_can_be_sent_while_the_interpreter_ends(run_program):
    """The first item has loaded all that any item needs."""
    done = run_program(LATE)
    assert done.stdout == "{1, 2}\n", done.stderr
