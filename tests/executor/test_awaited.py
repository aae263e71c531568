"""Calls of pools and executors in event loops: awaited, and with a cancelled wait."""

from __future__ import annotations

import asyncio
import os

import pytest

from procession import ProcessPoolExecutor
from tests.pool.tasks import fail_to_start, square, touch, wait_for
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)


async def awaited(result):
    return await result


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_futures_of_an_executor_can_be_awaited(ctx):
    async def main():
        assert await executor.submit(square, 3) == 9
        calls = [executor.submit(square, x) for x in range(20)]
        assert await asyncio.gather(*calls) == [x * x for x in range(20)]
        assert await executor.options(timeout=30).submit(square, 3) == 9
        with pytest.raises(Exception, match="x"):
            await executor.submit(fail_to_start, "x")

    with ProcessPoolExecutor(2, ctx) as executor:
        asyncio.run(main())


def test_a_cancelled_await_of_a_future_stops_no_worker(ctx, tmp_path):
    async def main():
        running = executor.submit(wait_for, str(tmp_path / "flag"))
        waiting = executor.submit(touch, str(tmp_path / "begun"))
        tasks = [asyncio.create_task(awaited(future)) for future in (running, waiting)]
        await asyncio.to_thread(until, running.running)
        for task in tasks:
            await cancel(task)
        # As in the standard library: a call that no worker has begun is cancelled with the wait.
        assert (running.cancelled(), waiting.cancelled()) == (False, True)
        (tmp_path / "flag").touch()
        assert await running == str(tmp_path / "flag")
        assert await executor.submit(os.getpid) == pid

    with ProcessPoolExecutor(1, ctx) as executor:
        pid = executor.submit(os.getpid).result(30)
        asyncio.run(main())
    assert not (tmp_path / "begun").exists()


def test_a_cancelled_await_of_a_pool_s_result_stops_no_worker(ctx, tmp_path):
    names = [str(tmp_path / name) for name in "ab"]

    async def main():
        results = [pool.apply_async(wait_for, names[:1]), pool.map_async(wait_for, names)]
        tasks = [asyncio.create_task(awaited(result)) for result in results]
        await asyncio.to_thread(until, lambda: pool.stats().running == 1)
        for task in tasks:
            await cancel(task)
        for name in names:
            (tmp_path / name).touch()
        assert [await result for result in results] == [names[0], names]
        assert await pool.apply_async(os.getpid) == pid

    with ctx.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        asyncio.run(main())
