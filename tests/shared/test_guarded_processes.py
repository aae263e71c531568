"""Accesses to `Value` and `Array` by several processes and threads at once.

`test_guarded.py` has what one access does.
"""

import os
import pathlib
import signal
import threading

import pytest

import procession
from tests.waiting import until


def write(value, number):
    value.value = number


def add(value, array, real, times):
    for number in range(times):
        value.add(1)
        array.add(number % 3, -2)
        real.add(0.5)
        with array.get_lock():
            array[0] += 1


def add_for_ever(value, started):
    started.set()
    while True:
        value.add(1)


def hold(value, held):
    value.acquire()
    held.set()
    signal.pause()


def tickets(value, queue, count):
    queue.put([value.add(1) for _ in range(count)])


class TestProcesses:
    def test_additions_are_exact(self, ctx):
        value, array, real = ctx.Value("i"), ctx.Array("q", 3), ctx.Value("d")
        children = [ctx.Process(target=add, args=(value, array, real, 9_000)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert (value.value, real.value) == (27_000, 13_500)
        assert array[:] == [-18_000 + 27_000, -18_000, -18_000]

    def test_each_gets_a_number_of_its_own(self, ctx):
        value, queue = ctx.Value("L"), ctx.Queue()
        children = [ctx.Process(target=tickets, args=(value, queue, 3_000)) for _ in range(3)]
        for child in children:
            child.start()
        drawn = sorted(number for _ in children for number in queue.get())
        for child in children:
            child.join()
        assert drawn == list(range(9_000)) and value.value == 9_000

    @pytest.mark.parametrize("access", ["value.value", "value.add(1)", "write(value, 4)"])
    def test_a_holder_that_dies(self, ctx, access):
        value, held = ctx.Value("i", 3), ctx.Event()
        child = ctx.Process(target=hold, args=(value, held))
        child.start()
        held.wait()
        child.kill()
        with pytest.raises(procession.OwnerDied) as caught:
            eval(access)
        assert caught.value.pid == child.pid
        child.join()
        assert value.value == 3

    def test_killed_inside_an_access(self, ctx):
        for _ in range(4):
            value, started = ctx.Value("i"), ctx.Event()
            child = ctx.Process(target=add_for_ever, args=(value, started))
            child.start()
            started.wait()
            child.kill()
            child.join()
            try:
                reached = value.add(0)
            except procession.OwnerDied as error:
                assert error.pid == child.pid
                reached = value.value
            assert value.add(1) == reached and value.value == reached + 1

    def test_a_wait_hears_signals(self, ctx):
        value, held = ctx.Value("i"), ctx.Event()
        child = ctx.Process(target=hold, args=(value, held))
        child.start()
        held.wait()

        def interrupt(*_):
            raise InterruptedError("heard")

        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            waiting = threading.Thread(target=signal_when_asleep, args=(os.getpid(),))
            waiting.start()
            with pytest.raises(InterruptedError, match="heard"):
                assert value.value
        finally:
            signal.signal(signal.SIGUSR1, before)
            waiting.join()
            child.kill()
            child.join()

    def test_a_wait_lets_other_threads_run(self):
        value, steps = procession.Array("i", 2), []
        lock = value.get_lock()
        held, go_on = threading.Event(), threading.Event()

        def holder():
            with lock:
                held.set()
                go_on.wait()
                steps.append("released")

        thread = threading.Thread(target=holder)
        thread.start()
        held.wait()
        threading.Timer(0.05, go_on.set).start()
        assert value[:] == [0, 0] and steps == ["released"]
        thread.join()


def signal_when_asleep(pid):
    """Signal a process once its main thread is asleep."""
    until(
        lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    )
    os.kill(pid, signal.SIGUSR1)
