"""`return_exceptions=True`: every item's result or exception, in order, whatever the items do."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest

import procession
from procession.pool import ThreadPool
from tests.pool import tasks
from tests.pool.misbehaving import (
    EXIT,
    FAIL,
    HANG,
    KILL,
    STOP,
    UNLOADABLE,
    UNSENDABLE,
    call,
    misbehave,
    misbehave_starred,
)
from tests.pool.shapes import METHODS, workers_without_main
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)

ITEMS = [0, FAIL, 1, KILL, STOP, 2, UNSENDABLE, EXIT, UNLOADABLE, 3]
ENDS = [
    0,
    KeyError,
    1,
    procession.WorkerDied,
    StopIteration,
    2,
    procession.pool.MaybeEncodingError,
    procession.WorkerDied,
    procession.pool.MaybeEncodingError,
    3,
]


def ends_of(values):
    return [type(value) if isinstance(value, BaseException) else value for value in values]


def are(values, expected):
    """Check values, and that exceptions are of the expected classes."""
    values = list(values)
    assert len(values) == len(expected)
    for value, wanted in zip(values, expected, strict=True):
        if isinstance(wanted, type):
            assert isinstance(value, wanted), (value, wanted)
        else:
            assert value == wanted
    return True


@pytest.fixture(scope="module", params=METHODS)
def both(request):
    """A pool and an executor."""
    ctx = procession.get_context(request.param)
    executor = procession.ProcessPoolExecutor(2, ctx)
    with workers_without_main(), ctx.Pool(2) as pool, executor:
        yield pool, executor


@pytest.fixture
def pool(both):
    return both[0]


@pytest.fixture
def executor(both):
    return both[1]


def test_map_and_its_kin(pool):
    assert are(pool.map(misbehave, ITEMS, return_exceptions=True), ENDS)
    assert are(pool.imap(misbehave, ITEMS, return_exceptions=True), ENDS)
    items, ends = [3, FAIL, KILL, 1], [3, KeyError, procession.WorkerDied, 1]
    pairs = [(x, None) for x in items]
    assert are(pool.starmap(misbehave_starred, pairs, return_exceptions=True), ends)
    assert are(pool.map_async(misbehave, items, return_exceptions=True).get(30), ends)
    result = pool.starmap_async(misbehave_starred, pairs, return_exceptions=True)
    assert are(result.get(30), ends) and result.successful()
    unordered = list(pool.imap_unordered(misbehave, iter(items), return_exceptions=True))
    assert sorted(map(repr, ends_of(unordered))) == sorted(map(repr, ends))
    assert are(pool.imap(misbehave, items, buffersize=2, return_exceptions=True), ends)
    assert pool.map(misbehave, [], return_exceptions=True) == []


def test_executor_map(executor):
    values = list(executor.map(misbehave, ITEMS, return_exceptions=True))
    assert are(values, ENDS)
    died = values[ITEMS.index(KILL)]
    assert isinstance(died, concurrent.futures.process.BrokenProcessPool) and died.signal == 9
    items = [3, FAIL, 1]
    results = executor.map(
        misbehave_starred, items, [None] * 3, buffersize=2, return_exceptions=True
    )
    assert are(results, [3, KeyError, 1])


def test_an_exception_arrives_as_if_it_was_raised(pool):
    error, picky, unsendable = pool.map(
        call, [tasks.raise_rich, tasks.raise_picky, tasks.raise_unpicklable], return_exceptions=True
    )
    assert error.extra == list(range(10)) and "in raise_rich" in str(error.__cause__)
    assert "PickyError('a b')" in str(picky) and "in raise_picky" in str(picky.__cause__)
    assert isinstance(unsendable, procession.pool.MaybeEncodingError)


def test_in_a_chunk_what_raises_costs_its_item_and_what_kills_its_chunk(pool):
    items = [0, FAIL, 1, UNSENDABLE, 2, KILL, 3, 4]
    died = procession.WorkerDied
    ends = [0, KeyError, 1, procession.pool.MaybeEncodingError, died, died, died, died]
    assert are(pool.map(misbehave, items, 4, return_exceptions=True), ends)
    assert are(pool.imap(misbehave, items, 4, return_exceptions=True), ends)


def test_an_argument_that_cannot_be_pickled_costs_its_item(pool, executor):
    items = [0, tasks.Unpicklable(), 1, 2]
    for chunksize in (1, 4):
        assert are(
            pool.map(misbehave, items, chunksize, return_exceptions=True), [0, RuntimeError, 1, 2]
        )
        results = executor.map(misbehave, items, chunksize=chunksize, return_exceptions=True)
        assert are(results, [0, RuntimeError, 1, 2])


def test_errors_of_the_call_itself_are_raised(pool, executor):
    for raises in (
        lambda: pool.map(tasks.UnpicklableFunction(), [1, 2], return_exceptions=True),
        lambda: list(pool.imap(tasks.UnpicklableFunction(), [1, 2], return_exceptions=True)),
        lambda: list(executor.map(tasks.UnpicklableFunction(), [1, 2], return_exceptions=True)),
        lambda: pool.map(abs, Failing(), return_exceptions=True),
    ):
        with pytest.raises(RuntimeError, match=r"never|no more"):
            raises()
    results = pool.imap(abs, iter(Failing()), return_exceptions=True)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="no more"):
        next(results)


class Failing:
    def __len__(self):
        return 5

    def __iter__(self):
        yield 0
        yield -1
        raise RuntimeError("no more")


def test_a_time_limit_costs_its_item(method):
    with procession.get_context(method).Pool(2, task_timeout=0.5) as pool:
        ends = pool.map(misbehave, [0, HANG, 2], return_exceptions=True)
    assert are(ends, [0, procession.TaskTimeout, 2])


def test_what_a_termination_leaves_undone(tmp_path):
    count = 10_000  # more than are queued at once
    with procession.get_context("fork").Pool(1) as pool:
        gates = [str(tmp_path / "gate")] * count
        result = pool.map_async(tasks.wait_for, gates, return_exceptions=True)
        until(lambda: pool.stats().running == 1)
        pool.terminate()
        ends = result.get(20)
    assert len(ends) == count
    assert all(isinstance(end, procession.ProcessError) for end in ends)


def test_what_a_cancel_leaves_undone(tmp_path):
    count = 10_000
    with procession.get_context("fork").Pool(1) as pool:
        gate = tmp_path / "gate"
        gate.touch()
        results = pool.imap(
            tasks.wait_for, [str(gate), str(tmp_path / "never")], return_exceptions=True
        )
        assert next(results) == str(gate)
        assert results.cancel()
        assert isinstance(next(results), procession.TaskCancelled)
        result = pool.map_async(
            tasks.wait_for, [str(tmp_path / "never")] * count, return_exceptions=True
        )
        until(lambda: pool.stats().running == 1)
        assert result.cancel()
        assert ends_of(result.get(20)) == [procession.TaskCancelled] * count
        assert pool.apply(abs, (-1,)) == 1


def test_a_broken_pool_is_told_for_each_item():
    def fail():
        raise OSError("no")

    with procession.get_context("fork").Pool(2, fail) as pool:
        try:
            ends = pool.map(abs, range(5), return_exceptions=True)
        except procession.BrokenPool:
            return  # it was known to be broken before the call
    assert ends_of(ends) == [procession.BrokenPool] * 5


def test_callbacks_get_the_list():
    got = []
    with procession.get_context("fork").Pool(1) as pool:
        pool.map_async(misbehave, [FAIL, 1], None, got.append, return_exceptions=True).wait()
    assert ends_of(got[0]) == [KeyError, 1]


def test_seeded_items():
    with procession.get_context("fork").Pool(2, seed=1) as pool:
        assert are(pool.map(misbehave, [0, FAIL, 2], return_exceptions=True), [0, KeyError, 2])
        pairs = [(0, None), (FAIL, None)]
        assert are(pool.starmap(misbehave_starred, pairs, return_exceptions=True), [0, KeyError])


def test_threads():
    items = [0, FAIL, STOP, 3, 4]
    ends = [0, KeyError, StopIteration, 3, 4]
    with ThreadPool(2) as pool:
        for chunksize in (1, 2):
            assert are(pool.map(misbehave, items, chunksize, return_exceptions=True), ends)
            assert are(pool.imap(misbehave, items, chunksize, return_exceptions=True), ends)
        pairs = [(x, None) for x in items]
        assert are(pool.starmap(misbehave_starred, pairs, return_exceptions=True), ends)
        with pytest.raises(RuntimeError, match="no more"):
            pool.map(abs, Failing(), return_exceptions=True)
        entered, gate = threading.Semaphore(0), threading.Event()

        def wait(_):
            entered.release()
            return gate.wait()

        result = pool.map_async(wait, range(20), return_exceptions=True)
        entered.acquire(), entered.acquire()
        assert result.cancel()
        gate.set()
        ends = ends_of(result.get(20))
    assert ends.count(True) == 2 and ends.count(procession.TaskCancelled) == 18


class WithQueues(procession.pool.Pool):
    def _setup_queues(self):
        super()._setup_queues()


def test_a_pool_with_queues_of_its_own():
    with WithQueues(2, context=procession.get_context("fork")) as pool:
        items, ends = [0, FAIL, UNSENDABLE, 3], [0, KeyError, procession.pool.MaybeEncodingError, 3]
        assert are(pool.map(misbehave, items, return_exceptions=True), ends)
        assert are(pool.imap(misbehave, items, return_exceptions=True), ends)
        error = pool.map(misbehave, [FAIL], return_exceptions=True)[0]
        assert "in misbehave" in str(error.__cause__)


def test_an_interrupt_is_not_an_items_outcome():
    def items():
        yield 1
        raise KeyboardInterrupt

    with procession.get_context("fork").Pool(1) as pool, pytest.raises(KeyboardInterrupt):
        pool.map(abs, items(), return_exceptions=True)
