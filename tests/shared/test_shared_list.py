"""`SharedList` as a `list`: items, slices, errors. `test_shared_list_processes` has several processes."""

from __future__ import annotations

import collections.abc
import copy
import gc
import itertools
import operator
import pickle
import random
from functools import partial

import pytest

import procession
from procession import SharedDict, SharedList
from procession._procession import counters
from tests.shared.test_shared_dict import VALUES, same

BOUNDS = [None, 0, 1, 2, 5, 7, 100, 2**70, -1, -2, -5, -7, -100, -(2**70)]
STEPS = [None, 1, 2, 3, 100, -1, -2, -3, -100]


def outcome(act, items):
    """Return what a function returns for a list, or the error that it raises, and the list."""
    try:
        result = act(items)
    except Exception as error:
        result = type(error), str(error)
    return (list(result) if isinstance(result, SharedList) else result), list(items)


def agree(act, items):
    expected = outcome(act, list(items))
    assert outcome(act, SharedList(items)) == expected
    return expected


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_items_keep_their_type(value):
    shared = SharedList([value])
    shared.append(value)
    shared[0] = value
    assert same(list(shared), [value, value]) and same([shared[-1]], [value])
    assert value in shared and shared.index(value) == 0 and shared.count(value) == 2


@pytest.mark.parametrize("length", [0, 1, 5, 70])
def test_slices_are_those_of_a_list(length):
    items = list(range(length))
    shared = SharedList(items)
    slices = [slice(*three) for three in itertools.product(BOUNDS, BOUNDS, STEPS)]
    for cut in slices:
        assert shared[cut] == items[cut]
    for cut in random.Random(length).sample(slices, 150):
        agree(lambda some, cut=cut: operator.delitem(some, cut), items)
        for new in ([], "ab", range(len(items[cut]))):
            agree(lambda some, cut=cut, new=new: operator.setitem(some, cut, new), items)


