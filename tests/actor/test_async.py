"""Actors and event loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal

import pytest

from procession import ActorDied, actor
from tests.actor.classes import Counter

pytestmark = pytest.mark.timeout(60)


def test_futures_can_be_awaited(ctx):
    async def main():
        assert await actor.submit(counter.add, 2) == 2
        calls = [actor.submit(counter.add) for _ in range(50)]
        assert await asyncio.gather(*calls) == list(range(3, 53))
        with pytest.raises(ValueError, match="no"):
            await actor.submit(counter.fail, "no")
        done = actor.submit(counter.add)
        assert (await done, await done) == (53, 53)

    with actor.options(context=ctx)(Counter) as counter:
        asyncio.run(main())


async def awaited(future):
    return await future


def test_a_cancelled_await_cancels_no_call(ctx):
    async def main():
        began, event = ctx.Event(), ctx.Event()
        future = actor.submit(counter.wait, began, event)
        waiting = [asyncio.create_task(awaited(future)) for _ in range(2)]
        await asyncio.to_thread(began.wait)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaited(actor.submit(counter.add)), 0.01)
        assert not future.cancel()
        event.set()
        assert await waiting[1] == 0
        # The call that was not waited for was made.
        assert await actor.submit(counter.add) == 2
        assert actor.status(counter).pid == pid

    with actor.options(context=ctx)(Counter) as counter:
        pid = counter.pid()
        asyncio.run(main())


def test_a_death_ends_an_await(ctx):
    async def main():
        began, event = ctx.Event(), ctx.Event()
        waiting = asyncio.create_task(awaited(actor.submit(counter.wait, began, event)))
        await asyncio.to_thread(began.wait)
        os.kill(actor.status(counter).pid, signal.SIGKILL)
        with pytest.raises(ActorDied, match="SIGKILL"):
            await waiting

    counter = actor.options(context=ctx)(Counter)
    asyncio.run(main())


def test_callbacks_and_the_functions_of_concurrent_futures(ctx):
    with actor.options(context=ctx)(Counter) as counter:
        called = []
        futures = [actor.submit(counter.add) for _ in range(5)]
        futures[0].add_done_callback(lambda future: called.append(future.result()))
        done, pending = concurrent.futures.wait(futures, 30)
        assert (len(done), len(pending)) == (5, 0)
        assert called == [1]
        assert actor.submit(counter.add).result(30) == 6
