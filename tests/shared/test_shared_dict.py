"""`SharedDict` as a `dict`: values, keys, errors. `test_shared_dict_processes` has several processes."""

from __future__ import annotations

import collections.abc
import fractions
import gc
import itertools
import math
import os
import pickle
import random
import socket
import typing
from typing import NamedTuple

import pytest

import procession
from procession import SharedDict
from procession._procession import counters
from tests.conftest import METHODS

VALUES = [
    *(None, True, False, 0, 1, -1, 127, 128, -128, -129, 2**63 - 1, -(2**63), 2**64, -(2**200)),
    *(
        0.0,
        -0.0,
        1.5,
        1e300,
        math.inf,
        "",
        "a",
        "é",
        "\udc80",
        "x" * 5000,
        b"",
        b"\0\1",
        b"y" * 5000,
    ),
    *((), (1, "a", None), [1, [2]], {"a": {1}}, frozenset([1]), fractions.Fraction(1, 3)),
]
KEYS = [
    *(None, 0, 2, -3, 128, 255, 256, -256, 2**70, -(2**63), -(2**64), 1.5, -2.5, 1e300, math.inf),
    *("", "a", "é", "\udc80", b"", b"a", (), (0,), (1, ("a", b"a", None), 2.5), "k" * 5000),
    *((1, 2.0), (1, -0.0, True, 3), ((1, 2), 3.0, 4)),
    *(frozenset([1]), fractions.Fraction(1, 3), (1, frozenset())),
]


def same(one, other):
    """Return whether two lists are equal, item for item and type for type."""
    types = [[type(item) for item in items] for items in (one, other)]
    return one == other and types[0] == types[1]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_keep_their_type(value):
    shared = SharedDict(a=value)
    assert same([shared["a"]], [value])
    assert math.copysign(1, shared["a"]) == math.copysign(1, value) if value == 0.0 else True
    assert same(list(shared.values()), [value])


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:30])
def test_keys_come_back_as_they_were_given(key):
    shared = SharedDict({key: 1})
    assert same(list(shared), [key]) and repr(list(shared)) == repr([key])
    assert key in shared and shared[key] == 1 and shared.get(key) == 1
    shared[key] = 2
    assert len(shared) == 1 and shared.pop(key) == 2 and key not in shared


@pytest.mark.parametrize(
    "keys", [[1, 1.0, True], [0, -0.0, False], [(2, "a"), (2.0, "a")], [2**70, float(2**70)]]
)
def test_equal_keys_are_one_and_the_first_is_kept(keys):
    for order in itertools.permutations(keys):
        shared, plain = SharedDict(), {}
        for value, key in enumerate(order):
            shared[key] = plain[key] = value
        assert len(shared) == 1 and shared == plain
        assert repr(list(shared)) == repr(list(plain))


def test_different_keys_are_different():
    assert len(SharedDict((key, 1) for key in KEYS)) == len(dict.fromkeys(KEYS))
    assert "1" not in SharedDict({1: 1, b"1": 1, ("1",): 1})


def test_nan_is_equal_to_nan():
    shared = SharedDict({math.nan: 1})
    assert float("nan") in shared and math.isnan(next(iter(shared)))


@pytest.mark.parametrize("seed", range(6))
def test_any_history_is_that_of_a_dict(seed):
    chance = random.Random(seed)
    shared, plain = SharedDict(), {}
    keys = [*range(30), *map(str, range(30)), *((n, n) for n in range(10)), 1.0, True, "k" * 2000]
    for _ in range(1500):
        key, value = chance.choice(keys), chance.choice(VALUES)
        match chance.randrange(8):
            case 0 | 1:
                shared[key] = plain[key] = value
            case 2:
                assert shared.pop(key, "none") == plain.pop(key, "none")
            case 3:
                assert shared.setdefault(key, value) == plain.setdefault(key, value)
            case 4:
                assert shared.get(key, "none") == plain.get(key, "none")
            case 5:
                assert (key in shared) == (key in plain)
            case 6:
                try:
                    del plain[key]
                except KeyError:
                    with pytest.raises(KeyError):
                        del shared[key]
                else:
                    del shared[key]
            case 7 if chance.randrange(20) == 0:
                shared.clear()
                plain.clear()
        if chance.randrange(50) == 0:
            assert list(shared.items()) == list(plain.items()) and len(shared) == len(plain)
    assert shared == plain and list(shared) == list(plain)
    assert list(reversed(shared)) == list(reversed(plain))


