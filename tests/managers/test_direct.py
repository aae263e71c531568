"""Dicts and lists of managers in shared memory: they behave as those of the server, and become those.

The file is long because every way out of shared memory has a case here.
"""

from __future__ import annotations

import collections
import functools
import os
import random
import signal
import subprocess
import sys

import pytest

import procession
from procession import managers
from procession._procession import counters
from tests.waiting import until

NAN = float("nan")


@pytest.fixture
def manager(ctx):
    with ctx.Manager() as manager:
        yield manager


@pytest.fixture
def forked():
    with procession.get_context("fork").Manager() as manager:
        yield manager


def is_direct(proxy):
    """Whether the last call needed no server."""
    len(proxy)
    return bool(proxy._memory)


class Key:
    """Equal to a number or string, but no such object."""

    def __init__(self, same):
        self.same = same

    def __hash__(self):
        return hash(self.same)

    def __eq__(self, other):
        return self.same == getattr(other, "same", other)


class Raises:
    def __eq__(self, other):
        raise ArithmeticError


LIST_CALLS = [
    lambda at, end, step, value, one: one.append(value),
    lambda at, end, step, value, one: one.insert(at, value),
    lambda at, end, step, value, one: one.extend([value, 7]),
    lambda at, end, step, value, one: one.__setitem__(at, value),
    lambda at, end, step, value, one: one.__setitem__(slice(at, end), (value, 8)),
    lambda at, end, step, value, one: one.__setitem__(slice(at, end, -1), (value, 8)),
    lambda at, end, step, value, one: one.__delitem__(at),
    lambda at, end, step, value, one: one.__delitem__(slice(at, end, step)),
    lambda at, end, step, value, one: one.pop(at),
    lambda at, end, step, value, one: one.pop(),
    lambda at, end, step, value, one: one.remove(value),
    lambda at, end, step, value, one: one.index(value, at),
    lambda at, end, step, value, one: (one.count(value), value in one, len(one)),
    lambda at, end, step, value, one: one[at],
    lambda at, end, step, value, one: one[at:end:step],
    lambda at, end, step, value, one: one.reverse(),
]


def use(shared, items, results):
    shared["child"] = items.pop(0)
    items.append({"list": [1, (2,)]})
    results.put((is_direct(shared), is_direct(items), shared.copy(), items[:]))


class TestInSharedMemory:
    def test_in_a_child(self, ctx, manager):
        shared, items, results = manager.dict(a=1), manager.list([1, 2]), ctx.Queue()
        child = ctx.Process(target=use, args=(shared, items, results))
        child.start()
        seen = results.get()
        child.join()
        assert seen == (True, True, {"a": 1, "child": 1}, [2, {"list": [1, (2,)]}])
        assert (shared.copy(), items[:]) == seen[2:]
        assert is_direct(shared) and is_direct(items)

    def test_a_dict_is_as_in_the_server(self, forked):
        keys = [0, False, 0.0, -0.0, 1, True, 1.0, "1", b"1", None, (1, "a"), (True, "a"), 2**70]
        keys += [float(2**70), "\ud800", "", (), ((1.0,),), 1.5]
        values = [
            None,
            True,
            1,
            -(2**80),
            0.5,
            "é",
            b"\0",
            (1, [2]),
            [],
            {},
            {1: {2}},
            frozenset("a"),
        ]
        rng = random.Random(5)
        plain, shared = {}, forked.dict()
        for _ in range(600):
            key, value = rng.choice(keys), rng.choice(values)
            match rng.randrange(8):
                case 0 | 1 | 2:
                    plain[key] = shared[key] = value
                case 3:
                    assert shared.setdefault(key, value) == plain.setdefault(key, value)
                case 4:
                    assert shared.pop(key, value) == plain.pop(key, value)
                case 5:
                    assert shared.get(key, value) == plain.get(key, value)
                case 6:
                    assert (key in shared) == (key in plain)
                case 7:
                    assert len(shared) == len(plain)
            assert repr(shared.items()) == repr(list(plain.items()))
        assert is_direct(shared) and repr(shared._getvalue()) == repr(plain)
        assert repr(shared.keys()) == repr(list(plain)) and str(shared) == str(plain)
        assert repr(shared.values()) == repr(list(plain.values()))
        assert is_direct(shared)

    def test_a_list_is_as_in_the_server(self, forked):
        values = [None, True, 1, 1.0, "1", (1, [2]), [], {1: 2}]
        rng = random.Random(5)
        plain, shared = [], forked.list()

        def both(call):
            outcomes = []
            for one in (plain, shared):
                try:
                    outcomes.append(("returned", call(one)))
                except (IndexError, ValueError) as error:
                    outcomes.append((type(error), str(error)))
            assert repr(outcomes[0]) == repr(outcomes[1])

        for _ in range(600):
            place, value = rng.randrange(-6, 6), rng.choice(values)
            end, step = rng.randrange(-6, 6), rng.choice([None, 1, -1, 2])
            call = rng.choice(LIST_CALLS)
            both(functools.partial(call, place, end, step, value))
            both(lambda one: one.copy())
        assert is_direct(shared) and str(shared) == str(plain) and shared._getvalue() == plain

    def test_what_comes_back_is_a_copy(self, forked):
        shared, mine = forked.dict(), [1]
        shared["a"] = mine
        assert shared["a"] == mine and shared["a"] is not mine
        assert shared.get("b", mine) is not mine and shared.pop("b", mine) is not mine
        assert shared.setdefault("b", mine) is not mine
        shared["a"].append(2)
        assert shared["a"] == [1] and is_direct(shared)

    def test_errors(self, forked):
        shared, items = forked.dict(a=1), forked.list([1])
        for key in ("b", (1, 2)):
            for use in (shared.__getitem__, shared.__delitem__, shared.pop):
                with pytest.raises(KeyError) as caught:
                    use(key)
                assert caught.value.args == (key,) and caught.value.__context__ is None
        for use in (items.__getitem__, items.__delitem__, items.pop):
            with pytest.raises(IndexError):
                use(1)
        assert is_direct(shared) and is_direct(items)
        with pytest.raises(TypeError, match="unhashable"):
            shared[[]] = 1
        with pytest.raises(TypeError, match="indices"):
            items["a"]
        assert shared.copy() == {"a": 1} and items[:] == [1]


