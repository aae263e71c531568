"""The order of a `SharedDict`, and what a bound removes: as of a `dict`, for processes together.

Histories of insertions, removals and looks at all keys are linearizable: a search (Wing and Gong,
1993) finds an order of the calls that explains every result, the order of keys in it, too.
"""

from __future__ import annotations

import itertools
import pickle
import random
import time
from dataclasses import dataclass

import pytest

import procession
from procession import SharedDict

NAMES = "abcdef"


@dataclass(frozen=True)
class Call:
    begun: float
    ended: float
    name: str
    key: str | None
    result: object


def effect(call, keys):
    """Return the keys in order after a call, and the call's result."""
    match call.name:
        case "insert":
            return keys if call.key in keys else (*keys, call.key), None
        case "remove":
            return tuple(key for key in keys if key != call.key), call.key in keys
        case "find":
            return keys, call.key in keys
        case "len":
            return keys, len(keys)
        case "keys":
            return keys, keys
    raise AssertionError(call.name)


def is_linearizable(calls):
    """Return whether there is an order of these calls that explains their results."""
    calls = sorted(calls, key=lambda call: call.begun)
    seen = set()
    stack = [(frozenset(), ())]
    while stack:
        state = done, keys = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        left = [number for number in range(len(calls)) if number not in done]
        if not left:
            return True
        first_end = min(calls[number].ended for number in left)
        for number in left:
            if calls[number].begun > first_end:
                break
            now, result = effect(calls[number], keys)
            if result == calls[number].result:
                stack.append((done | {number}, now))
    return False


def test_the_search_finds_what_is_wrong():
    def call(begun, ended, name, key=None, result=None):
        return Call(begun, ended, name, key, result)

    late, early = call(0, 9, "insert", "a"), call(1, 2, "insert", "b")
    alone = call(3, 4, "keys", result=("b",))
    assert is_linearizable([late, early, call(10, 11, "keys", result=("a", "b"))])
    assert is_linearizable([late, early, alone, call(10, 11, "keys", result=("b", "a"))])
    assert not is_linearizable([late, early, alone, call(10, 11, "keys", result=("a", "b"))])
    assert not is_linearizable([early, call(3, 4, "len", result=0)])


def use(shared, number, meet, results):
    chance = random.Random(number)
    for turn in itertools.count():
        if not meet.get():
            return
        calls = []
        for _ in range(6):
            name = chance.choice(["insert", "insert", "insert", "remove", "find", "len", "keys"])
            key = chance.choice(NAMES)
            begun = time.perf_counter()
            match name:
                case "insert":
                    result = shared.__setitem__(key, turn)
                case "remove":
                    result = shared.pop(key, None) is not None
                case "find":
                    result = key in shared
                case "len":
                    result = len(shared)
                case "keys":
                    result = tuple(shared)
            key = key if name in ("insert", "remove", "find") else None
            calls.append(Call(begun, time.perf_counter(), name, key, result))
        results.put(calls)


def test_orders_in_a_storm_are_linearizable(method):
    ctx = procession.get_context(method)
    shared, results = ctx.SharedDict(), ctx.Queue()
    meets = [ctx.Queue() for _ in range(3)]
    processes = [
        ctx.Process(target=use, args=(shared, number, meet, results))
        for number, meet in enumerate(meets)
    ]
    for process in processes:
        process.start()
    for _ in range(150):
        for meet in meets:
            meet.put(True)
        calls = [call for _ in meets for call in results.get()]
        now = time.perf_counter()
        calls.append(Call(now, time.perf_counter(), "keys", None, tuple(shared)))
        assert is_linearizable(calls), calls
        shared.clear()
    for meet in meets:
        meet.put(False)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3


def test_a_bound_removes_the_oldest():
    shared = SharedDict.bounded(3, {"a": 1, "b": 2}, c=3)
    assert shared.maxsize == 3 and list(shared) == ["a", "b", "c"]
    shared["a"] = 4  # its age stays
    shared["d"] = 5
    assert shared.copy() == {"b": 2, "c": 3, "d": 5}
    assert shared.setdefault("e", 6) == 6 and shared.increment("f") == 1
    assert shared.compare_and_set("g", SharedDict.ABSENT, 7)
    assert list(shared.items()) == [("e", 6), ("f", 1), ("g", 7)]
    assert shared.pop("f") == 1
    shared["h"] = 8
    assert list(shared) == ["e", "g", "h"]
    assert SharedDict().maxsize is None


@pytest.mark.parametrize("maxsize", [1, 2, 100, 3000])
def test_a_bound_holds_for_random_keys(maxsize):
    shared, expected = SharedDict.bounded(maxsize), {}
    chance = random.Random(maxsize)
    for turn in range(10_000):
        key = chance.randrange(2 * maxsize)
        if chance.random() < 0.1:
            assert shared.pop(key, None) == expected.pop(key, None)
        else:
            shared[key] = expected[key] = turn
            if len(expected) > maxsize:
                del expected[next(iter(expected))]
        if turn % 500 == 0:
            assert list(shared.items()) == list(expected.items())
    assert list(shared.items()) == list(expected.items())


@pytest.mark.parametrize("maxsize", [0, -1])
def test_a_bound_is_at_least_one(maxsize):
    with pytest.raises(ValueError, match="at least 1"):
        SharedDict.bounded(maxsize)
    with pytest.raises(TypeError):
        SharedDict.bounded(1.5)


@pytest.mark.parametrize("maxsize", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_bound_may_be_any_that_64_bits_hold(maxsize):
    shared = SharedDict.bounded(maxsize, a=1, b=2)
    assert shared == {"a": 1, "b": 2} and shared.maxsize == maxsize
    with pytest.raises(OverflowError):
        SharedDict.bounded(2**64)


class Named(SharedDict):
    """A subclass with an attribute."""


def test_a_bound_of_a_subclass():
    shared = Named.bounded(2, a=1)
    assert type(shared) is Named and shared == {"a": 1} and shared.maxsize == 2


def fill(shared, number, count):
    assert shared.maxsize == 500
    for turn in range(count):
        shared[number, turn] = "x" * (turn % 3 * 700)


def test_a_bound_holds_for_processes_together(ctx):
    shared = SharedDict.bounded(500)
    processes = [ctx.Process(target=fill, args=(shared, number, 3000)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        while process.is_alive():
            assert len(shared) <= 503
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    keys = list(shared)
    assert len(keys) == 500
    for number in range(3):
        turns = [turn for owner, turn in keys if owner == number]
        assert turns == list(range(3000 - len(turns), 3000))
    assert pickle.loads(pickle.dumps(shared)).maxsize == 500
