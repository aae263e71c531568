"""Nothing that a task, a worker or a caller does makes a pool hang: the one task that did it fails, and the pool goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import procession
from procession.pool import MaybeEncodingError, RemoteTraceback

METHODS = ["fork", "spawn", "forkserver"]
pytestmark = pytest.mark.timeout(60)


def square(x):
    return x * x


@pytest.fixture(params=METHODS)
def context(request):
    return procession.get_context(request.param)


@pytest.fixture
def pool(context):
    with context.Pool(2) as made:
        yield made
        assert made.map(square, range(20), 1) == [x * x for x in range(20)], "the pool goes on"
        assert len(made._pool) <= 2
    made.join()


def kill_self(_=None):
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(_=None):
    os.kill(os.getpid(), signal.SIGSEGV)


def exit_at_once(code):
    os._exit(code)


def exit_politely(code):
    sys.exit(code)


def interrupt(_=None):
    raise KeyboardInterrupt


def die_on_three(x):
    if x == 3:
        kill_self()
    return x


@pytest.mark.parametrize(
    ("function", "argument", "exitcode"),
    [
        (kill_self, None, -signal.SIGKILL),
        (segfault, None, -signal.SIGSEGV),
        (exit_at_once, 3, 3),
        (exit_at_once, 0, 0),
        (exit_politely, 4, 4),
        (interrupt, None, 1),
    ],
)
def test_a_task_that_ends_its_worker(pool, function, argument, exitcode):
    pids = [process.pid for process in pool._pool]
    with pytest.raises(procession.WorkerDied) as caught:
        pool.apply_async(function, (argument,)).get(20)
    error = caught.value
    assert error.exitcode == exitcode
    assert error.signal == (-exitcode if exitcode < 0 else None)
    assert error.pid in pids
    assert function.__name__ in error.task
    assert str(error.pid) in str(error)


def test_the_others_go_on(pool):
    outcomes = []
    results = pool.imap(die_on_three, range(8))
    for _ in range(8):
        try:
            outcomes.append(results.next(20))
        except procession.WorkerDied as error:
            outcomes.append(type(error))
    assert outcomes == [0, 1, 2, procession.WorkerDied, 4, 5, 6, 7]
    with pytest.raises(procession.WorkerDied, match="task 3 of die_on_three"):
        pool.map(die_on_three, range(8), 1)


def test_a_worker_killed_while_idle(pool):
    assert pool.map(square, [1, 2]) == [1, 4]
    pool._pool[0].kill()
    assert pool.map(square, range(50), 1) == [x * x for x in range(50)]


def test_all_workers_killed_at_once(pool):
    for _ in range(5):
        assert pool.map(square, [1, 2]) == [1, 4]
        for process in list(pool._pool):
            process.kill()  # one that ended and was reaped is left alone
    assert pool.map_async(square, range(50), 1).get(30) == [x * x for x in range(50)]


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("never")


class UnpicklableThere:
    def __reduce__(self):
        return _explode, ()


def _explode():
    raise RuntimeError("not here")


def return_unpicklable(_=None):
    return Unpicklable()


def return_what_nobody_can_load(_=None):
    return UnpicklableThere()


def test_argument_that_cannot_be_pickled(pool):
    with pytest.raises(RuntimeError, match="never"):
        pool.map(square, [1, Unpicklable(), 3], 1)
    with pytest.raises(RuntimeError, match="never"):
        pool.apply(square, (Unpicklable(),))
    results = pool.imap(square, [1, Unpicklable(), 3])
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="never"):
        next(results)
    assert next(results) == 9


def test_argument_that_cannot_be_unpickled(pool):
    with pytest.raises(RuntimeError, match="not here"):
        pool.apply_async(square, (UnpicklableThere(),)).get(20)


class UnpicklableFunction(Unpicklable):
    def __call__(self, x):
        return x


def test_function_that_cannot_be_pickled(pool):
    failures = []
    for use in (
        lambda: pool.apply(UnpicklableFunction(), (1,)),
        lambda: pool.map(UnpicklableFunction(), [1, 2, 3], 1),
        lambda: next(pool.imap(UnpicklableFunction(), [1])),
    ):
        with pytest.raises(RuntimeError, match="never"):
            use()
    pool.apply_async(UnpicklableFunction(), (1,), error_callback=failures.append).wait(20)
    assert [type(error) for error in failures] == [RuntimeError]


def test_result_that_cannot_be_pickled(pool):
    for _ in range(5):
        with pytest.raises(MaybeEncodingError) as caught:
            pool.apply_async(return_unpicklable).get(20)
        assert "RuntimeError('never')" in caught.value.exc
        assert "Unpicklable" in caught.value.value
        assert str(caught.value).startswith("Error sending result: ")


def test_result_that_cannot_be_unpickled(pool):
    with pytest.raises(MaybeEncodingError, match="not here") as caught:
        pool.apply_async(return_what_nobody_can_load).get(20)
    assert isinstance(caught.value.__cause__, RuntimeError)


class PickyError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class UnpicklableError(Exception):
    def __reduce__(self):
        raise RuntimeError("never")


class UnloadableError(Exception):
    def __reduce__(self):
        return _explode, ()


def raise_picky(_=None):
    raise PickyError("a", "b")


def raise_unpicklable(_=None):
    raise UnpicklableError("u")


def raise_unloadable(_=None):
    raise UnloadableError("l")


def raise_noted(_=None):
    error = ValueError("with a cause")
    error.__cause__ = error
    error.extra = list(range(10))
    raise error


def recurse(n=0):
    return recurse(n + 1)


@pytest.mark.parametrize("function", [raise_picky, raise_unpicklable, raise_unloadable])
def test_exception_that_cannot_travel(pool, function):
    with pytest.raises(MaybeEncodingError) as caught:
        pool.apply_async(function).get(20)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert f"in {function.__name__}" in str(cause)
    assert "Error(" in caught.value.value


def test_exception_with_a_traceback(pool):
    with pytest.raises(ValueError, match="with a cause") as caught:
        pool.apply_async(raise_noted).get(20)
    assert caught.value.extra == list(range(10))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "raise error" in caught.value.__cause__.tb


def test_deep_recursion(pool):
    with pytest.raises(RecursionError):
        pool.apply_async(recurse).get(20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_callback_that_raises(pool, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def bad(value):
        raise LookupError("from the callback")

    called = []
    first = pool.apply_async(square, (2,), callback=bad)
    second = pool.apply_async(square, (3,), callback=called.append)
    assert (first.get(20), second.get(20)) == (4, 9)
    assert called == [9]
    assert [(args.exc_type, str(args.exc_value)) for args in reported] == [
        (LookupError, "from the callback")
    ]


def fail_to_start(text):
    raise OSError(text)


def die_at_start():
    kill_self()


def test_initializer_that_raises(context, capfd):
    with context.Pool(2, fail_to_start, ("no disk",)) as pool:
        with pytest.raises(procession.BrokenPool, match="no disk") as caught:
            pool.apply_async(square, (1,)).get(30)
        assert isinstance(caught.value.__cause__, OSError)
        assert "fail_to_start" in str(caught.value.__cause__.__cause__)
        with pytest.raises(procession.BrokenPool):
            pool.map(square, [1])
    pool.join()
    assert capfd.readouterr().err.count("OSError: no disk") <= 6


def test_initializer_that_kills(context):
    with (
        context.Pool(1, die_at_start) as pool,
        pytest.raises(procession.BrokenPool, match="exit code -9"),
    ):
        pool.apply_async(square, (1,)).get(50)


def fail_once(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    kill_self()


def test_initializer_that_kills_once(context, tmp_path):
    with context.Pool(2, fail_once, (str(tmp_path / "flag"),)) as pool:
        assert pool.map_async(square, range(20), 1).get(30) == [x * x for x in range(20)]


ONE_TASK_EACH = """
    import os, procession, sys

    def task(x):
        return x * x, os.getpid()

    if __name__ == "__main__":
        with procession.get_context(sys.argv[1]).Pool(2, maxtasksperchild=1) as pool:
            results = pool.map(task, range(200), 1)
        assert [square for square, _ in results] == [x * x for x in range(200)]
        assert len({pid for _, pid in results}) == 200
        print("done")
