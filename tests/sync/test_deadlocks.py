"""Deadlocks are found by the threads that wait, and said once or ended; correct programs are silent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import procession
from tests.conftest import PACKAGE_FOLDER

#: Far more than a second, on a machine that does a hundred other things.
LONG = 60

PROGRAM = """
import os, random, signal, subprocess, sys, threading, time
import procession

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def member(number, locks, barrier):
    with locks[number]:
        barrier.wait()
        try:
            with locks[(number + 1) % len(locks)]:
                say("went on")
        except procession.DeadlockError as error:
            say("told", str(error).count(" has waited "))

def members(numbers, locks, barrier):
    rest = [threading.Thread(target=member, args=(one, locks, barrier)) for one in numbers[1:]]
    for thread in rest:
        thread.start()
    member(numbers[0], locks, barrier)
    for thread in rest:
        thread.join()

def start(target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process

def circle(size, together):
    size, together = int(size), int(together)
    makers = [ctx.Lock, ctx.RLock, ctx.Condition, lambda: ctx.Condition(ctx.Lock())]
    locks = [makers[number % 4]() for number in range(size)]
    barrier = ctx.Barrier(size)
    parts = [range(size)[at : at + together] for at in range(0, size, together)]
    for process in [start(members, part, locks, barrier) for part in parts]:
        process.join()

def take(lock):
    with lock:
        pass

def join(kind):
    lock = getattr(ctx, kind)()
    with lock:
        start(take, lock).join()

def pair_by_acquire():
    one, two, barrier = ctx.Lock(), ctx.Lock(), ctx.Barrier(2)
    children = [start(by_acquire, one, two, barrier), start(by_acquire, two, one, barrier)]
    for child in children:
        child.join()

def by_acquire(one, two, barrier):
    one.acquire()
    barrier.wait()
    try:
        two.acquire()
        two.release()
        say("went on")
    except procession.DeadlockError:
        say("told")
    one.release()

def condition(kind):
    lock, condition = ctx.Lock(), ctx.Condition(getattr(ctx, kind)())
    barrier = ctx.Barrier(2)
    first = start(is_notified_in_vain, lock, condition, barrier)
    second = start(wants, lock, condition, barrier)
    first.join()
    second.join()

def is_notified_in_vain(lock, condition, barrier):
    with lock, condition:
        barrier.wait()
        condition.wait()
        say("went on")

def wants(lock, condition, barrier):
    barrier.wait()
    with condition:
        condition.notify()
        try:
            with lock:
                say("went on")
        except procession.DeadlockError:
            say("told")

def correct():
    locks = [ctx.RLock() for _ in range(4)] + [ctx.Lock() for _ in range(4)]
    event, gate, told = ctx.Event(), ctx.Lock(), ctx.Lock()
    stop = time.monotonic() + 3
    workers = [start(in_order, number, locks, stop) for number in range(3)]
    gate.acquire()
    waiter = start(waits_at, gate, told, event)
    stopped = start(holds, locks, told)
    told.acquire()
    told.acquire()  # that the holder releases: a signal
    os.kill(stopped.pid, signal.SIGSTOP)
    time.sleep(1)
    os.kill(stopped.pid, signal.SIGCONT)
    for process in workers:
        process.join()
    event.set()
    gate.release()
    waiter.join()
    stopped.join()
    say("done")

def handler_releases():
    lock = ctx.Lock()
    lock.acquire()
    signal.signal(signal.SIGCHLD, lambda number, frame: lock.release())
    sleeper = subprocess.Popen(["sleep", "1"])
    lock.acquire()
    sleeper.wait()
    say("done")

def takes(lock):
    with lock:
        pass

def thread_terminates():
    lock = ctx.RLock()
    with lock:
        child = ctx.Process(target=takes, args=(lock,))
        child.start()
        threading.Timer(1, child.terminate).start()
        child.join()
    say("done")

def holds(locks, told):
    with locks[0], locks[7]:
        told.release()
        time.sleep(0.1)

def waits_at(gate, told, event):
    gate.acquire()
    event.wait()

def in_order(number, locks, stop):
    chance = random.Random(number)
    while time.monotonic() < stop:
        held = sorted(chance.sample(range(8), 3))
        try:
            with locks[held[0]], locks[held[1]], locks[held[2]]:
                time.sleep(chance.random() * 0.01)
        except procession.DeadlockError as error:
            say(error)
        first, second = chance.sample(range(8), 2)
        with locks[first]:
            if locks[second].acquire(timeout=0.02):
                locks[second].release()

if __name__ == "__main__":
    method, mode, case, *rest = sys.argv[1:]
    ctx = procession.get_context(method)
    if mode:
        procession.deadlocks(mode)
    globals()[case](*rest)
else:
    ctx = procession
"""

ENVIRONMENT = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}


@pytest.fixture
def program(tmp_path):
    """Start the program; whatever is left of it is killed."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    started = []

    def run(method, mode, *case, environment=ENVIRONMENT):
        process = subprocess.Popen(
            [sys.executable, str(script), method, mode, *map(str, case)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def ended(process):
    """Return the lines of the program, which ends, and what it said on stderr."""
    out, err = process.communicate(timeout=LONG)
    return sorted(out.splitlines()), err


def report(process):
    """Return the lines of a report, of which nothing else comes before."""
    first = process.stderr.readline()
    found = re.fullmatch(
        r"procession: deadlock of (\d+) threads, of which none can go on:\n", first
    )
    assert found, first + process.stderr.read()
    return [process.stderr.readline() for _ in range(int(found[1]))]


@pytest.mark.parametrize("together", [1, 3])
def test_a_circle_of_any_size_is_reported_and_hangs(program, method, together):
    sizes = [2, 5, 8] if together == 1 else [4, 7]
    for process, size in [(program(method, "", "circle", size, together), size) for size in sizes]:
        lines = report(process)
        assert len(lines) == size
        assert sum("which " in line and " has held for at least " in line for line in lines) == size
        assert sum("program.py:" in line for line in lines) == size
        assert process.poll() is None


def test_a_report_comes_once(program, method):
    process = program(method, "report", "circle", 3, 1)
    report(process)
    time.sleep(2)  # real time is the subject: its threads look again, and find the same
    os.killpg(process.pid, signal.SIGKILL)
    assert process.stderr.read() == ""


@pytest.mark.parametrize("size", range(2, 9))
def test_one_member_is_told_and_the_others_go_on(program, method, size):
    together = 1 if size % 2 else 2
    said, err = ended(program(method, "raise", "circle", size, together))
    assert said == sorted([f"told {size}", *["went on"] * (size - 1)])
    assert err == ""


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_join_of_a_process_that_waits_for_the_own_lock(program, method, kind):
    process = program(method, "", "join", kind)
    lines = report(process)
    assert sum("for the end of process" in line for line in lines) == 1
    assert sum(f"for the {kind} made at" in line for line in lines) == 1


def test_of_a_join_the_other_side_is_told(program, method):
    process = program(method, "raise", "join", "RLock")
    _, err = ended(process)
    assert process.returncode == 0
    assert "DeadlockError: deadlock of 2 threads" in err


def test_locks_by_acquire_are_a_deadlock_if_every_process_waits(program, method):
    assert ended(program(method, "raise", "pair_by_acquire")) == (["told", "went on"], "")


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_condition_gets_its_lock_again(program, method, kind):
    said, err = ended(program(method, "raise", "condition", kind))
    assert said == ["told", "went on"]
    assert err == ""


@pytest.mark.parametrize("mode", ["report", "raise"])
def test_correct_programs_are_silent(program, method, mode):
    assert ended(program(method, mode, "correct")) == (["done"], "")


@pytest.mark.parametrize("case", ["handler_releases", "thread_terminates"])
def test_what_a_handler_or_another_thread_will_end_is_none(program, method, case):
    assert ended(program(method, "raise", case)) == (["done"], "")


def test_the_environment_has_the_mode(program):
    environment = {**ENVIRONMENT, "PROCESSION_DEADLOCKS": "raise"}
    said, err = ended(program("fork", "", "circle", 2, 1, environment=environment))
    assert (said, err) == (["told 2", "went on"], "")


def test_without_looking_nothing_is_said(program):
    environment = {**ENVIRONMENT, "PROCESSION_DEADLOCKS": "off"}
    process = program("fork", "", "circle", 2, 1, environment=environment)
    time.sleep(2)  # real time is the subject
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    assert process.stderr.read() == ""


def test_the_former_mode_is_returned():
    former = procession.deadlocks("off")
    try:
        assert procession.deadlocks("raise") == "off"
        assert procession.deadlocks("report") == "raise"
        with pytest.raises(ValueError, match='mode is "report", "raise" or "off", not'):
            procession.deadlocks("loud")
        assert procession.deadlocks("report") == "report"
    finally:
        procession.deadlocks(former)
