"""Whatever happens to a pool as a whole, no caller waits forever.

Each task ends with its result or with the reason why there is none.
"""

from __future__ import annotations

import os
import threading
import time

import pytest

import procession
from procession.pool import ThreadPool
from tests.pool import tasks
from tests.pool.shapes import BIG, assert_serves

pytestmark = pytest.mark.timeout(60)


def test_initializer_that_raises(opening, capfd):
    with opening(2, tasks.fail_to_start, ("no disk",)) as pool:
        with pytest.raises(procession.BrokenPool, match="no disk") as caught:
            pool.call(tasks.square, 1)(30)
        assert isinstance(caught.value.__cause__, OSError)
        assert "fail_to_start" in str(caught.value.__cause__.__cause__)
        with pytest.raises(procession.BrokenPool, match="no disk"):
            pool.map(tasks.square, [1])
    assert capfd.readouterr().err.count("OSError: no disk") <= 4


def test_initializer_that_kills(opening, tmp_path):
    """It is not tried more often than one that raises, because it alone caused the deaths."""
    with (
        opening(1, tasks.note_and_die, (str(tmp_path / "notes"),)) as pool,
        pytest.raises(procession.BrokenPool, match="exit code -9"),
    ):
        pool.call(tasks.square, 1)(50)
    assert (tmp_path / "notes").read_text() == "x" * 3


def test_worker_that_cannot_be_started():
    """The system cannot start a process: the others do the work, and later it is tried again."""
    with procession.Pool(2) as pool:
        start, failed = pool._pool_workers._start, []

        def fail_once(**kwds):
            if failed:
                return start(**kwds)
            failed.append(kwds)
            raise BlockingIOError("no room")

        pool._pool_workers._start = fail_once
        victim = pool._pool[0]
        victim.kill()
        victim.join(30)
        deadline = time.monotonic() + 30
        while not (failed and len(pool._pool) == 2) and time.monotonic() < deadline:
            assert pool.map_async(tasks.square, [1, 2, 3], 1).get(30) == [1, 4, 9]
        assert failed
        assert len(pool._pool) == 2


def test_callback_that_raises(opening, monkeypatch, caplog):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def bad(_):
        raise LookupError("from the callback")

    called = []
    with opening() as pool:
        if hasattr(pool.face, "apply_async"):
            first = pool.face.apply_async(tasks.square, (2,), callback=bad)
            second = pool.face.apply_async(tasks.square, (3,), callback=called.append)
            assert (first.get(20), second.get(20)) == (4, 9)
            assert [(args.exc_type, str(args.exc_value)) for args in reported] == [
                (LookupError, "from the callback")
            ]
        else:
            future = pool.face.submit(tasks.square, 2)
            future.add_done_callback(bad)
            assert future.result(20) == 4
            done = threading.Event()
            other = pool.face.submit(tasks.square, 3)
            other.add_done_callback(lambda future: called.append(future.result()))
            other.add_done_callback(lambda _: done.set())
            assert done.wait(20)
            # `concurrent.futures` logs it.
            assert ["LookupError" in record.exc_text for record in caplog.records] == [True]
        assert called == [9]
        assert_serves(pool)


ONE_TASK_EACH = """
import os, procession, sys

def task(x):
    return x * x, os.getpid()

if __name__ == "__main__":
    shape, method, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    context = procession.get_context(method)
    if shape == "Pool":
        with context.Pool(2, maxtasksperchild=1) as pool:
            results = pool.map(task, range(number), 1)
    else:
        with procession.ProcessPoolExecutor(2, context, max_tasks_per_child=1) as executor:
            results = list(executor.map(task, range(number)))
    assert [square for square, _ in results] == [x * x for x in range(number)]
    assert len({pid for _, pid in results}) == number
    print("done")
"""


@pytest.mark.parametrize(
    ("shape", "method", "number"),
    [
        ("Pool", "fork", 2000),
        ("Pool", "spawn", 30),
        ("Pool", "forkserver", 2000),
        ("ProcessPoolExecutor", "fork", 2000),
        ("ProcessPoolExecutor", "spawn", 10),
        ("ProcessPoolExecutor", "forkserver", 2000),
    ],
)
@pytest.mark.timeout(300)
def test_one_task_for_each_worker(run_program, shape, method, number):
    """In a small program, because the time goes into forking it, or into starting interpreters.

    With PROCESSION_BIG_TESTS 2,000 everywhere.
    """
    if BIG:
        number = 2000
    run = run_program(ONE_TASK_EACH, shape, method, str(number), timeout=280)
    assert (run.stdout, run.stderr, run.returncode) == ("done\n", "", 0)


