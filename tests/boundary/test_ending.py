"""Interpreters that end while daemon threads are inside the extension.

This is a part of `make storm`'s `ends`.
"""

from __future__ import annotations

import sys

import pytest

from tests.storm import ends
from tests.waiting import is_running, until

pytestmark = pytest.mark.timeout(300)

#: Of tests in which something starts when the main thread has ended.
STARTS_LATE = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="Python 3.12 itself starts no thread then, nor forks"
)

#: A thread waits for the interpreter's lock in a reducer, above a frame of the extension, when the
#: interpreter begins to end.
REDUCING = """
import threading, time
import procession

queue = procession.SimpleQueue()
reducing = threading.Event()

class Reduced:
    def __reduce__(self):
        reducing.set()
        time.sleep(0.005)  # not synchronisation: the place where the end finds the thread
        return int, ()

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.2)  # not synchronisation: the thread asks for the lock meanwhile

def forever():
    while True:
        queue.put(Reduced())
        queue.get()

slow = Slow()
threading.Thread(target=forever, daemon=True).start()
reducing.wait()
"""


def test_a_thread_in_a_reducer(run_program):
    for _ in range(5):
        done = run_program(REDUCING)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


#: For programs: start threads, and wait until each sleeps or has ended.
START = """
def is_blocked(thread):
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"

def start_and_await_sleep(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not is_blocked(thread):
            time.sleep(0.001)
"""

#: Daemonic threads are asleep in every call that blocks when the program ends, except those of managers.
#: What they wait for is ended under them: workers, children.
BLOCKED = """
import sys, threading, time
import procession
from procession.connection import Client, Listener, wait
from procession.pool import ThreadPool

def forever(_item=None):
    time.sleep(600)  # ended with its worker

def endless():
    yield 1
    threading.Event().wait()

def hold(lock):
    lock.acquire()
    return lock

def wait_for(condition, *how):
    with condition:
        condition.wait_for(lambda: False, *how)

def fill(connection):
    while True:
        connection.send_bytes(bytes(1 << 16))

def calls(context):
    pipes = [context.Pipe() for _ in range(5)]
    ends = [one for one, _other in pipes]
    child = context.Process(target=forever, daemon=True)
    child.start()
    full, unfinished = context.Queue(1), context.JoinableQueue()
    full.put(0)
    unfinished.put(0)
    listener = Listener()
    yield from [
        pipes, listener,
        context.Queue().get, context.SimpleQueue().get, lambda: full.put(1), unfinished.join,
        ends[0].recv, ends[1].recv_bytes, lambda: ends[2].poll(None), lambda: wait([ends[3]]),
        lambda: fill(ends[4]), listener.accept,
        hold(context.Lock()).acquire, context.Semaphore(0).acquire, context.Event().wait,
        lambda: wait_for(context.Condition()), lambda: wait_for(context.Condition(), 600),
        context.Barrier(2).wait, child.join,
    ]
    for pool in context.Pool(1), ThreadPool(1):
        result = pool.apply_async(forever)
        yield from [
            lambda pool=pool: pool.apply(forever), lambda pool=pool: pool.map(forever, range(3)),
            lambda pool=pool: pool.map(forever, range(3), progress=lambda done, of: None),
            lambda pool=pool: pool.starmap(forever, [(1,), (2,)]), result.get, result.wait,
            lambda pool=pool: next(pool.imap(forever, range(3))),
            lambda pool=pool: next(pool.imap(forever, range(9), 3)),
            lambda pool=pool: next(pool.imap_unordered(forever, range(3))),
            lambda pool=pool: list(pool.imap(forever, endless())),
        ]
    pool = context.Pool(1)
    pool.apply_async(forever)
    pool.close()
    yield pool.join
    executor = procession.ProcessPoolExecutor(1, mp_context=context)
    # The interpreter waits for the calls of an executor: these end.
    yield executor.submit(time.sleep, 1).result
    yield executor.map(time.sleep, [1]).__next__

if __name__ == "__main__":
    kept = list(calls(procession.get_context(sys.argv[1])))
    threads = [threading.Thread(target=call, daemon=True) for call in kept if callable(call)]
    start_and_await_sleep(threads)
    {end}
"""


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)"])
def test_threads_in_every_call_that_blocks(run_program, method, end):
    done = run_program(START + BLOCKED.replace("{end}", end), method)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


