"""`ProcessPoolExecutor` as `concurrent.futures` documents it, on every start method.

How executors begin and end is tested in test_life.py, faults in pool/test_faults.py.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import threading
import time
import weakref

import pytest

import procession
from procession import ProcessPoolExecutor
from tests.conftest import METHODS
from tests.pool.tasks import Unpicklable, fail_on_three, square, wait_for


def add(x, y):
    return x + y


def everything(*args, **kwds):
    return args, kwds


def fail(x):
    raise KeyError(x)


@pytest.fixture(scope="module", params=METHODS)
def executor(request):
    with ProcessPoolExecutor(2, procession.get_context(request.param)) as made:
        yield made


def test_submit(executor):
    assert executor.submit(square, 5).result(20) == 25
    assert executor.submit(everything, 1, self=2, fn=3).result(20) == ((1,), {"self": 2, "fn": 3})
    future = executor.submit(fail, 7)
    assert isinstance(future, concurrent.futures.Future)
    error = future.exception(20)
    assert isinstance(error, KeyError)
    assert "in fail" in str(error.__cause__)
    with pytest.raises(RuntimeError, match="never"):
        executor.submit(square, Unpicklable()).result(20)


def test_it_is_an_executor(executor):
    assert isinstance(executor, concurrent.futures.Executor)
    assert ProcessPoolExecutor is procession.ProcessPoolExecutor


def test_wait_and_as_completed(executor):
    futures = [executor.submit(square, x) for x in range(200)]
    assert sum(future.result() for future in concurrent.futures.as_completed(futures, 20)) == sum(
        x * x for x in range(200)
    )
    done, pending = concurrent.futures.wait([executor.submit(fail, 1)], 20)
    assert (len(done), len(pending)) == (1, 0)


def test_callbacks(executor):
    called = []
    everybody = threading.Event()

    def bad(future):
        raise LookupError("from the callback")

    def good(future):
        called.append(future.result())
        everybody.set()

    first = executor.submit(square, 2)
    first.add_done_callback(bad)
    executor.submit(square, 3).add_done_callback(good)
    assert first.result(20) == 4
    assert everybody.wait(20)
    assert called == [9]


def test_a_callback_may_submit(executor):
    chained: concurrent.futures.Future[int] = concurrent.futures.Future()
    executor.submit(square, 2).add_done_callback(
        lambda first: executor.submit(square, first.result()).add_done_callback(
            lambda second: chained.set_result(second.result())
        )
    )
    assert chained.result(20) == 16


@pytest.mark.parametrize("chunksize", [1, 6, 100])
def test_map(executor, chunksize):
    assert list(executor.map(square, range(50), chunksize=chunksize)) == [x * x for x in range(50)]
    assert list(executor.map(add, range(50), range(60), chunksize=chunksize)) == [
        2 * x for x in range(50)
    ]
    assert list(executor.map(square, [], chunksize=chunksize)) == []
    assert list(executor.map(square, chunksize=chunksize)) == []


def test_map_stops_at_an_error(executor):
    results = executor.map(fail_on_three, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_says_at_once_what_its_iterable_raises(executor):
    def items():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        executor.map(square, items())
    assert executor.submit(square, 3).result(20) == 9


def test_map_timeout(executor, tmp_path):
    flag = tmp_path / "flag"
    results = executor.map(wait_for, [str(flag)], timeout=0.05)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)
    flag.touch()


def test_map_with_a_buffer(executor):
    taken = itertools.count()
    results = executor.map(square, (next(taken) for _ in itertools.count()), buffersize=4)
    assert [next(results) for _ in range(20)] == [x * x for x in range(20)]
    assert next(taken) <= 25
    for buffersize in (1, 3, 10, 100):
        assert list(executor.map(add, range(10), range(10), buffersize=buffersize)) == [
            2 * x for x in range(10)
        ]
    assert list(executor.map(square, range(10), chunksize=3, buffersize=1)) == [
        x * x for x in range(10)
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": 1.5}, TypeError),
    ],
)
def test_map_refuses(executor, arguments, error):
    with pytest.raises(error):
        executor.map(square, [1], **arguments)


def test_asyncio(executor):
    async def main():
        loop = asyncio.get_running_loop()
        one = loop.run_in_executor(executor, square, 4)
        other = asyncio.wrap_future(executor.submit(square, 5))
        return await asyncio.gather(one, other)

    assert asyncio.run(main()) == [16, 25]


def test_results_are_not_kept(executor):
    class Mark:
        pass

    mark = Mark()
    future = executor.submit(square, 3)
    future.mark = mark
    gone = weakref.ref(mark)
    assert future.result(20) == 9
    del mark, future
    # The thread that completed it releases it a moment after the result is available.
    deadline = time.monotonic() + 20
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None


def test_errors_of_arguments_name_the_executor():
    with ProcessPoolExecutor(1) as executor:
        with pytest.raises(TypeError, match=r"^ProcessPoolExecutor\.submit\(\) missing"):
            executor.submit()
        with pytest.raises(TypeError, match=r"^ProcessPoolExecutor\.map\(\) got an unexpected"):
            executor.map(square, [1], chunk=1)
