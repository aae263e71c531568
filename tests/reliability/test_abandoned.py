"""The root is killed, and all that is left waits without a timeout: each wait ends and says why.

As long as one process may still act, no wait ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import PACKAGE_FOLDER

#: Far more than a second, on a machine that does a hundred other things.
LONG = 30

PROGRAM = """
import os, sys, threading, time
import procession

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def end(wait):
    try:
        say("got", wait())
    except procession.ProcessError as error:
        say(type(error).__name__)

def get(queue, *_):
    end(queue.get)

def wait(_, __, event):
    end(event.wait)

def with_a_daemon_thread_that_waits(queue, lock, event):
    threading.Thread(target=wait, args=(queue, lock, event), daemon=True).start()
    end(queue.get)

def put_later(queue, *_):
    time.sleep(3)  # real time is the subject: this process is active, and not in a wait
    queue.put("late")

def start_one_that_puts(queue, *_):
    child = procession.get_context("spawn").Process(target=put_late, args=(queue,))
    child.start()
    queue.get()

def put_late(queue):
    time.sleep(2)  # likewise
    for _ in range(3):
        queue.put("late")

def time_out(queue, *_):
    import queue as names
    try:
        queue.get(timeout=3)
    except names.Empty:
        say("Empty")

if __name__ == "__main__":
    method, *roles = sys.argv[1:]
    ctx = procession.get_context(method)
    queue, lock, event = ctx.Queue(), ctx.Lock(), ctx.Event()
    for role in roles:
        ctx.Process(target=globals()[role], args=(queue, lock, event)).start()
    say("ready")
    time.sleep(1000)  # until it is killed
"""


def outcome(tmp_path, method, *roles, program=PROGRAM, run=()):
    """Return what the family of these roles prints after its root was killed.

    The output ends with the family's last process.
    """
    script = tmp_path / "program.py"
    script.write_text(program)
    root = subprocess.Popen(
        [sys.executable, *run, str(script), method, *roles],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
        start_new_session=True,
    )
    try:
        assert root.stdout.readline() == "ready\n"
        # Not synchronisation: it makes it likely that the processes wait by then. The outcome is
        # the same if one does not yet: it counts as active.
        time.sleep(1.5)
        root.kill()
        text, _ = root.communicate(timeout=LONG)
    finally:
        try:
            os.killpg(root.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return sorted(text.splitlines())


def test_each_wait_ends(tmp_path, method):
    assert outcome(tmp_path, method, "get", "get", "wait") == ["Abandoned"] * 3


def test_a_thread_that_waits_too_counts_as_waiting(tmp_path, method):
    said = outcome(tmp_path, method, "with_a_daemon_thread_that_waits", "get")
    assert set(said) == {"Abandoned"} and len(said) >= 2


def test_one_that_may_still_act_is_waited_for(tmp_path, method):
    assert outcome(tmp_path, method, "get", "put_later") == ["got late"]


def test_a_process_that_is_being_started_is_waited_for(tmp_path, method):
    assert outcome(tmp_path, method, "get", "start_one_that_puts", "get") == ["got late"] * 2


def test_a_wait_with_a_timeout_keeps_it(tmp_path, method):
    said = outcome(tmp_path, method, "get", "time_out")
    assert said == ["Abandoned", "Empty"]


EXECUTORS = """
import concurrent.futures, os, sys, time
import procession

def work(number):
    time.sleep(0.1)  # not synchronisation: both workers get calls
    return os.getpid()

if __name__ == "__main__":
    method, whose = sys.argv[1:]
    ctx = procession.get_context(method)
    made = {"ours": procession.ProcessPoolExecutor, "theirs": concurrent.futures.ProcessPoolExecutor}[whose]
    executor = made(2, mp_context=ctx)
    assert len(list(executor.map(work, range(8)))) == 8
    print("ready", flush=True)
    time.sleep(1000)  # until it is killed
"""


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_idle_workers_of_an_executor_end(tmp_path, method, whose):
    # The standard library's executor waits in procession's queues where procession stands in.
    run = ["-m", "procession", "run"] if whose == "theirs" else []
    # The pipe ends with the last worker; otherwise the read fails at its limit.
    assert outcome(tmp_path, method, whose, program=EXECUTORS, run=run) == []