CALLS = {
    "update": (lambda one: one.update(b=2), {"a": 1, "b": 2}),
    "popitem": (lambda one: one.popitem(), {}),
    "in place": (lambda one: one.__ior__({"c": 3}), {"a": 1, "c": 3}),
    "iteration": (list, {"a": 1}),
    "keyword": (lambda one: one._callmethod("pop", ("a",), {}), {}),
    "key": (lambda one: one.__setitem__(Key("a"), 2), {"a": 2}),
    "NaN": (lambda one: one.setdefault(("n", NAN)) or one.pop("a"), None),
    "long key": (lambda one: one.__setitem__("k" * 2**21, 0), {"a": 1, "k" * 2**21: 0}),
    "object": (lambda one: one.__setitem__("b", collections.Counter("x")), {"a": 1, "b": {"x": 1}}),
    "shared twice": (lambda one: one.__setitem__("b", ([[]] * 2)), {"a": 1, "b": [[], []]}),
}


CALLS_WITH_ARGUMENTS_OF_A_WRONG_NUMBER = [
    ({}, "get", ()),
    ({}, "get", (1, 2, 3)),
    ({}, "pop", ("a", 1, 2)),
    ({}, "__getitem__", ()),
    ([], "append", ()),
    ([], "index", (1, 0, 1, 2)),
    ([], "insert", (1,)),
]


