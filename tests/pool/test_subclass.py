"""Pools with internals that a program changes, as in the standard library.

The internals are queues, workers and maps.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import threading
import time

import pytest

import procession
from procession._procession import PoolCore
from procession.pool import Pool


class Marked:
    """An object that travels as the pickler of a queue decides."""

    def __init__(self, text):
        self.text = text


def forward(marked):
    return Marked, (marked.text + ">",)


def backward(marked):
    return Marked, (marked.text + "<",)


class ReducingQueue:
    """A pipe with its own locks and pickler, as joblib's."""

    def __init__(self, context, reduce):
        self._reader, self._writer = context.Pipe(duplex=False)
        self._rlock, self._wlock = context.Lock(), context.Lock()
        self._reduce = reduce

    def send(self, obj):
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer)
        pickler.dispatch_table = {Marked: self._reduce}
        pickler.dump(obj)
        self._writer.send_bytes(buffer.getvalue())

    def put(self, obj):
        with self._wlock:
            self.send(obj)

    def get(self):
        with self._rlock:
            return self._reader.recv()


class OwnQueues:
    def _setup_queues(self):
        self._inqueue = ReducingQueue(self._ctx, forward)
        self._outqueue = ReducingQueue(self._ctx, backward)
        self._quick_put, self._quick_get = self._inqueue.send, self._outqueue._reader.recv


def mark(marked):
    return Marked(marked.text + "!")


def mark_two(marked, other):
    return Marked(marked.text + other)


def double(x):
    return x * 2


def refuse(x):
    raise LookupError(x)


def leave(code):
    os._exit(code)


def subclass(package, *bases):
    module = importlib.import_module(f"{package.__name__}.pool")
    return module, type("Own", (*bases, module.Pool), {})


def texts(results):
    return [result.text for result in results]


def test_own_queues_carry_tasks_and_results(package, both):
    _, own = subclass(package, OwnQueues)
    items = [Marked(letter) for letter in "abc"]
    with own(2, context=both) as pool:
        assert pool.apply(mark, (items[0],)).text == "a>!<"
        assert texts(pool.map(mark, items)) == ["a>!<", "b>!<", "c>!<"]
        assert texts(pool.imap(mark, items)) == ["a>!<", "b>!<", "c>!<"]
        assert sorted(texts(pool.imap_unordered(mark, items, 2))) == ["a>!<", "b>!<", "c>!<"]
        assert texts(pool.starmap(mark_two, [(items[0], "x"), (items[1], "y")])) == ["a>x<", "b>y<"]
        told = []
        pool.map_async(mark, items, callback=told.append).get()
        pool.apply_async(refuse, (3,), error_callback=told.append).wait()
        with pytest.raises(LookupError) as caught:
            pool.apply(refuse, (5,))
        assert caught.value.args == (5,)
        assert "in refuse" in str(caught.value.__cause__)
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            pool.apply(double, (lambda: 0,))
        with pytest.raises(importlib.import_module(f"{package.__name__}.pool").MaybeEncodingError):
            pool.apply(threading.Lock)
        pool.close()
        pool.join()
    assert texts(told[0]) == ["a>!<", "b>!<", "c>!<"]
    assert told[1].args == (3,)


class Counted:
    def _setup_queues(self):
        super()._setup_queues()
        put, get, self.seen = self._quick_put, self._quick_get, []

        def quick_put(task):
            self.seen.append(task)
            put(task)

        def quick_get():
            result = get()
            self.seen.append(result)
            return result

        self._quick_put, self._quick_get = quick_put, quick_get


def test_the_quick_ways_are_used(package, both):
    _, own = subclass(package, Counted)
    with own(1, context=both) as pool:
        assert pool.apply(double, (2,)) == 4
        (job, number, func, args, kwds), result = pool.seen
        assert (number, func, args, kwds) == (0, double, (2,), {})
        assert result == (job, 0, (True, 4))


class OwnWorkers:
    def _repopulate_pool(self):
        self.made = 0
        for _ in range(self._processes - len(self._pool)):
            arguments = (
                self._inqueue,
                self._outqueue,
                self._initializer,
                self._initargs,
                self._maxtasksperchild,
                self._wrap_exception,
            )
            process = self.Process(self._ctx, target=self.target, args=arguments)
            self._pool.append(process)
            process.daemon = True
            process.start()
            self.made += 1


def test_workers_that_a_subclass_starts(package, both):
    module, own = subclass(package, OwnWorkers)
    own.target = staticmethod(module.worker)
    with own(2, context=both) as pool:
        assert pool.made == 2
        assert pool.map(double, range(9)) == list(range(0, 18, 2))


def note_and_work(package, *args):
    os.environ["NOTED"] = "yes"
    importlib.import_module(f"{package}.pool").worker(*args)


