"""The calls of a pool as the standard library documents them: apply, map, imap, and their results.

Each test runs on every start method and on threads. How pools begin and end is tested in
test_life.py, and what procession adds in test_limits.py.
"""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import traceback
import weakref

import pytest

import procession
from procession import pool as pool_module
from procession.pool import ThreadPool
from tests.conftest import METHODS
from tests.pool.tasks import square, wait_for
from tests.waiting import until


def multiply(x, y=10):
    return x * y


def identity(x):
    return x


def fail(x):
    raise KeyError(x)


class Bomb:
    def __reduce__(self):
        raise RuntimeError("cannot pickle")


@pytest.fixture
def gate(tmp_path):
    """A file that does not exist yet: `wait_for` of its name returns once it does."""
    return tmp_path / "gate"


@pytest.fixture(scope="module", params=[*METHODS, "threads"])
def pool(request):
    if request.param == "threads":
        made = ThreadPool(3)
    else:
        made = procession.get_context(request.param).Pool(3)
    with made:
        yield made
    made.join()


def test_apply(pool):
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(square, (), {"x": 3}) == 9
    assert pool.apply(multiply, [2], {"y": 4}) == 8


def test_map_in_order(pool):
    assert pool.map(square, range(1000)) == [x * x for x in range(1000)]
    assert pool.map(square, (x for x in range(10))) == [x * x for x in range(10)]
    assert sorted(pool.map(square, {1, 2, 3})) == [1, 4, 9]


@pytest.mark.parametrize("chunksize", [1, 7, 100, 1000])
def test_map_with_chunksize(pool, chunksize):
    assert pool.map(square, range(100), chunksize) == [x * x for x in range(100)]


def test_empty_iterables(pool):
    assert pool.map(square, []) == []
    assert pool.map(square, [], chunksize=3) == []
    assert list(pool.imap(square, [])) == []
    assert list(pool.imap_unordered(square, iter([]))) == []
    called = []
    assert pool.map_async(square, [], callback=called.append).get(10) == []
    assert called == []


def test_starmap(pool):
    pairs = list(zip(range(50), range(50, 0, -1), strict=True))
    expected = list(itertools.starmap(multiply, pairs))
    assert pool.starmap(multiply, pairs) == expected
    assert pool.starmap(multiply, pairs, chunksize=9) == expected
    assert pool.starmap_async(multiply, [list(pair) for pair in pairs]).get(10) == expected


@pytest.mark.parametrize("chunksize", [1, 6])
def test_imap(pool, chunksize):
    assert list(pool.imap(square, range(100), chunksize)) == [x * x for x in range(100)]
    assert list(pool.imap(square, (x for x in range(100)), chunksize)) == [
        x * x for x in range(100)
    ]
    assert sorted(pool.imap_unordered(square, range(100), chunksize)) == [x * x for x in range(100)]


def test_imap_iterator(pool, gate):
    results = pool.imap(wait_for, [__file__, str(gate)])
    assert results.next(10) == __file__
    with pytest.raises(procession.TimeoutError):
        results.next(timeout=0.01)
    gate.touch()
    assert next(results) == str(gate)
    with pytest.raises(StopIteration):
        results.next()
    with pytest.raises(StopIteration):
        next(results)


def test_imap_feeds_on_its_own(pool):
    """Tasks are done whether or not their results are asked for."""
    asked = threading.Event()

    def items():
        yield from range(10)
        asked.set()

    results = pool.imap(square, items())
    assert asked.wait(10)
    assert list(results) == [x * x for x in range(10)]


def test_imap_iterable_may_need_the_results(pool):
    received = []
    stepped = threading.Semaphore(1)

    def items():
        for number in range(20):
            stepped.acquire(timeout=10)
            yield number

    for result in pool.imap(square, items()):
        received.append(result)
        stepped.release()
    assert received == [x * x for x in range(20)]


def test_imap_unordered_by_time(pool, gate):
    results = pool.imap_unordered(wait_for, [str(gate), __file__])
    assert next(results) == __file__
    gate.touch()
    assert list(results) == [str(gate)]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [0, -1])
def test_imap_refuses_chunksize(pool, method, chunksize):
    with pytest.raises(ValueError, match=rf"^Chunksize must be 1\+, not {chunksize}$"):
        getattr(pool, method)(square, [1], chunksize)


def test_iterable_that_raises(pool):
    def items(good):
        yield from range(good)
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        pool.map(square, items(3))
    results = pool.imap(square, items(3))
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(KeyError, match="enough") as caught:
        next(results)
    assert caught.value.__cause__ is None
    assert "items" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    with pytest.raises(StopIteration):
        next(results)
    results = pool.imap(square, items(7), chunksize=2)
    assert [next(results) for _ in range(6)] == [x * x for x in range(6)]
    with pytest.raises(KeyError):
        next(results)
    with pytest.raises(TypeError):
        list(pool.imap(square, 5))


