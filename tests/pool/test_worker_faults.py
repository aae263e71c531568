"""A worker that dies, at any moment, costs only the task that it ran.

That call fails, and the pool goes on.
"""

from __future__ import annotations

import os
import signal

import pytest

import procession
from procession.pool import RemoteTraceback
from tests.pool import tasks
from tests.pool.shapes import BIG, Pool, assert_serves
from tests.waiting import read_once_there

pytestmark = pytest.mark.timeout(60)


def died(call, exitcode):
    with pytest.raises(procession.WorkerDied) as caught:
        call(20)
    assert caught.value.exitcode == exitcode
    assert caught.value.signal == (-exitcode if exitcode < 0 else None)
    assert str(caught.value.pid) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("function", "argument", "exitcode"),
    [
        (tasks.kill_self, None, -signal.SIGKILL),
        (tasks.segfault, None, -signal.SIGSEGV),
        (tasks.exit_at_once, 3, 3),
        (tasks.exit_at_once, 0, 0),
    ],
)
def test_a_task_that_ends_its_worker(survivor, capfd, function, argument, exitcode):
    error = died(survivor.call(function, argument), exitcode)
    assert function.__name__ in error.task
    assert "Fatal Python error" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("function", "argument", "kind", "exitcode"),
    [(tasks.exit_politely, 4, SystemExit, 4), (tasks.interrupt, None, KeyboardInterrupt, 1)],
)
def test_a_task_that_exits(survivor, capfd, function, argument, kind, exitcode):
    """Each shape does what the standard library's does; a pool's caller also learns of it."""
    if isinstance(survivor, Pool):
        error = died(survivor.call(function, argument), exitcode)
        assert function.__name__ in error.task
    else:
        survivor.call(tasks.square, 2)(20)
        workers = [process.pid for process in survivor.pool._pool]
        with pytest.raises(kind) as caught:
            survivor.call(function, argument)(20)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert getattr(caught.value, "code", None) == argument
        with pytest.raises(kind):
            survivor.map(function, [argument])
        results = survivor.face.map(function, [argument] * 3, chunksize=3, return_exceptions=True)
        assert [type(error) for error in results] == [kind] * 3
        # It may have started its second worker since.
        assert [process.pid for process in survivor.pool._pool][: len(workers)] == workers
    assert capfd.readouterr().err == ""


def test_a_child_of_a_task_that_exits(survivor):
    """Its exit is its own, and no result of the task."""
    assert survivor.call(tasks.fork_and_exit, 7)(20) == 7


def test_the_others_go_on(survivor):
    outcomes = [survivor.call(tasks.die_on_three, x) for x in range(8)]
    died(outcomes.pop(3), -signal.SIGKILL)
    assert [outcome(20) for outcome in outcomes] == [0, 1, 2, 4, 5, 6, 7]
    with pytest.raises(procession.WorkerDied, match="task 3 of die_on_three"):
        survivor.map(tasks.die_on_three, range(8))


def test_killed_while_idle(survivor):
    assert_serves(survivor)
    survivor.pool._pool[0].kill()
    assert survivor.map(tasks.square, range(50)) == [x * x for x in range(50)]


def test_killed_while_it_waits_in_a_task(survivor, tmp_path):
    call = survivor.call(tasks.say_and_wait, str(tmp_path))
    pid = int(read_once_there(tmp_path / "pid"))
    os.kill(pid, signal.SIGTERM)
    assert died(call, -signal.SIGTERM).pid == pid


def test_killed_while_taking_a_task(survivor):
    error = died(survivor.call(tasks.square, tasks.KillsWhoLoadsIt()), -signal.SIGKILL)
    assert "square" in error.task


def test_killed_while_writing_a_result(survivor):
    error = died(survivor.call(tasks.return_what_kills), -signal.SIGKILL)
    assert "return_what_kills" in error.task


def test_killed_while_starting(opening):
    with opening() as pool:
        for process in list(pool.pool._pool):
            process.kill()
        assert_serves(pool)


def test_killed_during_its_initializer(opening, tmp_path):
    with opening(2, tasks.die_once, (str(tmp_path / "flag"),)) as pool:
        assert_serves(pool)


def test_out_of_memory(survivor):
    with pytest.raises(MemoryError):
        survivor.call(tasks.run_out_of_memory)(20)


def test_all_killed_at_once(opening):
    """Kill them a hundred times.

    Fewer times suffice where a new worker is a new interpreter or on another node, without
    PROCESSION_BIG_TESTS.
    """
    rounds = 100 if BIG or opening.method not in ("spawn", "ray") else 10
    with opening() as pool:
        for _ in range(rounds):
            assert pool.map(tasks.square, [1, 2, 3]) == [1, 4, 9]
            for process in list(pool.pool._pool):
                process.kill()  # one that ended and was reaped is left alone
        assert_serves(pool)


def test_stopped_for_ever(opening):
    with opening(1, task_timeout=1) as pool:
        with pytest.raises(procession.TaskTimeout, match="stop_self"):
            pool.call(tasks.stop_self)(20)
        assert_serves(pool)
