"""`py-spy dump` of a child that waits for a queue, and of one that computes.

Needs: py-spy
"""

import multiprocessing
import subprocess
import sys


def wait_here(queue, ready):
    ready.set()
    queue.get()


def compute_here(ready, stop):
    ready.set()
    while not stop.is_set():
        sum(range(100))


def stack(child):
    """Return the functions on the stacks of a process, as text."""
    command = ["py-spy", "dump", "--pid", str(child.pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue, ready, busy, stop = context.Queue(), context.Event(), context.Event(), context.Event()
    waiting = context.Process(target=wait_here, args=(queue, ready))
    computing = context.Process(target=compute_here, args=(busy, stop))
    for child in (waiting, computing):
        child.start()
    ready.wait()
    busy.wait()
    print("wait_here" in stack(waiting), "compute_here" in stack(computing))
    stop.set()
    queue.put(None)
    for child in (waiting, computing):
        child.join()
        print(child.exitcode)