def test_iterable_that_exits(pool):
    """The items that it yielded before do not count as all of them."""

    def items():
        yield from range(3)
        sys.exit("enough")

    results = pool.imap(square, items())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(SystemExit, match="enough"):
        next(results)
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


class Exits:
    def __reduce__(self):
        sys.exit("cannot travel")


def test_item_whose_pickling_exits(pool):
    if isinstance(pool, ThreadPool):
        pytest.skip("nothing is pickled for threads")
    results = pool.imap(square, iter([1, 2, Exits(), 4]))
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(SystemExit, match="cannot travel"):
        next(results)
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def test_asynchronous_result(pool, gate):
    result = pool.apply_async(wait_for, (str(gate),))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(procession.TimeoutError):
        result.get(timeout=0.01)
    result.wait(0.01)
    assert not result.ready()
    gate.touch()
    result.wait(30)
    assert result.ready()
    assert result.successful()
    assert result.get() == result.get(timeout=0) == str(gate)
    assert isinstance(result, pool_module.AsyncResult)


def test_failure(pool):
    for result in [pool.apply_async(fail, ("no",)), pool.map_async(fail, ["no"])]:
        for _ in range(2):
            with pytest.raises(KeyError, match="no"):
                result.get(30)
        assert result.ready()
        assert not result.successful()
    with pytest.raises(KeyError):
        next(pool.imap(fail, [1]))


def test_map_waits_for_all_and_raises_the_first_failure(pool, gate):
    result = pool.map_async(fail_or_wait, [None, str(gate)], 1)
    with pytest.raises(procession.TimeoutError):
        result.get(0.1)
    gate.touch()
    with pytest.raises(ValueError, match="no gate"):
        result.get(30)


def fail_or_wait(gate):
    if gate is None:
        raise ValueError("no gate")
    return wait_for(gate)


def test_callbacks(pool):
    good, bad = [], []
    for result in [
        pool.apply_async(square, (3,), callback=good.append, error_callback=bad.append),
        pool.map_async(square, [1, 2], callback=good.append, error_callback=bad.append),
        pool.starmap_async(multiply, [(1, 2)], callback=good.append),
    ]:
        result.wait(30)
        assert result.ready()
    assert good == [9, [1, 4], [2]] or sorted(map(str, good)) == ["9", "[1, 4]", "[2]"]
    assert bad == []
    good.clear()
    result = pool.apply_async(fail, ("x",), callback=good.append, error_callback=bad.append)
    with pytest.raises(KeyError):
        result.get(30)
    assert good == []
    assert [type(error) for error in bad] == [KeyError]


def test_a_callback_may_use_the_pool(pool):
    results = []
    first = pool.apply_async(
        square, (2,), callback=lambda value: results.append(pool.apply_async(square, (value,)))
    )
    assert first.get(30) == 4
    assert results[0].get(30) == 16


def test_several_threads_map_at_once(pool):
    outcomes = {}

    def use(number):
        outcomes[number] = pool.map(square, range(number, number + 200), 3)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == {n: [x * x for x in range(n, n + 200)] for n in range(8)}


def test_several_threads_get_the_same_result(pool):
    result = pool.apply_async(identity, ([1],))
    mapped = pool.map_async(identity, [[1], [2]], 1)
    got = []
    threads = [
        threading.Thread(target=lambda: got.append((result.get(30), mapped.get(30))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == [([1], [[1], [2]])] * 8
    # It was unpickled once.
    assert len({id(value) for value, _ in got}) == len({id(values) for _, values in got}) == 1


def test_arguments_and_results_are_not_kept(pool):
    class_ = type("Counted", (), {})
    value = [class_()] if isinstance(pool, ThreadPool) else [set()]
    kept = weakref.ref(value[0])
    assert len(pool.map(identity, value)) == 1
    del value

    def is_gone():
        gc.collect()
        return kept() is None

    until(is_gone)


def test_refuses_to_be_pickled(pool):
    with pytest.raises(
        NotImplementedError, match="pool objects cannot be passed between processes or pickled"
    ):
        pool.__reduce__()


def test_random_order_of_sizes(pool):
    """Results of every size, from inline ones to those with their own blocks."""
    values = [b"x" * size for size in (0, 1, 80, 120, 5_000, 70_000, 3_000_000)] * 3
    assert pool.map(identity, values, 1) == values


def test_many_calls(pool):
    results = [pool.apply_async(square, (x,)) for x in range(5_000)]
    assert [result.get(60) for result in results] == [x * x for x in range(5_000)]
