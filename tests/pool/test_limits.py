"""What a pool offers beyond the standard library.

These are limits on time and memory, cancelling, retries, resizing and figures.
"""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import threading
import time

import pytest

import procession
from tests.pool.tasks import meet, square, wait_for
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)


def sleep(seconds):
    """Take real time, for the tests of limits and figures of time."""
    time.sleep(seconds)
    return seconds


def hang_on_three(x):
    if x == 3:
        time.sleep(600)  # without end
    return x


def stop_on_three(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return x


def ignore_sigterm_on_three(x):
    if x == 3:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    return x


def outcomes(results, count):
    ends = []
    for _ in range(count):
        try:
            ends.append(results.next(20))
        except procession.ProcessError as error:
            ends.append(type(error))
    return ends


@pytest.mark.parametrize("function", [hang_on_three, stop_on_three, ignore_sigterm_on_three])
def test_a_task_that_takes_too_long_fails_alone(ctx, function):
    with ctx.Pool(2, task_timeout=1) as pool:
        expected = [0, 1, 2, procession.TaskTimeout, 4, 5, 6, 7]
        assert outcomes(pool.imap(function, range(8)), 8) == expected
        assert pool.map_async(square, range(20), 1).get(20) == [x * x for x in range(20)]


def test_a_timeout_says_what_was_stopped():
    with procession.get_context("fork").Pool(1, task_timeout=0.5) as pool:
        pid = pool._pool[0].pid
        with pytest.raises(procession.TaskTimeout) as caught:
            pool.apply(hang_on_three, (3,))
    error = caught.value
    assert isinstance(error, TimeoutError) and isinstance(error, procession.ProcessError)
    assert (error.pid, error.timeout, error.task) == (pid, 0.5, "task 0 of hang_on_three(3)")
    assert "in hang_on_three" in error.stack
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.__dict__) == (str(error), error.__dict__)


def test_each_item_of_a_chunk_has_its_time():
    fork = procession.get_context("fork")
    with fork.Pool(1, task_timeout=2) as pool:
        assert pool.map(sleep, [0.6] * 4, 4) == [0.6] * 4
    with fork.Pool(1, task_timeout=0.5) as pool:
        with pytest.raises(procession.TaskTimeout, match=r"over 0, 1, 2, \.\.\."):
            pool.map(hang_on_three, range(6), 6)
        with pytest.raises(procession.TaskTimeout):
            pool.starmap(hang_on_three, [(n,) for n in range(6)], 6)


def test_time_in_the_queue_does_not_count():
    with procession.get_context("fork").Pool(1, task_timeout=2) as pool:
        results = [pool.apply_async(sleep, (0.6,)) for _ in range(4)]
        assert [result.get(20) for result in results] == [0.6] * 4


def test_cancel_before_it_begins(tmp_path):
    gate = tmp_path / "gate"
    with procession.get_context("fork").Pool(1) as pool:
        first = pool.apply_async(wait_for, (str(gate),))
        until(lambda: pool.stats().running == 1)
        failures = []
        one = pool.apply_async(square, (2,), error_callback=failures.append)
        many = pool.map_async(square, range(100))
        last = pool.apply_async(square, (3,))
        assert one.cancel() and many.cancel()
        assert not one.cancel()
        with pytest.raises(procession.TaskCancelled, match="task 0 of square was cancelled"):
            one.get(20)
        with pytest.raises(procession.TaskCancelled):
            many.get(20)
        assert [type(error) for error in failures] == [procession.TaskCancelled]
        gate.touch()
        assert (first.get(20), last.get(20)) == (str(gate), 9)
        assert not first.cancel(), "it has ended"


@pytest.mark.parametrize("function", [hang_on_three, stop_on_three])
def test_cancel_while_it_runs(ctx, function):
    with ctx.Pool(1) as pool:
        pid = pool._pool[0].pid
        result = pool.apply_async(function, (3,))
        behind = pool.apply_async(os.getpid)
        until(lambda: pool.stats().running == 1)
        assert result.cancel()
        with pytest.raises(procession.TaskCancelled):
            result.get(5)
        assert behind.get(20) != pid


def test_cancel_an_iterator():
    with procession.get_context("fork").Pool(1) as pool:
        results = pool.imap(hang_on_three, iter(range(10)))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert results.cancel()
        with pytest.raises(procession.TaskCancelled):
            results.next(20)
        assert pool.apply(square, (3,)) == 9