def test_map_from_several_threads(opening):
    with opening() as pool:
        outcomes = {}

        def call(thread):
            outcomes[thread] = [
                pool.map(tasks.square, range(thread, thread + 50)) for _ in range(4)
            ]

        threads = [threading.Thread(target=call, args=(thread,)) for thread in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert outcomes == {
            thread: [[x * x for x in range(thread, thread + 50)]] * 4 for thread in range(6)
        }
        assert_serves(pool)


def use_inherited(pipe, pool):
    for use in (lambda: pool.map(tasks.square, [1]), lambda: pool.call(tasks.square, 1)(5)):
        try:
            use()
        except (ValueError, RuntimeError) as error:
            pipe.send(str(error))


def fork_by_hand(target, *args):
    """Call `os.fork`, and nothing more; return a function that waits for the child."""
    pid = os.fork()
    if pid == 0:
        try:
            target(*args)
        finally:
            os._exit(0)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_as_process(target, *args):
    child = procession.get_context("fork").Process(target=target, args=args)
    child.start()

    def join():
        child.join(20)
        return child.exitcode

    return join


def assert_refused(fork, use, pool):
    """Assert that both calls that `use` makes in a forked child say whose pool it is."""
    ours, theirs = procession.Pipe()
    join = fork(use, theirs, pool)
    for _ in range(2):
        assert ours.poll(20)
        assert f"belongs to process {os.getpid()}" in ours.recv()
    assert join() == 0


@pytest.mark.parametrize("fork", [fork_as_process, fork_by_hand])
def test_use_from_a_forked_child(opening, fork):
    """Whatever starts the pool's own workers."""
    with opening(1) as pool:
        assert_serves(pool)
        assert_refused(fork, use_inherited, pool)
        assert_serves(pool)


def ask_for_inherited(pipe, result):
    try:
        result.get(30)
    except ValueError as error:
        pipe.send((result.ready(), result.cancel(), str(error)))


@pytest.mark.parametrize("fork", [fork_as_process, fork_by_hand])
def test_results_are_not_for_a_forked_child(fork, tmp_path):
    """It neither waits forever, nor takes the results away from its parent."""
    flag = tmp_path / "flag"
    with procession.get_context("fork").Pool(2) as pool:
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        result = pool.apply_async(tasks.wait_for, (str(flag),))
        done = pool.apply_async(tasks.square, (3,))
        done.wait(20)
        ours, theirs = procession.Pipe()
        join = fork(ask_for_inherited, theirs, result)
        assert ours.poll(20)
        ready, cancelled, text = ours.recv()
        assert (ready, cancelled) == (False, False)
        assert "belongs to the process that made it" in text
        assert join() == 0
        flag.touch()
        assert (result.get(20), done.get(20)) == (str(flag), 9)


def use_inherited_threads(pipe, pool):
    for use in (lambda: pool.map(tasks.square, [1]), lambda: pool.apply(tasks.square, (1,))):
        try:
            use()
        except ValueError as error:
            pipe.send(str(error))


def test_use_of_threads_from_a_forked_child():
    with ThreadPool(1) as pool:
        assert_refused(fork_as_process, use_inherited_threads, pool)
        assert pool.map(tasks.square, [2]) == [4]


def test_use_after_the_end(opening):
    with opening() as pool:
        assert_serves(pool)
        pool.shut()
        for use in (lambda: pool.map(tasks.square, [1]), lambda: pool.call(tasks.square, 1)):
            with pytest.raises((ValueError, RuntimeError), match=r"not running|after shutdown"):
                use()


def test_calls_while_it_is_terminated(opening):
    outcomes = []
    with opening() as pool:
        assert_serves(pool)
        started = threading.Barrier(5)

        def call():
            started.wait()
            try:
                while True:
                    pool.map(tasks.square, range(50))
            except (ValueError, RuntimeError, procession.ProcessError) as error:
                outcomes.append(type(error))

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        pool.end()
        for thread in threads:
            thread.join(20)
    assert len(outcomes) == 4


def test_a_random_killer(opening):
    """Each of 10,000 tasks ends once, with its result or with WorkerDied.

    Fewer tasks where a new worker is a new interpreter.
    """
    number = 10_000 if BIG or opening.method != "spawn" else 300
    with opening() as pool:
        assert_serves(pool)
        over = threading.Event()
        shots = 0

        def shoot():
            nonlocal shots
            while not over.wait(0.02):  # a rate, not synchronisation
                # A starting interpreter takes longer than that, so kill only workers that are
                # ready.
                core = pool.pool._core
                ready = [one for one in list(pool.pool._pool) if core.is_ready(one._worker_index)]
                if ready:
                    ready[shots % len(ready)].kill()
                    shots += 1

        killer = threading.Thread(target=shoot)
        killer.start()
        try:
            calls = [pool.call(tasks.sleep_a_little, x) for x in range(number)]
            died = 0
            for x, call in enumerate(calls):
                try:
                    assert call(30) == x
                except procession.WorkerDied as error:
                    assert error.signal == 9
                    died += 1
        finally:
            over.set()
            killer.join()
        assert 0 < died <= shots
        assert_serves(pool)