class TestAtTheServer:
    @pytest.mark.parametrize(("content", "name", "args"), CALLS_WITH_ARGUMENTS_OF_A_WRONG_NUMBER)
    def test_a_wrong_number_of_arguments(self, forked, content, name, args):
        shared = (forked.dict if type(content) is dict else forked.list)(content)
        assert is_direct(shared)
        with pytest.raises(TypeError) as expected:
            getattr(content, name)(*args)
        with pytest.raises(TypeError) as caught:
            getattr(shared, name)(*args)
        assert caught.value.args == expected.value.args

    def test_a_type_whose_extend_adds_in_place(self, forked):
        class Items(managers.ListProxy):
            def extend(self, values):
                self += [*values, "end"]

        shared = forked.list()
        items = Items(shared._token, "pickle", forked, forked._authkey)
        items.extend([1])
        assert shared[:] == [1, "end"]

    @pytest.mark.parametrize("name", CALLS)
    def test_calls_that_move_it_there(self, forked, name):
        call, expected = CALLS[name]
        shared = forked.dict(a=1)
        other = forked.list([shared])[0]  # a second proxy
        assert is_direct(shared) and other["a"] == 1
        call(shared)
        assert not is_direct(shared)
        if expected is not None:
            assert other.copy() == shared.copy() == expected
        other["z"] = 1
        assert shared["z"] == 1 and not is_direct(other)

    def test_equal_keys_of_other_types(self, forked):
        shared = forked.dict({"a": 1, 5: 2})
        assert is_direct(shared)
        assert shared[Key("a")] == 1 and Key(5) in shared and shared[5.0] == 2
        assert shared[5 + 0j] == 2 and shared.get(Key(6)) is None

    def test_each_nan_is_another_key(self, forked):
        shared = forked.dict()
        for value in range(2):
            shared[NAN] = value
            shared[1, NAN] = value
        assert len(shared) == 4 and NAN not in shared

    def test_an_object_in_two_places_stays_one(self, forked):
        twice = [1]
        one, other = forked.list([twice, twice])._getvalue()
        assert one is other
        items = forked.list([0])
        assert is_direct(items)
        items.extend((twice, twice))
        found = items._getvalue()
        assert found[1] is found[2]

    def test_proxies_within(self, forked):
        outer, inner = forked.dict(), forked.list([1])
        assert is_direct(outer) and is_direct(inner)
        outer["inner"] = inner
        del inner
        outer["inner"].append(2)
        assert outer["inner"][:] == [1, 2] and not is_direct(outer)
        assert is_direct(outer["inner"])

    def test_comparisons_of_the_program_are_made_there(self, forked):
        items = forked.list([1])
        assert is_direct(items)
        with pytest.raises(ArithmeticError):
            items.index(Raises())
        assert items[:] == [1] and not is_direct(items)

    def test_a_client_of_another_family_moves_it(self, forked, monkeypatch):
        shared = forked.dict(a=1)
        assert is_direct(shared)
        with monkeypatch.context() as patch:
            patch.setattr("procession._managers.link.family_of_offer", lambda answer: b"another")
            link = type(shared._link)(forked.address, forked._authkey, "pickle")
            stranger = link.open()
            assert stranger.call((shared._id, "__setitem__", ("b", 2), {})) == ("#RETURN", None)
        assert shared.copy() == {"a": 1, "b": 2} and not is_direct(shared)

    def test_only_what_the_package_registers(self):
        class Own(managers.SyncManager):
            pass

        class OwnProxy(managers.DictProxy):
            pass

        class OwnDict(dict):
            pass

        Own.register("counted", collections.Counter, managers.DictProxy)
        Own.register("proxied", dict, OwnProxy)
        Own.register("subclass", OwnDict, managers.DictProxy)
        with Own(ctx=procession.get_context("fork")) as manager:
            assert is_direct(manager.dict()) and is_direct(manager.list())
            for shared in (manager.counted(), manager.proxied(), manager.subclass()):
                shared["a"] = 1
                assert shared["a"] == 1 and not is_direct(shared)

    def test_a_long_beginning_and_too_many(self, forked):
        assert not is_direct(forked.list(range(10_001)))
        assert is_direct(forked.list(range(10_000)))
        many = [forked.list() for _ in range(1100)]
        kinds = [is_direct(one) for one in many]
        assert kinds.count(True) > 1000 and not kinds[-1]
        del many
        until(lambda: forked._number_of_objects() == 0)
        assert is_direct(forked.list())


def append_for_ever(items, shared, number, ready, total):
    ready.release()
    for turn in range(total):
        items.append((number, turn))
        shared[number, turn] = turn
    ready.release()


FULL = """if True:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    import procession

    with procession.get_context("fork").Manager() as manager:
        shared, items, beside = manager.dict(), manager.list(), manager.list([1])
        assert len(shared) == len(items) == 0 and len(beside) == 1
        for number in range(40):
            shared[number] = b"x" * 2_000_000
        for number in range(40):
            items.append(b"x" * 2_000_000)
        assert shared.keys() == [*range(40)] and shared[0] == shared[39] == b"x" * 2_000_000
        assert len(items) == 40 and items[39] == b"x" * 2_000_000
        assert not shared._memory and not items._memory and beside._memory
    print("done")
"""


class TestNoRoom:
    def test_what_does_not_fit_into_shared_memory_moves(self):
        done = subprocess.run(
            [sys.executable, "-c", FULL], capture_output=True, text=True, timeout=120
        )
        assert (done.stdout, done.stderr) == ("done\n", "")