def noting_worker(*args):
    note_and_work("multiprocessing", *args)


def own_noting_worker(*args):
    note_and_work("procession", *args)


def test_a_worker_function_that_a_program_replaces(package, both, monkeypatch):
    module = importlib.import_module(f"{package.__name__}.pool")
    if both.get_start_method() == "fork":
        original = module.worker

        def replacement(*args):
            os.environ["NOTED"] = "yes"
            original(*args)
    else:
        replacement = own_noting_worker if package is procession else noting_worker
    with monkeypatch.context() as patch:
        patch.setattr(module, "worker", replacement)
        with both.Pool(1) as pool:
            assert pool.apply(os.getenv, ("NOTED",)) == "yes"
    with both.Pool(1) as pool:
        assert pool.apply(os.getenv, ("NOTED",)) is None


def test_workers_are_replaced_after_their_tasks(package, both):
    _, own = subclass(package, OwnQueues)
    with own(2, maxtasksperchild=2, context=both) as pool:
        assert len(set(pool.starmap(os.getpid, [()] * 8, 1))) >= 4


def test_a_death_fails_what_is_under_way_and_no_more(ctx):
    _, own = subclass(procession, OwnQueues)
    with own(2, context=ctx) as pool:
        for code in (7, 0):
            with pytest.raises(procession.WorkerDied) as caught:
                pool.apply(leave, (code,))
            assert caught.value.exitcode == code
            assert pool.map(double, range(50), 1) == list(range(0, 100, 2))
        waiting = [pool.apply_async(double, (n,)) for n in range(100)]
        assert [result.get() for result in waiting] == list(range(0, 200, 2))


def test_workers_that_cannot_begin_break_the_pool(ctx):
    _, own = subclass(procession, OwnQueues)
    # The pool may be broken before the first call, and before a `with` block could be entered.
    pool = own(2, initializer=leave, initargs=(3,), context=ctx)
    try:
        while not pool._pool_workers.broken:
            with pytest.raises((procession.BrokenPool, procession.WorkerDied)):
                pool.apply(double, (1,))
        with pytest.raises(procession.BrokenPool, match="exit code 3"):
            pool.apply(double, (1,))
    finally:
        pool.terminate()
        pool.join()


def test_terminate_while_a_task_does_not_fit_into_the_pipe(ctx):
    """With the standard library, one of two runs hangs."""
    _, own = subclass(procession, OwnQueues)
    with own(1, context=ctx) as pool:
        pool.apply_async(time.sleep, (600,))  # until it is terminated
        large = [pool.apply_async(len, (bytes(1 << 20),)) for _ in range(9)]
    with pytest.raises(procession.ProcessError):
        large[-1].get()
    assert not [thread for thread in threading.enumerate() if thread.name == "PoolTasks"]


def test_what_such_a_pool_does_not_offer():
    _, own = subclass(procession, OwnQueues)
    with pytest.raises(ValueError, match="queues of its own"):
        own(1, seed=1)
    with own(1) as pool:
        with pytest.raises(NotImplementedError):
            pool.resize(2)
        with pytest.raises(NotImplementedError):
            pool.stats()


def test_a_subclass_without_queues_is_a_pool_of_the_engine():
    class Named(Pool):
        name = "mine"

    with Named(1) as pool:
        assert isinstance(pool._core, PoolCore)
        assert not hasattr(pool, "_inqueue")


def star(module, pool, func, iterable, chunksize, kind):
    """Add the map that many programs add to the standard library's pool as `istarmap`."""
    pool._check_running()
    chunks = module.Pool._get_tasks(func, iterable, chunksize)
    result = getattr(module, kind)(pool)
    tasks = pool._guarded_task_generation(result._job, module.starmapstar, chunks)
    pool._taskqueue.put((tasks, result._set_length))
    return (item for chunk in result for item in chunk)


@pytest.mark.parametrize("kind", ["IMapIterator", "IMapUnorderedIterator"])
@pytest.mark.parametrize("shape", ["plain", "queues", "threads"])
def test_a_map_that_a_program_adds(package, both, kind, shape):
    module, own = subclass(package, OwnQueues)
    make = {
        "plain": both.Pool,
        "queues": lambda n: own(n, context=both),
        "threads": module.ThreadPool,
    }
    with make[shape](2) as pool:
        pairs = [(n, 2) for n in range(10)]
        results = list(star(module, pool, pow, pairs, 3, kind))
        assert sorted(results) == [n * n for n in range(10)]
        if kind == "IMapIterator":
            assert results == sorted(results)

        def failing():
            yield 1, 2
            raise LookupError("midway")

        iterator = star(module, pool, pow, failing(), 1, kind)
        with pytest.raises(LookupError, match="midway"):
            list(iterator)