def die_unless_marked(path):
    with open(path, "a") as file:
        file.write(".")
    if os.path.getsize(path) < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def test_a_task_is_tried_again(ctx, tmp_path):
    path = str(tmp_path / "tries")
    with ctx.Pool(1, retries=2) as pool:
        assert pool.apply_async(die_unless_marked, (path,)).get(30) == "alive"
    os.unlink(path)
    with ctx.Pool(1, retries=1) as pool:
        with pytest.raises(procession.WorkerDied):
            pool.apply_async(die_unless_marked, (path,)).get(30)
        assert os.path.getsize(path) == 2


def die_once(path, array):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.kill(os.getpid(), signal.SIGKILL)
    except FileExistsError:
        pass
    return sum(array)


def test_large_arguments_are_there_for_another_try(tmp_path):
    arguments = (str(tmp_path / "flag"), pickle.PickleBuffer(bytes([1] * 100_000)))
    with procession.get_context("fork").Pool(1, retries=2) as pool:
        assert pool.starmap_async(die_once, [arguments]).get(20) == [100_000]


hoard = []


def keep(size):
    hoard.append(b"x" * size)
    return os.getpid()


def resident():
    """Return how many bytes of its own this process has resident; a child of fork begins with them."""
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def test_a_worker_that_has_grown_is_replaced(ctx):
    inherited = resident() if ctx.get_start_method() == "fork" else 0
    with ctx.Pool(1, max_rss=inherited + (200 << 20)) as pool:
        pids = [pool.apply(keep, (size,)) for size in [1, 1, 300 << 20, 1]]
    assert pids[0] == pids[1] == pids[2] != pids[3]


def write_pid(path):
    def write():
        with open(os.path.join(path, str(os.getpid())), "w"):
            pass

    return write


def test_a_function_run_at_a_workers_end(ctx, tmp_path):
    pool = ctx.Pool(2, maxtasksperchild=2, worker_exit=write_pid(str(tmp_path)))
    first = set(pool.map(keep, [1] * 8, 1))
    last = {process.pid for process in pool._pool}
    pool.close()
    pool.join()
    assert {int(name) for name in os.listdir(tmp_path)} >= first | last


def test_a_function_run_at_the_end_of_a_with_block(tmp_path):
    with procession.get_context("fork").Pool(2, worker_exit=write_pid(str(tmp_path))) as pool:
        pids = {process.pid for process in pool._pool}
        until(lambda: all(pool._core.is_ready(process._worker_index) for process in pool._pool))
    assert {int(name) for name in os.listdir(tmp_path)} == pids


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_endless_iterable(kind, chunksize):
    taken = 0

    def count():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with procession.get_context("fork").Pool(2) as pool:
        results = getattr(pool, kind)(square, count(), chunksize, buffersize=12)
        assert taken <= 12
        for done in range(1, 50):
            assert next(results) > 0
            assert taken <= done + 12 + chunksize
        with pytest.raises(ValueError, match="buffersize"):
            pool.imap(square, [1], buffersize=0)
        assert list(pool.imap(square, range(30), buffersize=4)) == [x * x for x in range(30)]


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_an_iterable_that_takes_results_itself(kind):
    inside = []

    def items():
        for number in range(30):
            if number >= 4:
                inside.append(next(results))
            yield number

    with procession.get_context("fork").Pool(2) as pool:
        results = getattr(pool, kind)(square, items(), buffersize=4)
        outside = list(results)
        assert sorted(inside + outside) == [x * x for x in range(30)]
        assert len(inside) == 26


