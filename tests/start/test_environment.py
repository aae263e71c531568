"""Threads change the environment while others start processes."""

from __future__ import annotations

#: A child finds all the variables that are not changed, whole, in `os.environ` and in the C library.
PROGRAM = """
import ctypes, os, sys, threading
import procession

getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p

def look(queue):
    names = [f"KEPT_{number}" for number in range(200)]
    queue.put(all(os.environ.get(name) == getenv(name.encode()).decode() == "x" * 200 for name in names))

def change(number):
    while not over.is_set():
        for size in (1, 50, 5000):
            os.environ[f"CHANGED_{number}"] = "y" * size
            for other in range(20):  # the array of the variables grows and shrinks
                os.environ[f"CHANGED_{number}_{other}"] = "z"
            for other in range(20):
                del os.environ[f"CHANGED_{number}_{other}"]

if __name__ == "__main__":
    os.environ.update({f"KEPT_{number}": "x" * 200 for number in range(200)})
    context = procession.get_context(sys.argv[1])
    over = threading.Event()
    threads = [threading.Thread(target=change, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    queue = context.SimpleQueue()
    for _ in range(3):
        processes = [context.Process(target=look, args=(queue,)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0, process.exitcode
            assert queue.get()
    over.set()
"""


def test_processes_start_while_threads_change_it(run_program, method):
    done = run_program(PROGRAM, method, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
