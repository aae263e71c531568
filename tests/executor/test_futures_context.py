"""The standard library's own ProcessPoolExecutor, and asyncio's `run_in_executor`, on procession.

One program runs under the standard library, with procession imported in its place, and unchanged
under `procession run`. Then come the parts that such an executor needs: queues with readers that
`connection.wait` takes, together with sentinels.
"""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import multiprocessing.connection
import operator
import os
import signal
import sys
import threading
import time

import pytest

import procession
from procession import connection

PROGRAM = """
import asyncio
import multiprocessing
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool


def square(number):
    return number * number


def fail(number):
    raise ValueError(f"no {number}")


def prepare(value):
    global prepared
    prepared = value


def get_prepared(_):
    return prepared


def package_of_this_process():
    return type(multiprocessing.current_process()).__module__.split(".")[0]


async def in_loop(executor):
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(executor, square, n) for n in range(4)))


def main():
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, context, initializer=prepare, initargs=("ready",)) as executor:
        print(*executor.map(square, range(6), chunksize=2))
        print(sorted(f.result() for f in as_completed([executor.submit(square, n) for n in range(4)])))
        print(*asyncio.run(in_loop(executor)))
        print(set(executor.map(get_prepared, range(4))))
        error = executor.submit(fail, 7).exception()
        print(repr(error), "in fail" in str(error.__cause__))
        print(len(executor.submit(bytes, 3_000_000).result()))
        print(type(executor.submit(square, threading.Lock()).exception()).__name__)
        print(executor.submit(square, 9).result())
        print("package", executor.submit(package_of_this_process).result())
    with ProcessPoolExecutor(2, context) as executor:
        killed = executor.submit(signal.raise_signal, signal.SIGKILL)
        print(isinstance(killed.exception(), BrokenProcessPool))
        try:
            executor.submit(square, 1)
        except BrokenProcessPool:
            print("broken for good")
    executor = ProcessPoolExecutor(1, context)
    results = [executor.submit(square, n) for n in range(200)]
    executor.shutdown(cancel_futures=True)
    print(all(f.done() for f in results))


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("under", ["import", "run"])
def test_executor_program(run_program, under, method):
    done = run_program(PROGRAM, method, under=under)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["0 1 4 9 16 25", "[0, 1, 4, 9]"]
    package = next(line for line in lines if line.startswith("package"))
    assert package == "package procession"
    plain = run_program(PROGRAM, method).stdout.splitlines()
    assert lines == ["package procession" if line.startswith("package") else line for line in plain]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="max_tasks_per_child came in 3.11")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_are_replaced(method):
    ctx = procession.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, ctx, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_killed_worker_breaks_the_executor(ctx):
    with concurrent.futures.ProcessPoolExecutor(2, ctx) as executor:
        assert executor.submit(abs, -1).result() == 1
        endless = executor.submit(signal.pause)
        os.kill(next(iter(executor._processes)), signal.SIGKILL)
        with pytest.raises(concurrent.futures.process.BrokenProcessPool):
            endless.result(60)


def test_procession_s_own_things_travel_in_tasks(ctx):
    queue, lock = ctx.Queue(), ctx.Lock()
    with concurrent.futures.ProcessPoolExecutor(1, ctx) as executor:
        executor.submit(_put, queue, lock).result()
    assert queue.get() == "put"
    assert lock.acquire(False)


def _put(queue, lock):
    with lock:
        queue.put("put")


def test_wait_takes_readers_connections_and_sentinels(ctx):
    queue = ctx.SimpleQueue()
    reader, writer = ctx.Pipe(False)
    child = ctx.Process(target=queue.put, args=("item",))
    everything = [queue._reader, reader]
    assert connection.wait(everything, 0) == []
    child.start()
    assert connection.wait(everything, 60) == [queue._reader]
    assert queue._reader.poll()
    assert queue._reader.recv() == "item"
    child.join()
    assert set(connection.wait([*everything, child.sentinel], 60)) == {child.sentinel}
    writer.send("message")
    assert connection.wait(everything, 60) == [reader]


def test_wait_knows_at_once_what_was_put():
    """A process that puts and then waits sees the item, although a thread sets the descriptor.

    So does a process that sees another one end after its put.
    """
    queue = procession.SimpleQueue()
    assert connection.wait([queue._reader], 0) == []
    for number in range(100):
        queue.put(number)
        assert connection.wait([queue._reader], 0) == [queue._reader]
        assert queue.get() == number
    for _ in range(10):
        child = procession.get_context("fork").Process(target=queue.put, args=("last words",))
        child.start()
        if child.sentinel in connection.wait([child.sentinel]):
            assert queue._reader in connection.wait([child.sentinel, queue._reader])
        queue.get()
        child.join()


#: The most seconds that an ending process waits for the processes that poll for its items.
TIMEOUT = 1


def _put_before_exit(ready, go, queue):
    ready.set()
    go.wait()
    queue.put("last words")


def _poll(method, pids, go, queue, seen):
    """Wait as the standard library's executor does: its own `wait` knows only descriptors."""
    ctx = procession.get_context(method)
    ready = ctx.Event()
    child = ctx.Process(target=_put_before_exit, args=(ready, go, queue))
    multiprocessing.connection.wait([queue._reader], 0)
    child.start()
    ready.wait()
    pids.put(child.pid)
    readable = multiprocessing.connection.wait([queue._reader, child.sentinel])
    seen.put((queue._reader in readable, time.monotonic()))
    child.join()


