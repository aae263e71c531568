"""`options()`: calls of a pool or an executor with limits of their own."""

from __future__ import annotations

import asyncio
import os

import pytest

import procession
from procession import ProcessPoolExecutor, TaskTimeout, WorkerDied
from procession.pool import ThreadPool
from tests.pool import tasks
from tests.pool.misbehaving import HANG, KILL, misbehave, misbehave_starred
from tests.pool.shapes import workers_without_main
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def pool(ctx):
    with workers_without_main(), ctx.Pool(2) as made:
        yield made


@pytest.fixture
def executor(ctx):
    with workers_without_main(), ProcessPoolExecutor(2, ctx) as made:
        yield made


def test_a_time_limit_of_calls(pool):
    limited = pool.options(timeout=0.5)
    with pytest.raises(TaskTimeout, match=r"task 0 of misbehave\(16\) took more than 0\.5 seconds"):
        limited.apply(misbehave, (HANG,))
    with pytest.raises(TaskTimeout):
        limited.starmap(misbehave_starred, [(1, None), (HANG, None)])
    ends = limited.map(misbehave, [1, HANG, 2], return_exceptions=True)
    assert [type(end) for end in ends] == [int, TaskTimeout, int]
    assert pool.map(misbehave, [1, 2]) == [1, 2]


def test_a_call_without_the_pools_time_limit(tmp_path):
    gate = tmp_path / "gate"
    with procession.get_context("fork").Pool(2, task_timeout=0.3) as pool:
        endless = pool.options(timeout=None).apply_async(tasks.wait_for, (str(gate),))
        with pytest.raises(TaskTimeout):
            pool.apply(misbehave, (HANG,))
        with pytest.raises(TaskTimeout):
            pool.options(retries=3, name="other").apply(misbehave, (HANG,))
        gate.touch()
        assert endless.get(20) == str(gate)


def test_tasks_of_a_higher_priority_are_begun_first(ctx, tmp_path):
    gate, log = tmp_path / "gate", tmp_path / "log"
    with workers_without_main(), ctx.Pool(1) as pool:
        blocker = pool.apply_async(tasks.wait_for, (str(gate),))
        until(lambda: pool.stats().running == 1)
        given = [
            pool.options(priority="low").map_async(tasks.log, [(str(log), "low")] * 2, 1),
            pool.apply_async(tasks.log, ((str(log), "normal"),)),
            pool.options(priority="high").apply_async(tasks.log, ((str(log), "high"),)),
            pool.options(priority="low").apply_async(tasks.log, ((str(log), "last"),)),
        ]
        gate.touch()
        for one in [blocker, *given]:
            one.get(30)
    assert log.read_text().split() == ["high", "normal", "low", "low", "last"]


def test_calls_of_a_higher_priority_are_begun_first(ctx, tmp_path):
    gate, log = tmp_path / "gate", tmp_path / "log"
    with workers_without_main(), ProcessPoolExecutor(1, ctx) as executor:
        blocker = executor.submit(tasks.wait_for, str(gate))
        until(blocker.running)
        given = [
            executor.options(priority=name).submit(tasks.log, (str(log), name))
            for name in ("low", "normal", "high")
        ]
        gate.touch()
        for one in [blocker, *given]:
            one.result(30)
    assert log.read_text().split() == ["high", "normal", "low"]


@pytest.mark.parametrize("priority", ["urgent", 1, None])
def test_a_priority_is_one_of_three(pool, executor, priority):
    for one in (pool, executor):
        with pytest.raises(ValueError, match="priority must be 'high', 'normal' or 'low'"):
            one.options(priority=priority)


def test_a_task_that_is_tried_again_keeps_its_priority(ctx, tmp_path):
    gate, log = tmp_path / "gate", tmp_path / "log"
    with workers_without_main(), ctx.Pool(1) as pool:
        high = pool.options(priority="high", retries=1)
        dying = high.apply_async(tasks.wait_and_die_once, (str(gate), str(log)))
        until(lambda: pool.stats().running == 1)
        other = pool.apply_async(tasks.log, ((str(log), "normal"),))
        gate.touch()
        dying.get(30)
        other.get(30)
    assert log.read_text().split() == ["dies", "again", "normal"]


def test_retries_of_calls(pool, tmp_path):
    def path():
        return str(tmp_path / str(len(os.listdir(tmp_path))))

    with pytest.raises(WorkerDied):
        pool.apply(tasks.die_once, (path(),))
    limited = pool.options(retries=1)
    assert limited.apply(tasks.die_once, (path(),)) is None
    assert limited.map(tasks.die_once, [path()]) == [None]
    assert list(limited.imap(tasks.die_once, [path()])) == [None]
    assert list(limited.imap_unordered(tasks.die_once, [path()])) == [None]
    assert limited.map_async(tasks.die_once, [path()]).get(30) == [None]
    assert limited.starmap_async(tasks.die_once, [(path(),)]).get(30) == [None]
    with pytest.raises(WorkerDied):
        limited.apply(tasks.kill_self)