def test_it_is_a_mutable_mapping():
    shared = SharedDict([("a", 1)], b=2)
    assert isinstance(shared, collections.abc.MutableMapping)
    assert not issubclass(dict, SharedDict)
    names = set(dir(collections.abc.MutableMapping)) | set(dir(dict))
    missing = {name for name in names if "abc" not in name and "_MutableMapping" not in name}
    missing -= set(dir(SharedDict))
    # A class method that makes a dictionary, and what belongs to types alone (from 3.14 on, a cache of annotations).
    of_types = {"__abstractmethods__", "__class_getitem__", "__slots__", "__annotations_cache__"}
    assert missing <= {"fromkeys", *of_types}
    assert shared.keys() == {"a", "b"} and list(shared.values()) == [1, 2]
    assert shared.items() & {("a", 1)} == {("a", 1)}
    assert shared == {"b": 2, "a": 1} and shared != {"a": 1} and shared != [1]
    assert shared == SharedDict(shared) and shared.copy() == {"a": 1, "b": 2}
    assert type(shared.copy()) is dict and type(shared | {"c": 3}) is dict
    assert shared | {"c": 3} == {"a": 1, "b": 2, "c": 3} == {"c": 3} | shared
    shared |= {"c": 3}
    assert repr(shared) == "SharedDict({'a': 1, 'b': 2, 'c': 3})"
    assert shared.popitem() == ("c", 3) and bool(shared) and not SharedDict()
    with pytest.raises(TypeError, match="unhashable"):
        hash(shared)


def test_errors_are_those_of_a_dict():
    shared = SharedDict()
    for call in (lambda: shared["a"], lambda: shared.pop("a"), lambda: shared.__delitem__("a")):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value.args == ("a",)
    with pytest.raises(KeyError):
        shared.popitem()
    for unhashable in ([], {}, ([],)):
        with pytest.raises(TypeError, match="unhashable"):
            shared[unhashable] = 1
    with pytest.raises(TypeError):
        shared.pop("a", 1, 2)
    assert len(shared) == 0


def test_keys_that_are_too_long_are_refused():
    shared = SharedDict()
    shared["k" * 1_000_000] = 1
    assert shared["k" * 1_000_000] == 1
    for key in ("k" * (1 << 20), (1.0,) * 5000):
        with pytest.raises(ValueError, match="too long"):
            shared[key] = 1
        with pytest.raises(ValueError, match="too long"):
            shared.setdefault(key)
        # Such a key is not there.
        assert key not in shared and shared.get(key, 5) == 5 == shared.pop(key, 5)
        for use in (shared.__getitem__, shared.__delitem__, shared.pop):
            with pytest.raises(KeyError):
                use(key)
    assert len(shared) == 1


class Pair(NamedTuple):
    one: object
    other: object


def test_equal_parts_of_a_key_need_not_be_the_same_object():
    text = "".join(["a", "b"])
    shared = SharedDict({Pair(text, text): 1})
    assert shared[Pair(text, "".join(["a", "b"]))] == 1
    assert Pair(text, "c") not in shared


def test_equal_sets_are_one_key_in_any_order():
    # These have the same place in a set of this size.
    one, other = frozenset([0, 8, (1, 2.0)]), frozenset([(1, 2.0), 8, 0.0])
    assert list(one) != list(other)
    shared = SharedDict({one: 1, (frozenset("ab"), 1): 2})
    assert shared[other] == 1 and shared[frozenset("ba"), True] == 2
    assert frozenset([0, 8]) not in shared and (0, 8, (1, 2.0)) not in shared
    assert repr(sorted(next(iter(shared)) - {(1, 2.0)})) == "[0, 8]"
    assert (1, 2.0) in [item for item in next(iter(shared)) if repr(item) == "(1, 2.0)"]


#: Keys of types that the main module defines, in a child and in its parent.
TYPES_OF_MAIN = """
import dataclasses, enum, sys, typing
import procession

class Color(enum.Enum):
    RED = 1

class Pair(typing.NamedTuple):
    one: object
    other: object

@dataclasses.dataclass(frozen=True)
class Data:
    pair: Pair

def function():
    pass

class Outer:
    class Inner(Pair):
        pass

KEYS = [Color.RED, Pair(1, "a"), Data(Pair("a", "a")), Outer, Outer.Inner(2, 3), function]

def work(shared):
    assert list(shared) == KEYS, list(shared)
    for key in KEYS:
        assert shared[key] == 1
        shared[key] = 2

if __name__ == "__main__":
    ctx = procession.get_context(sys.argv[1])
    shared = ctx.SharedDict(dict.fromkeys(KEYS, 1))
    child = ctx.Process(target=work, args=(shared,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert list(shared.items()) == [(key, 2) for key in KEYS], shared
    assert len(shared) == len(KEYS)
    print("done")
"""


@pytest.mark.parametrize("method", METHODS)
def test_keys_of_types_of_the_main_module(run_program, method):
    end = run_program(TYPES_OF_MAIN, method)
    assert (end.returncode, end.stdout) == (0, "done\n"), end.stderr