@contextlib.contextmanager
def _stopped_while_its_child_ends(method):
    """Stop a parent while its child ends.

    Yields when the child was allowed to end, a descriptor for its end, and the queue where the
    continued parent reports what it saw.
    """
    ctx = procession.get_context("fork")
    pids, go, queue, seen = ctx.Queue(), ctx.Event(), ctx.SimpleQueue(), ctx.Queue()
    parent = ctx.Process(target=_poll, args=(method, pids, go, queue, seen))
    parent.start()
    child = os.pidfd_open(pids.get(timeout=60))
    os.kill(parent.pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, parent.pid, os.WSTOPPED)
        allowed = time.monotonic()
        go.set()
        yield allowed, child, seen
    finally:
        os.close(child)
        os.kill(parent.pid, signal.SIGCONT)
        parent.join()


def test_a_process_has_not_ended_before_who_polls_sees_what_it_put(method):
    # The child waits no longer than TIMEOUT: on a machine slower than that, nothing can be said.
    with _stopped_while_its_child_ends(method) as (allowed, child, seen):
        ended = connection.wait([child], 0.3)
        assert not ended or time.monotonic() - allowed >= TIMEOUT
    saw, when = seen.get(timeout=60)
    assert saw or when - allowed >= TIMEOUT


def test_a_process_ends_although_who_polls_is_stopped():
    with _stopped_while_its_child_ends("fork") as (_allowed, child, _seen):
        assert connection.wait([child], 60)


def test_wait_in_several_threads():
    """Each thread gets one of the items, and none waits forever."""
    queue = procession.SimpleQueue()
    got = []

    def take():
        connection.wait([queue._reader])
        got.append(queue.get())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(4):
        queue.put(number)
    for thread in threads:
        thread.join(60)
    assert sorted(got) == [0, 1, 2, 3]


def test_executor_of_the_default_context():
    with concurrent.futures.ProcessPoolExecutor(1, procession.get_context()) as executor:
        assert executor.submit(operator.add, 1, 2).result() == 3


BESIDE_AN_IMPORT = """
import importlib, importlib.machinery, sys, threading, time
import procession

WAITED_FOR = sys.argv[1]


def waits_for_it(frame):
    "Whether that is in the acquire of the lock of a module of theirs."
    while frame is not None:
        code = frame.f_code
        if (code.co_filename, code.co_name) == ("<frozen importlib._bootstrap>", "acquire"):
            return frame.f_locals["self"].name.startswith("multiprocessing")
        frame = frame.f_back


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != WAITED_FOR:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            begun.set()
            while not (over.is_set() or waits_for_it(sys._current_frames()[main])):
                time.sleep(0.001)
            execute(module)

        spec.loader.exec_module = exec_module
        return spec


if __name__ == "__main__":
    main, begun, over = threading.get_ident(), threading.Event(), threading.Event()
    process = procession.get_context("spawn").Process(target=print, args=("as told",))
    sys.meta_path.insert(0, Finder)
    thread = threading.Thread(target=importlib.import_module, args=("concurrent.futures.process",))
    thread.start()
    begun.wait()
    try:
        process.start()
    finally:
        over.set()
    process.join()
    thread.join()
"""


@pytest.mark.parametrize("module", ["multiprocessing.context", "multiprocessing.connection"])
def test_a_process_is_started_beside_the_import_of_the_standard_library_s(run_program, module):
    done = run_program(BESIDE_AN_IMPORT, module)
    assert (done.stdout, done.stderr) == ("as told\n", "")