class TestBetweenProcesses:
    @pytest.mark.parametrize("moved", [False, True])
    def test_nothing_is_lost_or_doubled_when_it_moves(self, ctx, manager, moved):
        total, items, shared = 400, manager.list(), manager.dict()
        ready = ctx.Semaphore(0)
        children = [
            ctx.Process(target=append_for_ever, args=(items, shared, number, ready, total))
            for number in range(3)
        ]
        for child in children:
            child.start()
        for _ in children:
            ready.acquire()
        if moved:
            until(lambda: len(items) > 50)
            items.sort()
            shared.update()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 3
        expected = [(number, turn) for number in range(3) for turn in range(total)]
        assert sorted(items._getvalue()) == expected == sorted(shared.keys())
        for number in range(3):
            mine = [key for key in shared.keys() if key[0] == number]  # noqa: SIM118
            assert mine == sorted(mine)
        assert is_direct(items) is is_direct(shared) is not moved

    def test_a_client_that_is_killed(self, ctx, manager):
        items, shared, ready = manager.list(), manager.dict(), ctx.Semaphore(0)
        for number in range(3):
            child = ctx.Process(target=append_for_ever, args=(items, shared, number, ready, 10**6))
            child.start()
            ready.acquire()
            before = len(items)
            until(lambda before=before: len(items) > before)
            child.kill()
            child.join()
        found = items._getvalue()
        for number in range(3):
            mine = [turn for one, turn in found if one == number]
            assert mine == list(range(len(mine)))
        assert is_direct(items) and is_direct(shared)

    def test_a_stopped_client_keeps_no_other_from_it(self, forked):
        ctx = procession.get_context("fork")
        items, shared, ready = forked.list(), forked.dict(), ctx.Semaphore(0)
        child = ctx.Process(target=append_for_ever, args=(items, shared, 0, ready, 10**6))
        child.start()
        ready.acquire()
        os.kill(child.pid, signal.SIGSTOP)
        items.append("mine")
        items.sort(key=str)  # moves it
        assert "mine" in items
        child.kill()
        child.join()


def look(shared, ended, results):
    shared["x"] = 1
    results.put(None)
    ended.wait()
    try:
        shared["x"] = 2
    except Exception as error:
        results.put(type(error).__mro__)


class TestTheEnd:
    def test_an_orderly_one_is_noticed_at_once(self, ctx):
        manager = ctx.Manager()
        shared, ended, results = manager.dict(), ctx.Event(), ctx.Queue()
        child = ctx.Process(target=look, args=(shared, ended, results))
        child.start()
        results.get()
        assert shared["x"] == 1
        manager.shutdown()
        for call in (lambda: shared["x"], lambda: shared.__setitem__("x", 3), lambda: len(shared)):
            with pytest.raises((EOFError, OSError)):
                call()
        ended.set()
        assert {OSError, EOFError} & {*results.get()}
        child.join()

    def test_one_by_a_signal_is_noticed_at_once(self, ctx):
        # The server is given no time to seal what is in shared memory.
        manager = managers.SyncManager(ctx=ctx, shutdown_timeout=0)
        manager.start()
        shared, items = manager.dict(a=1), manager.list([1])
        assert is_direct(shared) and is_direct(items)
        manager.shutdown()
        for call in (lambda: shared["a"], lambda: items.append(2), lambda: len(items)):
            with pytest.raises((EOFError, OSError)):
                call()

    def test_a_killed_server_is_noticed(self, forked):
        shared, items = forked.dict(a=1), forked.list([1])
        assert is_direct(shared) and is_direct(items)
        os.kill(forked._process.pid, signal.SIGKILL)

        def fails(call):
            try:
                call()
            except (EOFError, OSError):
                return True
            return False

        until(lambda: fails(lambda: shared["a"]) and fails(lambda: items.append(1)))
        forked._process.join()
        assert fails(lambda: shared["a"]) and fails(lambda: len(items))

    def test_memory_is_given_back(self, forked):
        kept = forked.list([0])
        assert is_direct(kept)
        until(lambda: forked._number_of_objects() == 1)
        before = counters()
        for moves in (False, True):
            shared, items = forked.dict(a="x" * 5000), forked.list([0])
            items.extend(["y" * 500] * 100)
            assert is_direct(shared) and is_direct(items)
            if moves:
                shared.update(b=1)
                items.sort(key=str)
            del shared, items
            until(lambda: forked._number_of_objects() == 1)
        until(lambda: counters()["objects"] == before["objects"])

    def test_a_fork_inherits_it(self, forked):
        shared = forked.dict(a=1)
        assert is_direct(shared)
        ctx = procession.get_context("fork")
        child = ctx.Process(target=lambda: shared.__setitem__("b", int(is_direct(shared))))
        child.start()
        child.join()
        assert shared.copy() == {"a": 1, "b": 1}
