"""Interpreters that end while daemon threads are inside the extension.

This is a part of `make storm`'s `ends`.
"""

from __future__ import annotations

import pytest

from tests.storm import ends

pytestmark = pytest.mark.timeout(300)

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


@pytest.mark.parametrize("entry", ends.ENTRIES)
def test_threads_at_every_entry(entry):
    for seed in (1, 2):
        ends.run(entry, "fork", seed)


@pytest.mark.parametrize("entry", ends.BY_METHOD)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_threads_that_use_processes(entry, method):
    ends.run(entry, method, 1)
