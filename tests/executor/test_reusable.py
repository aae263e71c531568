"""`get_reusable_executor`, and idle workers that leave."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

import procession
from procession import ProcessPoolExecutor, get_reusable_executor
from procession._executor import reusable
from tests.pool.shapes import workers_without_main
from tests.pool.tasks import fail_to_start, meet, square, wait_for
from tests.waiting import is_asleep, until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def no_executor_is_left():
    with workers_without_main():
        yield
    if reusable._made is not None:
        reusable._made[0].kill_workers()
        reusable._made[0].shutdown()
        reusable._made = None


def workers_of(executor):
    return list(executor._engine.pool._pool)


def test_it_is_one_and_resizes(ctx, tmp_path):
    one = get_reusable_executor(2, ctx)
    assert len(set(one.map(meet, [str(tmp_path)] * 2, [2] * 2))) == 2
    assert get_reusable_executor(1, ctx) is one
    until(lambda: len(workers_of(one)) == 1)
    assert get_reusable_executor(3, ctx) is one
    folder = tmp_path / "three"
    folder.mkdir()
    assert len(set(one.map(meet, [str(folder)] * 3, [3] * 3))) == 3
    assert get_reusable_executor(reuse=True) is one and one._max_workers == 3


def test_other_arguments_make_another(tmp_path):
    fork = procession.get_context("fork")
    one = get_reusable_executor(1, fork)
    last = one.submit(wait_for, str(tmp_path / "gate"))
    assert get_reusable_executor(1, fork, reuse=True, timeout=3) is one
    two = get_reusable_executor(1, fork, timeout=3)
    assert two is not one and two.submit(square, 3).result(20) == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        one.submit(square, 1)
    (tmp_path / "gate").touch()
    assert last.result(20), "the calls that it has are done"
    three = get_reusable_executor(1, fork, timeout=3, reuse=False)
    assert three is not two
    running = three.submit(wait_for, str(tmp_path / "never"))
    until(running.running)
    get_reusable_executor(1, fork, timeout=4, kill_workers=True)
    assert isinstance(running.exception(20), procession.BrokenPool)
    with pytest.raises(ValueError, match="reuse"):
        get_reusable_executor(reuse="perhaps")


def test_after_a_death_a_break_and_a_shutdown(ctx):
    one = get_reusable_executor(1, ctx)
    assert isinstance(one.submit(os._exit, 3).exception(30), procession.WorkerDied)
    assert get_reusable_executor(1, ctx) is one and one.submit(square, 2).result(30) == 4
    broken = get_reusable_executor(1, ctx, initializer=fail_to_start, initargs=("no",))
    assert isinstance(broken.submit(square, 2).exception(30), procession.BrokenPool)
    until(lambda: broken._broken)
    two = get_reusable_executor(1, ctx, initializer=fail_to_start, initargs=("no",))
    assert two is not broken
    three = get_reusable_executor(1, ctx)
    with three:
        assert three.submit(square, 3).result(30) == 9
    four = get_reusable_executor(1, ctx)
    assert four is not three and four.submit(square, 4).result(30) == 16


def test_many_threads_get_the_same():
    got = []
    barrier = threading.Barrier(8)

    def get():
        barrier.wait(20)
        got.append(get_reusable_executor(2, procession.get_context("fork")))
        got[-1].submit(square, 2).result(30)

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert len(got) == 8 and len({id(one) for one in got}) == 1


def test_a_forked_child_has_its_own(alone):
    ours = get_reusable_executor(1, procession.get_context("fork"))
    assert ours.submit(square, 2).result(20) == 4

    def in_child():
        theirs = get_reusable_executor(1, procession.get_context("fork"))
        assert theirs is not ours
        assert theirs.submit(square, 3).result(20) == 9

    alone(in_child)
    assert ours.submit(square, 4).result(20) == 16


def test_idle_workers_leave_and_come_again(ctx, tmp_path):
    with ProcessPoolExecutor(2, ctx, idle_timeout=0.2) as executor:
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            assert len(set(executor.map(meet, [str(folder)] * 2, [2] * 2))) == 2
            until(lambda: not workers_of(executor))
        assert executor.submit(square, 3).result(30) == 9


def test_a_busy_worker_stays(tmp_path):
    with ProcessPoolExecutor(2, procession.get_context("fork"), idle_timeout=0.1) as executor:
        running = executor.submit(wait_for, str(tmp_path / "gate"))
        until(lambda: len(workers_of(executor)) == 1)
        assert running.running()
        (tmp_path / "gate").touch()
        assert running.result(20)
        until(lambda: not workers_of(executor))


def test_a_map_whose_results_are_taken_slowly(tmp_path):
    """Workers that left while a result waited come again for the rest."""
    with ProcessPoolExecutor(2, procession.get_context("fork"), idle_timeout=0.05) as executor:
        results = executor.map(square, range(6), buffersize=2)
        for number in range(6):
            assert next(results) == number * number
            if number < 3:
                until(lambda: not workers_of(executor))


def test_calls_while_workers_leave():
    """No call is lost, whenever its worker leaves."""
    with ProcessPoolExecutor(2, procession.get_context("fork"), idle_timeout=0.002) as executor:
        for number in range(150):
            assert executor.submit(square, number).result(30) == number * number
            time.sleep(number % 7 * 0.001)  # not synchronisation: any time between two calls
        assert list(executor.map(square, range(3000), chunksize=7)) == [x * x for x in range(3000)]


def test_a_killed_idle_worker_and_an_end_without_workers():
    executor = ProcessPoolExecutor(1, procession.get_context("fork"), idle_timeout=0.2)
    assert executor.submit(square, 1).result(20) == 1
    os.kill(workers_of(executor)[0].pid, signal.SIGKILL)
    assert executor.submit(square, 2).result(20) == 4
    until(lambda: not workers_of(executor))
    executor.shutdown()
    with pytest.raises(ValueError, match="idle_timeout"):
        ProcessPoolExecutor(1, idle_timeout=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda executor: executor.submit(square, 3).result(30),
        lambda executor: next(executor.map(square, [3])),
    ],
)
def test_a_shutdown_while_a_call_has_no_worker_yet(call):
    executor = ProcessPoolExecutor(1, procession.get_context("fork"), idle_timeout=0.05)
    executor.submit(square, 1).result(20)
    until(lambda: not workers_of(executor))
    engine = executor._engine
    grow = engine.grow

    def grow_late(wanted):
        executor.shutdown(wait=False)
        return grow(wanted)

    engine.grow = grow_late
    assert call(executor) == 9
    executor.shutdown()
    assert not workers_of(executor)


def test_a_worker_that_dies_while_it_leaves(tmp_path):
    """Its call is tried again, by a worker that starts for it."""
    executor = ProcessPoolExecutor(1, procession.get_context("fork"), idle_timeout=100, retries=1)
    with executor:
        future = executor.submit(wait_for, str(tmp_path / "gate"))
        until(future.running)
        (worker,) = workers_of(executor)
        executor._engine.let_go([worker])
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: [process.pid for process in workers_of(executor)] != [worker.pid])
        (tmp_path / "gate").touch()
        assert future.result(30) == str(tmp_path / "gate")
        assert executor.submit(square, 5).result(30) == 25


def test_an_interrupt_while_the_first_worker_starts_again(monkeypatch):
    """The call that was interrupted needs no second one to be run, and later ones are run too."""
    context = procession.get_context("fork")
    with ProcessPoolExecutor(1, context, idle_timeout=0.05) as executor:
        assert executor.submit(square, 1).result(30) == 1
        until(lambda: not workers_of(executor))
        start, interrupted = context.Process.start, []

        def interrupt(process):
            # The pool's own thread may start a worker, too.
            if not interrupted and threading.current_thread() is threading.main_thread():
                interrupted.append(process)
                raise KeyboardInterrupt
            start(process)

        monkeypatch.setattr(context.Process, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(square, 2)
        until(lambda: executor.stats().done == 2)
        assert executor.submit(square, 3).result(30) == 9
        until(lambda: not workers_of(executor))


def test_a_call_beside_a_running_map_starts_a_worker(tmp_path):
    with ProcessPoolExecutor(2, procession.get_context("fork"), idle_timeout=0.05) as executor:
        results = executor.map(wait_for, [str(tmp_path / "gate")])
        until(lambda: len(workers_of(executor)) == 1 and executor.stats().running == 1)
        assert executor.submit(square, 3).result(30) == 9
        until(lambda: len(workers_of(executor)) == 1)
        assert list(executor.map(square, [4])) == [16]
        (tmp_path / "gate").touch()
        assert list(results) == [str(tmp_path / "gate")]


def test_a_map_with_one_long_item_starts_workers_again(tmp_path):
    """The items after it are done although only its worker was left."""
    gate, after = str(tmp_path / "gate"), tmp_path / "after"
    with ProcessPoolExecutor(2, procession.get_context("fork"), idle_timeout=0.05) as executor:
        items = [(square, 2), (wait_for, gate), (os.mkdir, str(after))]
        results = executor.map(call, items, buffersize=2)
        until(lambda: len(workers_of(executor)) == 1 and executor.stats().running == 1)
        assert next(results) == 4
        until(after.exists)
        (tmp_path / "gate").touch()
        assert list(results) == [gate, None]


def call(item):
    function, argument = item
    return function(argument)


@pytest.mark.parametrize("seconds", [float("inf"), 1e10])
def test_idle_workers_may_stay_for_ever(seconds, monkeypatch):
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    with ProcessPoolExecutor(1, procession.get_context("fork"), idle_timeout=seconds) as executor:
        assert executor.submit(square, 3).result(30) == 9
        waiting = [one for one in threading.enumerate() if one.name == "ExecutorIdle"]
        until(lambda: failed or all(map(is_asleep, waiting)))
        assert waiting and all(one.is_alive() for one in waiting)
    assert not failed


PROGRAM = """
import procession

def main():
    executor = procession.get_reusable_executor(2, procession.get_context("{method}"), timeout={timeout})
    print(list(executor.map(abs, range(-3, 0))))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("timeout", [None, 100])
def test_the_interpreter_ends_with_it(run_program, method, timeout):
    done = run_program(PROGRAM.format(method=method, timeout=timeout))
    assert (done.stdout, done.stderr, done.returncode) == ("[3, 2, 1]\n", "", 0)
