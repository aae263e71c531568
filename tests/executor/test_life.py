"""How `ProcessPoolExecutor` begins and ends: arguments, workers, shutdown, forking.

The calls are tested in test_calls.py.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
from concurrent.futures.process import BrokenProcessPool

import pytest

import procession
from procession import ProcessPoolExecutor
from tests.pool.tasks import fail_on_three, square, touch, wait_for
from tests.waiting import until


def pid(_=None):
    return os.getpid()


def remember(value):
    global remembered
    remembered = value


def recall():
    return remembered


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": 1.5}, TypeError),
    ],
)
def test_refused_arguments(arguments, error):
    with pytest.raises(error):
        ProcessPoolExecutor(**arguments)


def test_initializer(ctx):
    with ProcessPoolExecutor(2, ctx, remember, ("it",)) as executor:
        assert executor.submit(recall).result(20) == "it"


def initialize_badly():
    raise OSError("no disk")


def test_initializer_that_raises(ctx):
    with ProcessPoolExecutor(1, ctx, initialize_badly) as executor:
        with pytest.raises(BrokenProcessPool, match="no disk") as caught:
            executor.submit(square, 1).result(30)
        assert isinstance(caught.value, procession.BrokenPool)
        with pytest.raises(BrokenProcessPool, match="no disk"):
            executor.submit(square, 1)


def test_max_tasks_per_child(ctx):
    with ProcessPoolExecutor(1, ctx, max_tasks_per_child=2) as executor:
        pids = [executor.submit(pid).result(20) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert ProcessPoolExecutor(max_tasks_per_child=2)._mp_context.get_start_method() == "spawn"


def test_the_contexts_of_the_standard_library():
    import multiprocessing

    executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    assert executor._mp_context is procession.get_context("spawn")


def test_shutdown_waits(ctx):
    executor = ProcessPoolExecutor(2, ctx)
    futures = [executor.submit(square, x) for x in range(100)]
    results = executor.map(square, range(10))
    processes = executor._engine.pool._pool
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert list(processes) == []
    assert list(results) == [x * x for x in range(10)]
    for call in (lambda: executor.submit(square, 1), lambda: executor.map(square, [1])):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call()
    executor.shutdown()


def test_shutdown_without_waiting(ctx):
    executor = ProcessPoolExecutor(2, ctx)
    futures = [executor.submit(square, x) for x in range(100)]
    executor.shutdown(wait=False)
    assert [future.result(20) for future in futures] == [x * x for x in range(100)]


def test_shutdown_ends_a_buffered_map(ctx):
    executor = ProcessPoolExecutor(1, ctx)
    results = executor.map(square, itertools.count(), buffersize=2)
    whole = executor.map(square, range(3), buffersize=3)
    assert next(results) == 0
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(results)
    assert list(whole) == [0, 1, 4]


def test_dropped_without_shutdown(ctx):
    executor = ProcessPoolExecutor(2, ctx)
    future = executor.submit(square, 3)
    engine = executor._engine
    del executor
    gc.collect()
    engine.thread.join(20)
    assert not engine.thread.is_alive()
    assert future.result(0) == 9
    assert list(engine.pool._pool) == []


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_ending_the_workers(ctx, end, tmp_path):
    executor = ProcessPoolExecutor(1, ctx)
    running, waiting = (executor.submit(wait_for, str(tmp_path / "never")) for _ in range(2))
    until(running.running)
    processes = list(executor._processes.values())
    getattr(executor, end)()
    with pytest.raises(BrokenProcessPool):
        running.result(20)
    assert waiting.cancelled()
    for process in processes:
        process.join(20)
        assert process.exitcode is not None
    with pytest.raises(RuntimeError):
        executor.submit(square, 1)


def test_the_rest_of_a_map_is_dropped_with_its_iterator(ctx, tmp_path):
    with ProcessPoolExecutor(1, ctx) as executor:
        held = executor.submit(wait_for, str(tmp_path / "flag"))
        results = executor.map(touch, [str(tmp_path / "begun")])
        results.close()  # not begun: the tasks are still done, as in any map with unread results
        results = executor.map(fail_on_three, [3, 1])
        rest = executor.map(touch, [str(tmp_path / "first"), str(tmp_path / "second")])
        (tmp_path / "flag").touch()
        assert held.result(20)
        assert list(rest) == [None, None]
        with pytest.raises(KeyError):
            next(results)


def test_workers_start_as_they_are_needed():
    context = procession.get_context("forkserver")
    with ProcessPoolExecutor(4, context) as executor:
        for x in range(3):
            assert executor.submit(square, x).result(20) == x * x
        assert len(executor._processes) == 1
        assert (
            sum(future.result(20) for future in [executor.submit(square, 1) for _ in range(20)])
            == 20
        )
        assert len(executor._processes) == 4
    with ProcessPoolExecutor(4, procession.get_context("fork")) as executor:
        executor.submit(square, 1)
        assert len(executor._processes) == 4


def test_the_pools_options(ctx, tmp_path):
    path = tmp_path / "exits"
    with ProcessPoolExecutor(
        1, ctx, task_timeout=1, worker_exit=functools.partial(touch, str(path))
    ) as executor:
        with pytest.raises(procession.TaskTimeout):
            executor.submit(wait_for, str(tmp_path / "never")).result(20)
        with pytest.raises(procession.TaskTimeout):
            list(executor.map(wait_for, [str(tmp_path / "never")]))
        assert executor.submit(square, 3).result(20) == 9
    assert path.exists()
    with pytest.raises(ValueError):
        ProcessPoolExecutor(task_timeout=-1)
    with pytest.raises(TypeError):
        ProcessPoolExecutor(no_such_option=1)


def die_at_first(folder, x):
    try:
        touch(f"{folder}/{x}")
    except FileExistsError:
        return x
    os._exit(1)


def test_retries(ctx, tmp_path):
    with ProcessPoolExecutor(2, ctx, retries=1) as executor:
        assert executor.submit(die_at_first, str(tmp_path), 1).result(20) == 1
        tasks = itertools.repeat(str(tmp_path)), [2, 3, 4]
        assert list(executor.map(die_at_first, *tasks)) == [2, 3, 4]
    (tmp_path / "1").unlink()
    with ProcessPoolExecutor(1, ctx) as executor, pytest.raises(BrokenProcessPool) as caught:
        executor.submit(die_at_first, str(tmp_path), 1).result(20)
    assert isinstance(caught.value, procession.WorkerDied)
    assert caught.value.exitcode == 1
    assert "die_at_first" in caught.value.task


def test_stats_and_resize(ctx):
    with ProcessPoolExecutor(1, ctx) as executor:
        assert list(executor.map(square, range(10))) == [x * x for x in range(10)]
        stats = executor.stats()
        assert (stats.done, stats.queued, stats.running) == (10, 0, 0)
        assert [worker.tasks for worker in stats.workers] == [10]
        executor.resize(3)
        assert len(executor._processes) == 3
        assert list(executor.map(square, range(10))) == [x * x for x in range(10)]


def test_interrupted_with_block(ctx, tmp_path):
    """The first Ctrl-C ends it: it does not wait for the tasks."""
    with pytest.raises(KeyboardInterrupt), ProcessPoolExecutor(1, ctx) as executor:
        running = executor.submit(wait_for, str(tmp_path / "never"))
        until(running.running)
        raise KeyboardInterrupt
    assert isinstance(running.exception(0), BrokenProcessPool)


AT_EXIT = """
import atexit, sys
import procession