#: As `BLOCKED`, in the calls of a manager. The first function for the exit runs last, when the program has given
#: back the objects (RemoteError) and the manager has ended. It waits for the threads, so each must get an error.
MANAGED = """
import atexit, sys, threading, time

errors, threads = [], []

def join():
    for thread in threads:
        thread.join()
    print(len(errors), *(error for error in errors if not isinstance(error, (EOFError, OSError, RemoteError))))

if __name__ == "__main__":
    atexit.register(join)

import procession
from procession.managers import RemoteError

def note(call):
    try:
        call()
    except Exception as error:
        errors.append(error)

def hold(lock):
    lock.acquire()
    return lock

def wait_for(condition):
    with condition:
        condition.wait_for(lambda: False)

if __name__ == "__main__":
    manager = procession.get_context(sys.argv[1]).Manager()
    shared = manager.dict()
    def work():
        while True:
            shared["key"] = len(shared)
    calls = [
        manager.Queue().get, manager.Event().wait, hold(manager.Lock()).acquire,
        manager.Semaphore(0).acquire, manager.Barrier(2).wait, lambda: manager.Pool(1).apply(time.sleep, (600,)),
        lambda condition=manager.Condition(): wait_for(condition), work,
    ]
    threads += [threading.Thread(target=note, args=(call,), daemon=True) for call in calls]
    start_and_await_sleep(threads)
"""


def test_threads_in_every_call_of_a_manager(run_program, method):
    done = run_program(START + MANAGED, method)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")


#: What a function for the exit starts, when the functions of priority 0 are about to run, and those that end what was
#: there before have been listed.
STARTED_LATE = """
import os, signal, sys, time
import procession
from procession import util
from procession.managers import SharedMemoryManager, SyncManager

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def make(context):
    kept.append(context.Manager())
    kept.append(SyncManager(ctx=context))
    kept[-1].start(stubborn)
    kept.append(SharedMemoryManager(ctx=context))
    kept[-1].start()
    kept.append(context.Pool(1))
    kept[-1].apply_async(time.sleep, (600,))
    kept.append(context.Process(target=time.sleep, args=(600,), daemon=True))
    kept[-1].start()
    print(*(child.pid for child in procession.active_children()), flush=True)

kept = []

if __name__ == "__main__":
    util.Finalize(None, make, (procession.get_context(sys.argv[1]),), exitpriority=5)
"""


@STARTS_LATE
def test_what_an_exit_function_starts_ends_with_the_program(run_program, method):
    done = run_program(STARTED_LATE, method)
    assert (done.returncode, done.stderr) == (0, "")
    pids = done.stdout.split()
    assert len(pids) == 5
    until(lambda: not any(is_running(int(pid)) for pid in pids))


#: A daemonic thread that has a lock of the package's when the interpreter stops it, and an object that wants that
#: lock when the interpreter drops it.
DROPPED_LATE = """
import atexit, sys, threading, types

lock, held = threading.Lock(), threading.Event()

class Thing:
    pass

def hold():
    with lock:
        held.set()
        threading.Event().wait()

def late():
    # Runs after the package's own function for the exit.
    sys.modules["last"] = module = types.ModuleType("last")
    module.thing = Thing()
    util.Finalize(module.thing, lock.acquire)
    threading.Thread(target=hold, daemon=True).start()
    held.wait()

atexit.register(late)

from procession import util
"""


@STARTS_LATE
def test_what_is_dropped_when_the_interpreter_ends_waits_for_no_thread(run_program):
    done = run_program(DROPPED_LATE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("entry", ends.ENTRIES)
def test_threads_at_every_entry(entry):
    for seed in (1, 2):
        ends.run(entry, "fork", seed)


@pytest.mark.parametrize("entry", ends.BY_METHOD)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_threads_that_use_processes(entry, method):
    ends.run(entry, method, 1)