"""


@pytest.mark.parametrize("method", METHODS)
def test_maxtasksperchild_of_one(tmp_path, method):
    """In a program of its own: under spawn each worker imports what the main program did, here the test runner."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(ONE_TASK_EACH))
    run = subprocess.run(
        [sys.executable, str(program), method],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == ("done\n", "", 0)


def use_inherited_pool(pipe, pool):
    try:
        pool.map(square, [1])
    except ValueError as error:
        pipe.send(str(error))


def test_use_from_a_forked_child():
    context = procession.get_context("fork")
    with context.Pool(1) as pool:
        ours, theirs = context.Pipe()
        child = context.Process(target=use_inherited_pool, args=(theirs, pool))
        child.start()
        assert ours.poll(20)
        assert f"belongs to process {os.getpid()}" in ours.recv()
        child.join()
        assert pool.apply(square, (3,)) == 9


def test_calls_during_terminate(context):
    pool = context.Pool(2)
    outcomes = []

    def call():
        try:
            while True:
                pool.map(square, range(50), 1)
        except (ValueError, procession.ProcessError) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    pool.terminate()
    pool.join()
    for thread in threads:
        thread.join(20)
    assert len(outcomes) == 4


def test_a_random_killer(context):
    """Every task ends with its result or with WorkerDied, none twice, none never."""
    tasks = 300 if context.get_start_method() != "fork" else 2000
    with context.Pool(2) as pool:
        over = threading.Event()

        def shoot():
            while not over.wait(0.02):
                # A starting interpreter takes longer than that: shoot those that are at work.
                workers = [one for one in list(pool._pool) if pool._core.is_ready(one._place)]
                if workers:
                    workers[0].kill()

        killer = threading.Thread(target=shoot)
        killer.start()
        try:
            results = pool.imap(sleep_a_little, range(tasks))
            ended = 0
            for number in range(tasks):
                try:
                    assert results.next(30) == number
                except procession.WorkerDied as error:
                    assert error.signal == signal.SIGKILL
                ended += 1
            with pytest.raises(StopIteration):
                results.next(10)
        finally:
            over.set()
            killer.join()
        assert ended == tasks
        assert pool.map_async(square, range(20), 1).get(30) == [x * x for x in range(20)]


def sleep_a_little(x):
    time.sleep(0.0005)
    return x


def test_parent_killed(tmp_path):
    """Workers do not outlive a parent that is killed, busy or idle."""
    for method in METHODS:
        ours, theirs = procession.Pipe()
        parent = procession.get_context("spawn").Process(target=hold_pool, args=(theirs, method))
        parent.start()
        assert ours.poll(20)
        pids = ours.recv()
        parent.kill()
        parent.join()
        deadline = time.monotonic() + 10
        while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(is_running(pid) for pid in pids), method


def hold_pool(pipe, method):
    pool = procession.get_context(method).Pool(2)
    pool.map(square, range(4), 1)
    result = pool.apply_async(spin)
    pipe.send([process.pid for process in pool._pool])
    result.get()


def spin():
    while True:
        pass


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
