"""How far a pool's calls run ahead of its workers.

The tests count items taken and pickled, and measure no time.
"""

from __future__ import annotations

import contextlib
import itertools
import threading

import pytest

import procession
from procession.pool import ThreadPool
from tests.pool.shapes import METHODS, SHAPES, opened
from tests.pool.tasks import sleep_a_little, square
from tests.waiting import until

WORKERS = 2
LARGE = 1_000_000
#: Limits beyond which nothing more is taken: bytes of arguments in line, and tasks beyond one for
#: each worker; see `pool/room.rs` and `pool/feed.rs`.
BYTES, TASKS = 4 << 20, 4096
#: The initial limit of tasks in line.
AHEAD = 4


def length(data):
    sleep_a_little(0)
    return len(data)


class Counted:
    """Items of a generator, with the highest numbers taken, or pickled, and not yet done."""

    def __init__(self, pool, count, size=0):
        self.pool, self.count, self.size = pool, count, size
        self.taken = self.pickled = 0
        self.most_taken = self.most_pickled = self.most_before_any = 0

    def done(self):
        return self.pool._core.stats()[0]

    def __iter__(self):
        for _ in itertools.islice(itertools.count(), self.count):
            self.taken += 1
            done = self.done()
            self.most_taken = max(self.most_taken, self.taken - done)
            if done == 0:
                self.most_before_any = self.taken
            yield Item(self)


class Item:
    def __init__(self, counted):
        self.counted = counted

    def __reduce__(self):
        counted = self.counted
        counted.pickled += 1
        counted.most_pickled = max(counted.most_pickled, counted.pickled - counted.done())
        return bytes, (bytes(counted.size),)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_imap_takes_no_more_large_items_than_keep_the_workers_busy(method, kind):
    with opened("Pool", method, WORKERS) as made:
        items = Counted(made.pool, 60, LARGE)
        assert list(getattr(made.face, kind)(length, items)) == [LARGE] * 60
        # The items before the one that is being taken, and that one.
        assert items.most_taken <= BYTES // LARGE + 2


@pytest.mark.parametrize("chunksize", [2, 3])
def test_imap_in_chunks(chunksize):
    with gated("Pool") as (made, gate):
        items = Counted(made.pool, 12 * chunksize, LARGE)
        results = made.face.imap(length, items, chunksize)
        tasks = 2 * WORKERS
        until(lambda: items.pickled >= tasks * chunksize)
        gate.set()
        assert list(results) == [LARGE] * items.count
        assert items.most_before_any <= tasks * chunksize


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_an_endless_cheap_generator(kind):
    with opened("Pool", "fork", WORKERS) as made:
        items = Counted(made.pool, None)
        results = getattr(made.face, kind)(len, items)
        assert list(itertools.islice(results, 3 * TASKS)) == [0] * 3 * TASKS
        assert items.most_taken <= WORKERS + TASKS + 1


@contextlib.contextmanager
def gated(shape):
    """Yield a pool and an event that lets its workers begin."""
    gate = procession.get_context("fork").Event()
    with opened(shape, "fork", WORKERS, gate.wait) as made:
        yield made, gate


def test_where_nothing_is_done_nothing_more_is_taken():
    with gated("Pool") as (made, gate):
        items = Counted(made.pool, 3 * TASKS)
        results = made.face.imap(len, items)
        until(lambda: items.taken >= WORKERS + AHEAD)
        gate.set()
        assert list(results) == [0] * 3 * TASKS
        assert items.most_before_any <= WORKERS + AHEAD


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_pickles_no_more_than_keeps_the_workers_busy(shape, chunksize):
    with opened(shape, "fork", WORKERS) as made:
        items = Counted(made.pool, 40, LARGE)
        assert list(made.face.map(length, items, chunksize=chunksize)) == [LARGE] * 40
        assert items.taken == 40
        if chunksize == 1:
            assert items.most_pickled <= BYTES // LARGE + 2


