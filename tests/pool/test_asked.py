"""How a pool's callers wait: in an event loop, or with a look at the progress.

Pools of threads are asked, too.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import pathlib
import sys
import threading

import pytest

import procession
from procession._pool import progress
from procession.pool import ThreadPool
from tests.pool import tasks
from tests.pool.shapes import METHODS, workers_without_main

pytestmark = pytest.mark.timeout(60)

SQUARES = [x * x for x in range(50)]


@pytest.fixture(scope="module", params=[*METHODS, "threads"])
def pool(request):
    with workers_without_main():
        threads = request.param == "threads"
        made = ThreadPool(2) if threads else procession.get_context(request.param).Pool(2)
        with made:
            yield made
        made.join()


def test_await(pool):
    async def main():
        called = []
        results = [
            pool.apply_async(tasks.square, (3,)),
            pool.map_async(tasks.square, range(50), callback=called.append),
            pool.starmap_async(pow, [(2, 3)]),
        ]
        values = await asyncio.wait_for(asyncio.gather(*map(wait_for, results)), 20)
        assert values == [9, SQUARES, [8]]
        assert called == [SQUARES]
        # Calls that have ended, and results that were already taken.
        assert [await result for result in results] == values
        done = pool.apply_async(tasks.square, (4,))
        assert done.get(20) == 16
        assert await done == 16
        with pytest.raises(OSError, match="x"):
            await pool.apply_async(tasks.fail_to_start, ("x",))
        return await asyncio.gather(
            *(wait_for(pool.apply_async(tasks.square, (x,))) for x in range(50))
        )

    async def wait_for(result):
        return await result

    assert asyncio.run(main()) == SQUARES


def test_await_does_not_hold_up_the_loop(pool, tmp_path):
    async def main():
        waiting = pool.apply_async(tasks.wait_for, (str(tmp_path / "flag"),))
        asyncio.get_running_loop().call_soon((tmp_path / "flag").touch)
        return await waiting

    assert asyncio.run(main()) == str(tmp_path / "flag")


def test_await_what_is_terminated(tmp_path):
    async def main():
        with procession.get_context("fork").Pool(1) as pool:
            waiting = pool.apply_async(tasks.wait_for, (str(tmp_path / "never"),))
            asyncio.get_running_loop().call_later(0.01, pool.terminate)
            with pytest.raises(procession.ProcessError, match="terminated"):
                await waiting

    asyncio.run(main())


@pytest.mark.parametrize("chunksize", [1, 7])
def test_async_for(pool, chunksize):
    async def main():
        results = [x async for x in pool.imap(tasks.square, range(50), chunksize)]
        assert results == SQUARES
        unordered = [x async for x in pool.imap_unordered(tasks.square, range(50), chunksize)]
        assert sorted(unordered) == SQUARES

    asyncio.run(main())


def test_async_for_over_a_map_of_an_executor():
    async def main():
        with procession.ProcessPoolExecutor(2) as executor:
            for chunksize in (1, 7):
                results = executor.map(tasks.square, range(50), chunksize=chunksize)
                assert [x async for x in results] == SQUARES
            endless = executor.map(tasks.square, itertools.count(), buffersize=3)
            assert [await anext(endless), next(endless), next(iter(endless))] == SQUARES[:3]
            endless.close()
            with pytest.raises(StopAsyncIteration):
                await anext(endless)
            failing = executor.map(tasks.fail_on_three, range(8))
            with pytest.raises(KeyError, match="3"):
                [x async for x in failing]

    asyncio.run(main())


def test_cancelled_steps_lose_no_results(pool, tmp_path):
    names = [str(tmp_path / name) for name in "abcd"]

    async def main():
        results = pool.imap(tasks.wait_for, names)
        for _ in range(2):
            # Two requests at once, and neither result is ready.
            steps = asyncio.gather(anext(results), anext(results))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(steps, 0.02)
        for name in names:
            pathlib.Path(name).touch()
        together = asyncio.gather(*(anext(results) for _ in range(3)))
        return [*await together, *[result async for result in results]]

    assert sorted(asyncio.run(main())) == names


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_progress_counts_items(pool, chunksize):
    seen = []
    assert (
        pool.map(tasks.square, range(50), chunksize, progress=lambda *at: seen.append(at))
        == SQUARES
    )
    assert seen[-1] == (50, 50)
    assert seen == sorted(seen)
    asked = pool.starmap_async(pow, [(2, 2)] * 9, chunksize, progress=lambda *at: seen.append(at))
    assert asked.get(20) == [4] * 9
    assert seen[-1] == (9, 9)
    for kind in (pool.imap, pool.imap_unordered):
        seen.clear()
        results = kind(
            tasks.square,
            iter(range(50)),
            chunksize or 1,
            progress=lambda *at: seen.append(at),
        )
        assert sorted(results) == SQUARES
        assert seen[-1] == (50, None)


def test_progress_when_a_callback_has_the_value_first(pool):
    seen = []
    called = threading.Event()
    result = pool.map_async(
        tasks.square,
        range(50),
        callback=lambda _: called.set(),
        progress=lambda *at: seen.append(at),
    )
    assert called.wait(20)
    assert result.get(20) == SQUARES
    assert seen[-1] == (50, 50)


def test_a_bar_ends_with_its_iterator(pool, monkeypatch):
    told = []
    bars = [progress.Progress(lambda done, _: told.append(done), lambda: told.append("end"), None)]
    monkeypatch.setattr(progress, "progress", lambda *_: bars.pop())
    results = pool.imap(tasks.square, range(50), progress=True)
    assert [next(results), next(results)] == [0, 1]
    del results
    gc.collect()
    assert told[-2:] == [2, "end"]


def test_progress_of_an_executor():
    seen = []
    with procession.ProcessPoolExecutor(2) as executor:
        assert (
            list(
                executor.map(
                    tasks.square, range(50), chunksize=3, progress=lambda *at: seen.append(at)
                )
            )
            == SQUARES
        )
    assert seen[-1] == (50, 50)


def test_a_bar_is_for_terminals(capsys, monkeypatch):
    for module in ("rich", "rich.console", "rich.progress", "tqdm"):
        monkeypatch.setitem(sys.modules, module, None)
    with procession.get_context("fork").Pool(1) as pool:
        pool.map(tasks.square, range(5), progress=True)
        assert capsys.readouterr().err == ""
        pool.map(tasks.square, range(5), progress="always")
        assert "5/5 (100%) items" in capsys.readouterr().err
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        pool.map(tasks.square, range(5), progress=True)
        assert "\r5/5 (100%) items" in capsys.readouterr().err
        with pytest.raises(ValueError):
            pool.map(tasks.square, range(5), progress="sometimes")


@pytest.mark.parametrize("library", ["rich", "tqdm"])
def test_bars_of_others(library, capsys):
    pytest.importorskip(library)
    bar = getattr(progress, f"_by_{library}")(10)
    bar.report(3)
    bar.finish(10)
    assert "10/10" in capsys.readouterr().err


def test_progress_that_raises(pool):
    def bad(done, total):
        raise LookupError("from the callable")

    with pytest.raises(LookupError):
        pool.map(tasks.square, range(5), progress=bad)
    assert pool.map(tasks.square, range(50)) == SQUARES
    assert threading.active_count() < 50