CALLS = [
    lambda some: some[3],
    lambda some: some[-4],
    lambda some: some["a"],
    lambda some: some[1.0],
    lambda some: some[2**70],
    lambda some: some[True],
    lambda some: operator.setitem(some, 3, "new"),
    lambda some: operator.setitem(some, -9, "new"),
    lambda some: operator.setitem(some, slice(None), 3),
    lambda some: operator.setitem(some, slice(None, None, 2), 3),
    lambda some: operator.delitem(some, 1),
    lambda some: operator.delitem(some, 9),
    lambda some: some.append(1),
    lambda some: some.extend("abc"),
    lambda some: some.extend(3),
    lambda some: some.extend(some),
    lambda some: [some.insert(index, index) for index in (0, -1, 99, -99, 2)],
    lambda some: some.insert("a", 1),
    lambda some: some.pop(),
    lambda some: some.pop(0),
    lambda some: some.pop(-2),
    lambda some: some.pop(9),
    lambda some: some.remove(2),
    lambda some: some.remove("absent"),
    lambda some: some.index(2),
    lambda some: some.index(2, -1, 1),
    lambda some: some.index(1, 1),
    lambda some: some.count(2),
    lambda some: some.clear(),
    lambda some: some.reverse(),
    lambda some: some.sort(),
    lambda some: some.sort(reverse=True),
    lambda some: some.sort(key=str),
    lambda some: some.sort(key=lambda item: item % 2, reverse=True),
    lambda some: some.copy(),
    lambda some: len(some),
    lambda some: bool(some),
    lambda some: list(reversed(some)),
    lambda some: operator.add(some, [1]),
    lambda some: operator.add(some, (1,)),
    lambda some: some * 2,
    lambda some: 2 * some,
    lambda some: operator.iadd(some, (7, 8)),
    lambda some: operator.imul(some, 3),
    lambda some: operator.imul(some, 0),
    lambda some: [some == [2, 1, 2], some != [2, 1, 2], some == (2, 1, 2), some < [2, 2]],
    lambda some: [some <= [2, 1, 2], some > [], some >= [3]],
    lambda some: some < (1,),
    lambda some: hash(some),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
@pytest.mark.parametrize("items", [[], [2, 1, 2], [*range(5, 40), *range(40)]], ids=len)
def test_a_call_does_what_it_does_with_a_list(items, number):
    result = outcome(CALLS[number], SharedList(items))
    expected = outcome(CALLS[number], list(items))
    if isinstance(expected[0], tuple) and expected[0][:1] == (TypeError,):
        assert result[0][0] is TypeError and result[1] == expected[1]
    elif isinstance(expected[0], tuple) and "not in list" in expected[0][1]:
        # Its text differs between versions of Python.
        assert result[0][0] is ValueError and result[1] == expected[1]
    else:
        assert result == expected


@pytest.mark.parametrize("seed", range(4))
def test_any_history_is_that_of_a_list(seed):
    chance = random.Random(seed)
    shared, plain = SharedList(), []

    for turn in range(500):
        at, value = chance.randrange(-40, 90), chance.choice([turn, "x" * 100, b"y" * 300])
        cut = slice(at, at + chance.randrange(-5, 30), chance.choice([1, 1, 2, -1]))
        few = [value] * chance.randrange(4) if chance.random() < 0.9 else [turn] * 80
        act = chance.choice(
            [
                partial(lambda value, some: some.append(value), value),
                partial(lambda at, value, some: some.insert(at, value), at, value),
                partial(lambda at, some: some.pop(at), at),
                partial(lambda at, value, some: operator.setitem(some, at, value), at, value),
                partial(lambda cut, some: operator.delitem(some, cut), cut),
                partial(lambda cut, few, some: operator.setitem(some, cut, few), cut, few),
                partial(lambda few, some: some.extend(few), few),
                partial(lambda cut, some: some[cut], cut),
            ]
        )
        assert outcome(act, shared) == outcome(act, plain)
    assert shared == plain and len(shared) == len(plain)


def test_increment_and_compare_and_set():
    shared = SharedList([1, 1.5, 2**63 - 1, "a", [1], float("nan")])
    assert shared.increment(0) == 2 and shared.increment(-6, 40) == 42
    assert shared.increment(1, 0.25) == 1.75 and shared.increment(1) == 2.75
    assert shared.increment(2) == 2**63
    assert shared.increment(3, "b") == "ab" and shared.increment(4, [2]) == [1, 2]
    with pytest.raises(IndexError):
        shared.increment(6)
    with pytest.raises(TypeError):
        shared.increment(3, 1)
    assert shared.compare_and_set(0, 42.0, None) and not shared.compare_and_set(0, 42, 1)
    assert shared.compare_and_set(-2, [1, 2], "list") and shared[4] == "list"
    with pytest.raises(IndexError):
        shared.compare_and_set(-7, 1, 2)
    assert shared[:5] == [None, 2.75, 2**63, "ab", "list"]


class Named(SharedList):
    pass


def test_copies_and_pickles():
    shared = SharedList([1, [2]])
    assert type(shared.copy()) is list and shared.copy() == [1, [2]]
    again = pickle.loads(pickle.dumps(shared))
    again.append(3)
    assert shared == again == [1, [2], 3] and shared == shared
    assert copy.copy(shared) == shared
    named = Named("ab")
    named.name = "letters"
    other = pickle.loads(pickle.dumps(named))
    assert type(other) is Named and other.name == "letters" and other == ["a", "b"]
    assert repr(shared) == "SharedList([1, [2], 3])"
    assert isinstance(shared, collections.abc.MutableSequence)
    assert SharedList[int] and procession.get_context("fork").SharedList("ab") == ["a", "b"]


def test_items_that_cannot_travel_leave_it_as_it_was():
    shared = SharedList([1])
    for bad in (procession.Lock(), [SharedDict()]):
        for act in (shared.append, shared.extend, lambda item: shared.insert(0, item)):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                act([bad] if act == shared.extend else bad)
    assert shared == [1]


def test_it_must_be_initialised():
    class Bare(SharedList):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        len(Bare())


def test_memory_is_given_back():
    SharedList([1])
    gc.collect()
    before = counters()
    shared = SharedList(range(5000))
    for _ in range(3):
        shared.extend(["x" * 300] * 200)
        shared.sort(key=str)
        del shared[::2]
        shared.reverse()
        shared[10:400] = []
    shared.clear()
    assert counters()["transit"] == before["transit"] + 1
    del shared
    gc.collect()
    assert counters() == before


class TestCodeOfTheProgram:
    """What items, keys and comparisons of the program see and do."""

    @pytest.mark.parametrize("one, other", [([float("nan")], [1]), ([{1}], [{2}]), ([1, 2], [1])])
    def test_orders_are_those_of_lists(self, one, other):
        shared = procession.SharedList(one)
        for order in (operator.lt, operator.le, operator.gt, operator.ge):
            assert order(shared, other) is order(one, other)
            assert order(shared, procession.SharedList(other)) is order(one, other)

    def test_a_list_is_extended_in_place(self):
        plain = alias = [1]
        plain += procession.SharedList([2])
        assert alias is plain == [1, 2]
        with pytest.raises(TypeError):
            operator.add([1], procession.SharedList([2]))

    def test_a_key_that_changes_the_list(self):
        shared = procession.SharedList([2, 1])
        with pytest.raises(ValueError, match="modified during sort"):
            shared.sort(key=lambda item: shared.append(item) or item)
        assert shared[:2] == [2, 1]

    def test_a_comparison_that_changes_the_list(self):
        shared = procession.SharedList([1])

        class Meddler:
            def __eq__(self, other):
                shared.append(0)
                return True

            __hash__ = None

        for call in (
            lambda: shared.remove(Meddler()),
            lambda: shared.compare_and_set(0, Meddler(), 5),
        ):
            with pytest.raises(RuntimeError, match="changed by the code"):
                call()
        assert shared[0] == 1

    def test_indices_are_those_of_lists(self):
        for shared in (procession.SharedList([1]), [1]):
            with pytest.raises(OverflowError):
                shared.insert(2**70, 0)
            with pytest.raises(OverflowError):
                shared.pop(2**70)
            with pytest.raises(TypeError):
                shared.pop(None)

    def test_an_item_that_cannot_be_unpickled_is_not_lost(self):
        shared = procession.SharedList([Stubborn()])
        with pytest.raises(RuntimeError, match="not here"):
            shared.pop()
        assert len(shared) == 1
        del shared[0]
        assert shared == []


class Stubborn:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise RuntimeError("not here")