def test_executor_map_takes_all_at_once():
    with opened("ProcessPoolExecutor", "fork", WORKERS) as made:
        items = Counted(made.pool, 40, LARGE)
        results = made.face.map(length, items)
        assert items.taken == 40
        made.face.shutdown(wait=False)
        assert list(results) == [LARGE] * 40


def test_executor_map_whose_results_nobody_takes():
    with opened("ProcessPoolExecutor", "fork", WORKERS) as made:
        items = Counted(made.pool, 40, LARGE)
        made.face.map(length, items)
        made.face.shutdown()
        assert items.pickled == 40


def test_executor_map_cancelled_before_all_was_pickled():
    with gated("ProcessPoolExecutor") as (made, workers):
        gate = Gate()
        results = made.face.map(length, [*Counted(made.pool, 20, LARGE), Blocks(gate)])
        workers.set()
        assert gate.reached.wait(60)
        made.face.shutdown(wait=False, cancel_futures=True)
        gate.opened.set()
        with pytest.raises(procession.TaskCancelled):
            list(results)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_iterable_that_raises_after_large_items(shape):
    def items():
        yield from Counted(made.pool, 20, LARGE)
        raise KeyError("enough")

    with opened(shape, "fork", WORKERS) as made:
        with pytest.raises(KeyError, match="enough"):
            list(made.results(length, items()))
        assert made.call(square, 3)() == 9


class Gate:
    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()


class Blocks:
    """An item that waits while it is pickled."""

    def __init__(self, gate):
        self.gate = gate

    def __reduce__(self):
        self.gate.reached.set()
        assert self.gate.opened.wait(60)
        return bytes, ()


@pytest.mark.parametrize("kind", ["imap", "imap_unordered", "map_async"])
def test_what_was_not_pickled_when_the_pool_was_terminated_is_missed(kind):
    """All submitted tasks are done, but not all items were submitted."""
    gate = Gate()
    with gated("Pool") as (made, workers):
        items = [*Counted(made.pool, 20, LARGE), Blocks(gate), Blocks(gate)]
        results = getattr(made.face, kind)(length, items, 1)
        workers.set()
        assert gate.reached.wait(60)
        if kind != "map_async":
            assert [next(results) for _ in range(20)] == [LARGE] * 20
        made.face.terminate()
        gate.opened.set()
        with pytest.raises(procession.ProcessError, match="terminated"):
            results.get(60) if kind == "map_async" else next(results)


def test_a_map_that_is_cancelled_before_all_was_pickled():
    gate = Gate()
    with gated("Pool") as (made, workers):
        items = [*Counted(made.pool, 20, LARGE), Blocks(gate), Blocks(gate)]
        result = made.face.map_async(length, items, 1)
        workers.set()
        assert gate.reached.wait(60)
        assert result.cancel()
        gate.opened.set()
        with pytest.raises(procession.TaskCancelled):
            result.get(60)
        assert made.call(square, 3)() == 9


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_imap_over_threads(kind):
    gate, taken, most = threading.Event(), 0, 0

    def items():
        nonlocal taken, most
        for number in range(200):
            taken += 1
            most = max(most, taken - len(done))
            if taken == WORKERS + 4:
                gate.set()
            yield number

    done = []

    def work(x):
        assert gate.wait(60)
        done.append(x)
        return x

    with ThreadPool(WORKERS) as pool:
        assert sorted(getattr(pool, kind)(work, items())) == list(range(200))
    assert most <= WORKERS + TASKS + 1


def test_a_thread_pool_that_is_terminated_while_it_is_fed():
    gate = threading.Event()
    with ThreadPool(WORKERS) as pool:
        results = pool.imap(lambda x: x or gate.wait(60), itertools.count(-1))
        assert next(results) == -1
        pool.terminate()
        gate.set()
        with pytest.raises(procession.ProcessError, match="terminated"):
            list(results)
