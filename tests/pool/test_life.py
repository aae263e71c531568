"""How a pool begins and ends: its workers, close, terminate, join, and collection.

The calls are tested in test_calls.py, and ends of the whole program in test_exits.py.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import weakref

import pytest

import procession
from procession.pool import Pool, ThreadPool
from tests.conftest import METHODS
from tests.pool.tasks import square, wait_for


def multiply(x, y=10):
    return x * y


def pid(_):
    return os.getpid()


def process_name(_):
    current = procession.current_process()
    return current.name, current.daemon


def remember(value):
    global remembered
    remembered = value


def recall(_):
    return remembered


@pytest.fixture
def gate(tmp_path):
    """A file that does not exist yet: `wait_for` of its name returns once it does."""
    return tmp_path / "gate"


@pytest.mark.parametrize("processes", [0, -1])
def test_number_of_processes(processes):
    for kind in (Pool, ThreadPool):
        with pytest.raises(ValueError, match=r"^Number of processes must be at least 1$"):
            kind(processes)


@pytest.mark.parametrize("value", [0, -1, 0.5, "12"])
def test_maxtasksperchild_is_checked(value):
    with pytest.raises(ValueError, match=r"^maxtasksperchild must be a positive int or None$"):
        Pool(3, maxtasksperchild=value)


def test_initializer_is_checked():
    with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
        Pool(1, initializer=1)


def test_default_size():
    with Pool() as pool:
        assert pool._processes == len(pool._pool) == len(os.sched_getaffinity(0))


def test_workers(ctx):
    with ctx.Pool(2, remember, ("kept",)) as pool:
        assert pool.map(recall, range(4), 1) == ["kept"] * 4
        kind = ctx.get_start_method()
        prefix = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[kind]
        names = {process.name for process in pool._pool}
        for name, daemon in pool.map(process_name, range(8), 1):
            assert name in names
            assert name.startswith(f"{prefix}PoolWorker-")
            assert daemon
        assert set(pool.map(pid, range(20), 1)) <= {process.pid for process in pool._pool}
        assert repr(pool) == "<procession.pool.Pool state=RUN pool_size=2>"


def test_close_finishes_the_old_and_refuses_new_work(ctx, gate):
    pool = ctx.Pool(2)
    slow = pool.map_async(wait_for, [str(gate)] * 6, 1)
    lazy = pool.imap(square, (x for x in range(100)))
    pool.close()
    for use in (
        lambda: pool.apply(square, (1,)),
        lambda: pool.map(square, [1]),
        lambda: pool.imap(square, [1]),
        lambda: pool.imap_unordered(square, [1], 2),
        lambda: pool.starmap_async(multiply, [(1, 2)]),
        pool.__enter__,
    ):
        with pytest.raises(ValueError, match=r"^Pool not running$"):
            use()
    gate.touch()
    pool.join()
    assert all(process.exitcode == 0 for process in pool._pool)
    assert slow.get(0) == [str(gate)] * 6
    assert list(lazy) == [x * x for x in range(100)]


def test_join_needs_close():
    with Pool(1) as pool, pytest.raises(ValueError, match=r"^Pool is still running$"):
        pool.join()
    pool.join()


def test_terminate_stops_at_once(ctx, gate):
    pool = ctx.Pool(2)
    pool.map(square, range(2))  # the workers have started
    result = pool.map_async(wait_for, [str(gate)] * 10_000, 1)
    workers = list(pool._pool)
    pool.terminate()
    pool.join()
    assert all(not process.is_alive() for process in workers)
    with pytest.raises(procession.ProcessError, match="terminated"):
        result.get(10)


def test_with_block_terminates(ctx):
    with ctx.Pool(2) as pool:
        result = pool.map_async(square, range(10))
        assert result.get(30) == [x * x for x in range(10)]
    pool.join()
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass


def test_collected_pool_ends_its_workers(ctx):
    pool = ctx.Pool(2)
    workers = list(pool._pool)
    assert pool.map(square, [1, 2]) == [1, 4]
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
        gc.collect()
    for process in workers:
        process.join(10)
        assert process.exitcode is not None


def test_a_result_keeps_its_pool(gate):
    result = Pool(1).apply_async(wait_for, (str(gate),))
    gc.collect()
    # The last reference to the pool goes with the result.
    with pytest.warns(ResourceWarning):
        gate.touch()
        assert result.get(30) == str(gate)
        del result
        gc.collect()


def test_maxtasksperchild(ctx):
    with ctx.Pool(2, maxtasksperchild=5) as pool:
        pids = pool.map(pid, range(40), 1)
        assert len(set(pids)) >= 8
        assert max(pids.count(one) for one in pids) <= 5


LINES = """
    import procession, sys

    def talk(n):
        print(f"line {n}")
        return n

    def run():
        pool = procession.get_context(sys.argv[1]).Pool(3)
        assert pool.map(talk, range(60), 1) == list(range(60))
        if sys.argv[2] == "terminate":
            pool.terminate()

    if __name__ == "__main__":
        run()
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("end", ["terminate", "leave"])
def test_what_tasks_printed_arrives(tmp_path, method, end):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(LINES))
    command = [sys.executable, "-W", "ignore", str(program), method, end]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.splitlines()) == sorted(f"line {n}" for n in range(60))
    assert run.stderr == ""


class Unwilling:
    def __reduce__(self):
        raise RuntimeError("not me")


def test_a_pool_that_was_given_what_cannot_travel_is_collected():
    pool = procession.get_context("fork").Pool(2)
    with pytest.raises(RuntimeError, match="not me"):
        pool.map(abs, [Unwilling() for _ in range(10)])
    pool.terminate()
    pool.join()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