def test_calls_of_an_executor(executor, tmp_path):
    path = str(tmp_path / "died")
    unlimited = executor.submit(tasks.wait_for, str(tmp_path / "gate"))
    late = executor.options(timeout=0.5, name="sleep").submit(misbehave, HANG)
    died = executor.options(name="download").submit(misbehave, KILL)
    again = executor.options(retries=1).submit(tasks.die_once, path)
    with pytest.raises(TaskTimeout, match=r"task \d of sleep\(16\)"):
        late.result(30)
    with pytest.raises(WorkerDied, match=r"task \d of download\(10\)"):
        died.result(30)
    assert again.result(30) is None
    os.unlink(path)
    assert list(executor.options(retries=1).map(tasks.die_once, [path])) == [None]
    (tmp_path / "gate").touch()
    assert unlimited.result(30) == str(tmp_path / "gate")
    with pytest.raises(WorkerDied):
        executor.submit(misbehave, KILL).result(30)


def test_limits_of_calls_among_many(tmp_path):
    """Each call of an executor has its own limits, in any order."""
    with ProcessPoolExecutor(2, procession.get_context("fork")) as executor:
        gate = str(tmp_path / "gate")
        waiting = executor.submit(tasks.wait_for, gate)
        futures = []
        for number in range(50):
            calls = executor.options(timeout=30 + number, retries=number % 3)
            futures.append(calls.submit(misbehave, number % 10))
        assert [future.result(30) for future in futures] == [number % 10 for number in range(50)]
        late = executor.options(timeout=0.3).submit(misbehave, HANG)
        assert isinstance(late.exception(30), TaskTimeout)
        assert not waiting.done()
        open(gate, "w").close()
        assert waiting.result(30) == gate


def test_an_event_loop_takes_it():
    async def main(executor):
        return await asyncio.get_running_loop().run_in_executor(executor, abs, -3)

    with ProcessPoolExecutor(1, procession.get_context("fork")) as executor:
        with executor.options(timeout=30) as calls:
            assert asyncio.run(main(calls)) == 3
        assert executor.submit(abs, -4).result(20) == 4, "it was not shut down"


def test_the_name_in_errors(tmp_path):
    with procession.get_context("fork").Pool(1) as pool:
        calls = pool.options(name="load")
        with pytest.raises(WorkerDied, match=r"during task 1 of load over 10"):
            calls.map(misbehave, [1, KILL], chunksize=1)
        held = pool.apply_async(tasks.wait_for, (str(tmp_path / "never"),))
        until(lambda: pool.stats().running == 1)
        waiting = calls.apply_async(abs, (1,))
        assert waiting.cancel()
        with pytest.raises(procession.TaskCancelled, match="task 0 of load was cancelled"):
            waiting.get(20)
        held.cancel()


def test_callbacks_and_the_end_of_the_pool():
    with procession.get_context("fork").Pool(1) as pool:
        kept = pool.options(retries=1)
        failed = []
        result = kept.apply_async(misbehave, (KILL,), error_callback=failed.append)
        result.wait(30)
        assert isinstance(failed[0], WorkerDied)
    with pytest.raises(ValueError, match="not running"):
        kept.apply(abs, (1,))


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": float("inf")}, {"retries": -1}])
def test_they_are_checked(wrong):
    with procession.get_context("fork").Pool(1) as pool, pytest.raises(ValueError):
        pool.options(**wrong)
    with ProcessPoolExecutor(1) as executor, pytest.raises(ValueError):
        executor.options(**wrong)
    with ProcessPoolExecutor(1) as executor, pytest.raises(TypeError, match="name"):
        executor.options(name=7)


def test_threads_and_own_queues_have_none():
    class WithQueues(procession.pool.Pool):
        def _setup_queues(self):
            super()._setup_queues()

    with ThreadPool(1) as pool, pytest.raises(NotImplementedError):
        pool.options(timeout=1)
    fork = procession.get_context("fork")
    with WithQueues(1, context=fork) as pool, pytest.raises(ValueError, match="takes none"):
        pool.options(timeout=1)


class Named(procession.pool.Pool):
    def __init__(self, name, *args, **kwds):
        self.name = name
        super().__init__(*args, **kwds)


def test_a_subclass_may_have_a_name_of_its_own(ctx):
    with Named("mine", 1, context=ctx) as pool:
        assert pool.name == "mine" and pool.apply(abs, (-1,)) == 1
        pool.name = "other"
        assert pool.name == "other"
    with ctx.Pool(1, name="given") as pool:
        assert pool.name == "given"