ALWAYS_BY_NAME = """
import enum
import sys

import procession

class Color(enum.Enum):
    RED = 1

def check(shared, results):
    results.put([Color.RED in shared, shared.setdefault(Color.RED, 2), len(shared)])

def main(method):
    ctx = procession.get_context(method)
    shared, results = ctx.SharedDict({Color.RED: 1}), ctx.Queue()
    # Its name is part of the pickle; and what the main module has is sent by value to some children.
    globals()["RED"] = globals()["find"] = check
    assert Color.RED in shared
    child = ctx.Process(target=check, args=(shared, results))
    child.start()
    assert Color.RED in shared
    assert results.get() == [True, 1, 1]
    child.join()
    assert Color.RED in shared and list(shared.items()) == [(Color.RED, 1)]
    print("done")

if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.parametrize("method", METHODS)
def test_keys_do_not_depend_on_what_a_receiver_lacks(run_program, method):
    end = run_program(ALWAYS_BY_NAME, method)
    assert (end.returncode, end.stdout) == (0, "done\n"), end.stderr


def test_keys_of_types_without_a_name_are_refused():
    class Local(NamedTuple):
        number: int

    shared = SharedDict()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        shared[Local(1)] = 1
    assert not shared


class Named(SharedDict):
    name: str


def name_of(shared, results):
    results.put((shared.name, dict(shared.items())))


def test_attributes_of_a_subclass_travel(ctx):
    shared, results = Named(a=1), ctx.Queue()
    shared.name = "n"
    child = ctx.Process(target=name_of, args=(shared, results))
    child.start()
    assert results.get() == ("n", {"a": 1})
    child.join()


class Unreadable:
    def __reduce__(self):
        return __import__, ("there_is_no_such_module",)


def test_keys_need_no_values():
    shared = SharedDict(a=1, b=Unreadable())
    assert list(shared.keys()) == ["a", "b"] and shared.keys() >= {"b"}
    with pytest.raises(ModuleNotFoundError):
        shared.values()


def test_popitem_returns_any_value():
    shared = SharedDict(a=SharedDict.ABSENT)
    assert shared.popitem() == ("a", SharedDict.ABSENT)
    with pytest.raises(KeyError):
        shared.popitem()


def test_fromkeys_and_generic_alias():
    shared = Named.fromkeys("ab", 3)
    assert type(shared) is Named and shared == {"a": 3, "b": 3}
    assert SharedDict.fromkeys([1]) == {1: None}
    assert typing.get_args(SharedDict[str, int]) == (str, int)


def test_shared_objects_are_refused():
    shared = SharedDict()
    for refused in (procession.Lock(), procession.Queue(), SharedDict(), [procession.Event()]):
        with pytest.raises(TypeError, match="shared objects"):
            shared["a"] = refused
    assert "a" not in shared


def test_what_is_refused_leaves_no_descriptor():
    shared = SharedDict()
    reader, writer = procession.Pipe(duplex=False)
    with reader, writer, socket.socket() as sock:

        def refuse():
            for refused in (reader, (writer,), sock):
                with pytest.raises(TypeError, match="shared objects"):
                    shared["a"] = refused
                for use in (shared.get, shared.__contains__, lambda key: shared.setdefault(key, 1)):
                    with pytest.raises(TypeError, match="shared objects"):
                        use((1, refused))

        refuse()  # the first descriptor opens a socket, which closes when there was none for a while
        before = open_descriptors()
        for _ in range(20):
            refuse()
        assert open_descriptors() <= before
    assert not shared


def test_a_pickle_that_fails_leaves_no_descriptor():
    queue = procession.SimpleQueue()
    reader, writer = procession.Pipe(duplex=False)

    def fail():
        with pytest.raises(ZeroDivisionError):
            queue.put([reader, Unpicklable()])

    with reader, writer:
        fail()
        before = open_descriptors()
        for _ in range(20):
            fail()
        assert open_descriptors() <= before


class Unpicklable:
    def __reduce__(self):
        return 1 // 0


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_increment():
    shared = SharedDict(b=True, text="a")
    assert [shared.increment("n"), shared.increment("n", 5), shared.increment("n", -1)] == [1, 6, 5]
    assert shared.increment("m", 2, initial=10) == 12
    assert same([shared.increment("f", 0.5), shared.increment("f", 1)], [0.5, 1.5])
    assert same([shared.increment("b")], [2])
    assert shared.increment("n", 2**63) == 2**63 + 5 == shared["n"]
    assert shared.increment("text", "b") == "ab"
    with pytest.raises(TypeError):
        shared.increment("text")
    assert shared["text"] == "ab"


def test_compare_and_set():
    shared, absent = SharedDict(a=1), SharedDict.ABSENT
    assert not shared.compare_and_set("a", 2, 3) and shared["a"] == 1
    assert shared.compare_and_set("a", 1.0, [1]) and shared["a"] == [1]
    assert not shared.compare_and_set("a", absent, 3)
    assert shared.compare_and_set("a", [1], absent) and "a" not in shared
    assert not shared.compare_and_set("a", None, 3) and "a" not in shared
    assert shared.compare_and_set("a", absent, None) and shared["a"] is None
    assert pickle.loads(pickle.dumps(absent)) is absent and repr(absent) == "SharedDict.ABSENT"


def test_memory_comes_back():
    SharedDict(a=1)
    gc.collect()
    before = counters()
    shared = SharedDict()
    for key in range(20_000):
        shared[key] = "x" * (2000 if key % 100 == 0 else 10)
    assert counters()["transit"] > before["transit"] + 10_000
    for key in range(20_000):
        del shared[key]
    assert counters()["transit"] < before["transit"] + 50
    del shared
    gc.collect()
    assert counters() == before