def task(x):
    return x

def late():
    try:
        executor.submit(task, 1)
    except RuntimeError as error:
        print(error)

if __name__ == "__main__":
    atexit.register(late)
    executor = procession.ProcessPoolExecutor(2, procession.get_context(sys.argv[1]))
    executor.submit(task, 5).add_done_callback(lambda future: print("called with", future.result()))
"""


def test_interpreter_end(run_program, method):
    """The interpreter ends only after all submitted calls are done."""
    run = run_program(AT_EXIT, method)
    assert (run.stdout, run.stderr) == (
        "called with 5\ncannot schedule new futures after interpreter shutdown\n",
        "",
    )


def test_many_submits_in_bounded_memory():
    """A million calls."""
    executor = ProcessPoolExecutor(2)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def submit(number):
        last = None
        for x in range(number):
            last = executor.submit(abs, x)
        assert last.result(60) == number - 1

    with executor:
        submit(20_000)
        before = resident()
        for _ in range(49):
            submit(20_000)
        assert resident() - before < 40_000_000


def use_inherited(pipe, executor):
    try:
        executor.submit(square, 1)
    except RuntimeError as error:
        pipe.send(str(error))


def test_use_from_a_forked_child():
    context = procession.get_context("fork")
    with ProcessPoolExecutor(1, context) as executor:
        executor.submit(square, 1).result(20)
        ours, theirs = context.Pipe()
        child = context.Process(target=use_inherited, args=(theirs, executor))
        child.start()
        assert ours.poll(20)
        assert f"belongs to process {os.getpid()}" in ours.recv()
        child.join(20)
        assert child.exitcode == 0
        assert executor.submit(square, 3).result(20) == 9


@pytest.mark.parametrize("options", [{"buffersize": 2}, {"buffersize": 1, "chunksize": 3}])
def test_a_map_that_still_queues_tasks_keeps_its_executor(options):
    def results():
        executor = ProcessPoolExecutor(2, procession.get_context("fork"))
        return executor.map(square, range(10), **options)

    iterator = results()
    gc.collect()
    assert list(iterator) == [number * number for number in range(10)]
