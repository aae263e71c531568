"""What daemonic threads get while the process ends, before the interpreter stops them.

What then waits for such a thread, in the same process or another, must not wait for ever.
"""

from __future__ import annotations

from procession.managers import SyncManager

#: The first function for the exit runs last. It waits for a thread that asks a manager of another program.
POLL = """
import atexit, queue, sys, threading

stop = threading.Event()

def end():
    stop.set()
    thread.join()
    print("joined")

atexit.register(end)

from procession import process
from procession.managers import RemoteError, SyncManager

manager = SyncManager(("127.0.0.1", int(sys.argv[1])), authkey=b"key")
manager.connect()
process.current_process().authkey = b"key"
shared = manager.Queue()

def poll():
    while not stop.is_set():
        try:
            shared.get(timeout=0.01)
        except queue.Empty:
            pass
        except RemoteError:
            break  # the end of this program has given the queue back

thread = threading.Thread(target=poll, daemon=True)
thread.start()
"""


def test_an_exit_function_waits_for_a_thread_that_polls(run_program):
    with SyncManager(("127.0.0.1", 0), authkey=b"key") as manager:
        done = run_program(POLL, str(manager.address[1]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "joined\n", "")


#: A child's exit functions may run before the end of its threads that are not daemonic.
CHILD = """
import queue, sys, threading, time
import procession

def child(shared):
    def poll():
        for _ in range(20):
            try:
                shared.get(timeout=0.05)
            except queue.Empty:
                pass
        print("polled", flush=True)
    def wait():
        daemonic.join()
        print("joined", flush=True)
    daemonic = threading.Thread(target=poll, daemon=True)
    daemonic.start()
    threading.Thread(target=wait).start()

if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    with context.Manager() as manager:
        shared = manager.Queue()  # which the child's exit gives back
        process = context.Process(target=child, args=(shared,))
        process.start()
        process.join(30)
        print(process.exitcode)
        process.kill()
"""


def test_a_thread_of_a_child_waits_for_one_that_polls(run_program, method):
    done = run_program(CHILD, method)
    assert (done.stdout, done.stderr) == ("polled\njoined\n0\n", "")


#: The program waits for a child, which waits for a lock of a thread that waits for a manager.
LOCKED = """
import sys, threading
import procession
from procession.managers import RemoteError

def child(lock):
    print("locked" if lock.acquire(timeout=30) else "not locked", flush=True)

def hold(lock, shared):
    try:
        with lock:
            held.set()
            shared.get()
    except (EOFError, OSError, RemoteError):
        pass

held = threading.Event()

if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    lock, manager = context.Lock(), context.Manager()
    threading.Thread(target=hold, args=(lock, manager.Queue()), daemon=True).start()
    held.wait()
    context.Process(target=child, args=(lock,)).start()
"""


def test_a_child_waits_for_the_lock_of_a_thread_in_a_call_of_a_manager(run_program, method):
    done = run_program(LOCKED, method)
    assert (done.returncode, done.stdout, done.stderr) == (0, "locked\n", "")


#: A function for the exit waits for daemonic threads that use pools, which are ended later. Another pool
#: was terminated before.
RAISED = """
import sys, threading, time
import procession
from procession import util
from procession.pool import ThreadPool

class Own(Exception):
    pass

def fail(number):
    raise Own(number)

exiting = threading.Event()

def use(pool, terminated, numbers):
    exiting.wait()
    calls = [
        lambda: pool.apply(fail, (0,)), lambda: pool.map(fail, [1]), lambda: next(pool.imap(fail, [2])),
        lambda: next(pool.imap_unordered(fail, [3])), lambda: next(pool.imap(fail, [4], 2)), terminated.get,
    ]
    for call in calls:
        try:
            call()
        except Own as error:
            numbers += error.args
        except procession.ProcessError:
            numbers.append(len(numbers))

def end():
    exiting.set()
    for thread in threads:
        thread.join()
    print(results)

if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    results, threads = [], []
    for pool, other in (context.Pool(1), context.Pool(1)), (ThreadPool(1), ThreadPool(1)):
        terminated = other.apply_async(time.sleep, (600,))
        other.terminate()
        results.append([])
        threads.append(threading.Thread(target=use, args=(pool, terminated, results[-1]), daemon=True))
        threads[-1].start()
    util.Finalize(None, end, exitpriority=100)
"""


def test_a_thread_gets_what_a_task_raised_and_the_end_of_a_pool_that_was_terminated(
    run_program, method
):
    done = run_program(RAISED, method)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "[[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]\n",
        "",
    )