@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_threads_that_take_one_result_each_of_few(kind):
    """Each waiting thread gets a result, although no later call makes the pool take items."""
    taken = []
    with procession.get_context("fork").Pool(2) as pool:
        results = getattr(pool, kind)(square, itertools.count(), buffersize=1)
        threads = [threading.Thread(target=lambda: taken.append(next(results))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(taken) == [x * x for x in range(8)]


def test_threads_share_the_results_of_chunks():
    taken = []
    with procession.get_context("fork").Pool(2) as pool:
        results = pool.imap(square, range(600), 5)
        threads = [threading.Thread(target=lambda: taken.extend(results)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(taken) == [x * x for x in range(600)]


def test_resize(ctx, tmp_path):
    with ctx.Pool(1) as pool:
        pool.resize(3)
        assert len(pool._pool) == 3
        until(lambda: all(pool._core.is_ready(process._worker_index) for process in pool._pool))
        folder = str(tmp_path)
        assert len(set(pool.starmap(meet, [(folder, 3)] * 3, 1))) == 3
        pool.resize(1)
        until(lambda: len(pool._pool) == 1)
        assert len(set(pool.starmap(meet, [(folder, 1)] * 10, 1))) == 1
        with pytest.raises(ValueError, match="at least 1"):
            pool.resize(0)


def test_resize_lets_tasks_end(tmp_path):
    gate = tmp_path / "gate"
    with procession.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(wait_for, (str(gate),)) for _ in range(2)]
        until(lambda: pool.stats().running == 2)
        pool.resize(1)
        gate.touch()
        assert [result.get(20) for result in results] == [str(gate)] * 2
        until(lambda: len(pool._pool) == 1)


def test_stats():
    with procession.get_context("fork").Pool(2) as pool:
        pool.map(sleep, [0.05] * 6, 1)
        hanging = [pool.apply_async(hang_on_three, (3,)) for _ in range(2)]
        waiting = [pool.apply_async(square, (1,)) for _ in range(5)]
        until(lambda: pool.stats().running == 2)
        stats = pool.stats()
        assert (stats.done, stats.queued, stats.running) == (6, 5, 2)
        assert {worker.pid for worker in stats.workers} == {process.pid for process in pool._pool}
        assert sum(worker.tasks for worker in stats.workers) == 6
        assert sum(worker.busy for worker in stats.workers) >= 0.3
        assert all(worker.received > 0 and worker.idle >= 0 for worker in stats.workers)
        assert all(
            worker.running and bool(worker.sent) == bool(worker.tasks) for worker in stats.workers
        )
        for result in hanging:
            result.cancel()
        assert [result.get(20) for result in waiting] == [1] * 5


def crash(_=None, *, why=None):
    signal.raise_signal(signal.SIGSEGV)


def test_a_crash_is_explained(ctx):
    with ctx.Pool(1) as pool:
        with pytest.raises(procession.WorkerDied) as caught:
            pool.apply_async(crash, (7,), {"why": "x" * 200}).get(20)
        error = caught.value
        assert error.task.startswith("task 0 of crash(7, why='xxxx")
        assert len(error.task) < 200
        assert "in crash" in error.stack and error.stack in str(error)
        assert not error.out_of_memory
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.__dict__) == (str(error), error.__dict__)
        with pytest.raises(procession.WorkerDied, match="task 0 of kill_self") as caught:
            pool.apply_async(kill_self).get(20)
        assert caught.value.stack is None, "not the one of the worker before"


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def test_want_of_memory_is_told(monkeypatch):
    from procession._pool.deaths import OutOfMemory

    with procession.get_context("fork").Pool(1) as pool:
        until(lambda: pool._pool_workers._out_of_memory is not None)
        monkeypatch.setattr(OutOfMemory, "happened", lambda self: True)
        with pytest.raises(procession.WorkerDied, match="SIGKILL, as memory ran out, during"):
            pool.apply(kill_self)


def test_the_kernels_counter_of_memory_is_read(tmp_path, monkeypatch):
    from procession._pool import deaths

    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 7\noom_kill 2\noom_group_kill 9\n")
    monkeypatch.setattr(deaths, "_counters", lambda: [str(counter)])
    watch = deaths.OutOfMemory()
    assert not watch.happened()
    counter.write_text("oom_kill 3\n")
    assert watch.happened() and not watch.happened()


@pytest.mark.parametrize(
    "options",
    [
        {"task_timeout": 0},
        {"task_timeout": float("nan")},
        {"retries": -1},
        {"max_rss": 0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(ValueError):
        procession.Pool(1, **options)
    with pytest.raises(TypeError):
        procession.Pool(1, worker_exit=7)
    with pytest.raises(TypeError):
        procession.Pool(1, no_such_option=7)


def test_threads_are_cancelled_before_they_begin():
    from procession.pool import ThreadPool

    with ThreadPool(1) as pool:
        gate = threading.Event()
        first, second = pool.apply_async(gate.wait), pool.apply_async(square, (2,))
        assert second.cancel()
        with pytest.raises(procession.TaskCancelled):
            second.get(20)
        gate.set()
        assert first.get(20)
        assert list(pool.imap(square, iter(range(9)), buffersize=2)) == [x * x for x in range(9)]


def shifted(array):
    return array + 1


def test_an_array_in_flight_is_one_copy():
    numpy = pytest.importorskip("numpy")
    from procession._procession import arena_fd

    def held():
        return os.fstat(arena_fd()).st_blocks * 512

    size = 8 << 20
    array = numpy.zeros(size // 8)
    with procession.get_context("fork").Pool(2) as pool:
        before = peak = held()
        count = 0
        for result in pool.imap(shifted, (array for _ in range(40)), buffersize=4):
            assert result[0] == 1 and len(result) == len(array)
            count += 1
            peak = max(peak, held())
    assert count == 40
    # Four under way, and the one that is checked. The engine keeps some freed memory for the next.
    assert peak - before <= 5 * size + (32 << 20)
