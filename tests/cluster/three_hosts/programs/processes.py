"""Scenes of processes on several hosts: placement, exit codes, signals, joins, names."""

from __future__ import annotations

import os
import signal
import sys
import time

from scenes import LONG, host, hosts_of, joined, main, started, until

import procession
from procession.connection import wait


def report(queue, word):
    queue.put((word, host(), os.getpid()))


def processes_run_on_all_hosts(ctx):
    queue = ctx.SimpleQueue()
    processes = [ctx.Process(target=report, args=(queue, number)) for number in range(6)]
    for process in processes:
        process.start()
    reports = [queue.get() for _ in processes]
    joined(processes)
    assert sorted(word for word, _, _ in reports) == list(range(6))
    assert len({name for _, name, _ in reports}) == hosts_of(ctx.get_start_method()), reports
    assert os.getpid() not in [pid for _, name, pid in reports if name == host()]


def close_stderr():
    """What Python reports of this process's end goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def end_by(how):
    if how == "exit":
        sys.exit(7)
    elif how == "text":
        close_stderr()
        sys.exit("a text")
    elif how == "_exit":
        os._exit(9)
    elif how == "error":
        close_stderr()
        raise ValueError("the scene's")
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def exit_codes(ctx):
    want = {"return": 0, "exit": 7, "text": 1, "_exit": 9, "error": 1, "kill": -signal.SIGKILL}
    processes = {how: started(ctx, end_by, how)[0] for how in want}
    for process in processes.values():
        process.join(LONG)
    assert {how: process.exitcode for how, process in processes.items()} == want


def sleep_once_ready(ready, ignore=False):
    if ignore:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.release()
    time.sleep(10 * LONG)


def terminate_and_kill(ctx):
    ready = ctx.Semaphore(0)
    processes = started(ctx, sleep_once_ready, ready, times=3)
    stubborn = started(ctx, sleep_once_ready, ready, True)[0]
    for _ in range(4):
        assert ready.acquire(timeout=LONG)
    for process in processes:
        assert process.is_alive() and process.exitcode is None
        process.terminate()
    stubborn.terminate()
    for process in processes:
        process.join(LONG)
        assert process.exitcode == -signal.SIGTERM and not process.is_alive()
    stubborn.join(0.2)
    assert stubborn.exitcode is None and stubborn.is_alive()
    stubborn.kill()
    stubborn.join(LONG)
    assert stubborn.exitcode == -signal.SIGKILL
    stubborn.close()


def wait_for(event):
    event.wait()


def a_join_with_a_timeout(ctx):
    event = ctx.Event()
    processes = started(ctx, wait_for, event, times=3)
    for process in processes:
        process.join(0.05)
        assert process.exitcode is None and process.is_alive()
    assert set(processes) <= set(procession.active_children())
    event.set()
    joined(processes)
    assert not set(processes) & set(procession.active_children())


def sentinels(ctx):
    events = [ctx.Event() for _ in range(3)]
    processes = [started(ctx, wait_for, event)[0] for event in events]
    left = {process.sentinel: process for process in processes}
    assert wait(list(left), 0.05) == []
    for event, process in zip(events, processes, strict=True):
        event.set()
        assert wait(list(left), LONG) == [process.sentinel]
        del left[process.sentinel]
    joined(processes)


def tell_names(queue):
    own = procession.current_process()
    parent = procession.parent_process()
    queue.put((own.name, own.daemon, own.pid == os.getpid(), parent.name))


def names_and_daemons(ctx):
    queue = ctx.SimpleQueue()
    for name, daemon in (("first", False), ("second", True), ("third", False)):
        process = started(ctx, tell_names, queue, name=name, daemon=daemon)[0]
        assert (process.name, process.daemon) == (name, daemon)
        assert queue.get() == (name, daemon, True, "MainProcess")
        joined([process])


def look_at_parent(queue):
    try:
        queue.put(procession.parent_process().is_alive())
    except NotImplementedError as error:
        queue.put(str(error))


def a_living_parent(ctx):
    """Not known on another host, which an error says."""
    queue = ctx.SimpleQueue()
    processes = started(ctx, look_at_parent, queue, times=3)
    answers = [queue.get() for _ in processes]
    joined(processes)
    unknown = [answer for answer in answers if answer is not True]
    assert all("is not known here" in answer for answer in unknown)
    assert len(unknown) <= hosts_of(ctx.get_start_method()) - 1


def subclass_of(context):
    class Doubler(context.Process):
        def __init__(self, number, queue):
            super().__init__()
            self.number, self.queue = number, queue

        def run(self):
            self.queue.put((self.number * 2, host()))

    return Doubler


def a_subclass_with_a_run_of_its_own(ctx):
    queue = ctx.SimpleQueue()
    cls = subclass_of(ctx)
    processes = [cls(number, queue) for number in range(3)]
    for process in processes:
        process.start()
    assert sorted(queue.get()[0] for _ in processes) == [0, 2, 4]
    joined(processes)


def start_more(ctx_name, queue, depth):
    report(queue, depth)
    if depth:
        from scenes import context_of

        more = started(context_of(ctx_name), start_more, ctx_name, queue, depth - 1)
        joined(more)


def processes_of_processes(ctx):
    queue = ctx.SimpleQueue()
    first = started(ctx, start_more, ctx.get_start_method(), queue, 2)
    reports = [queue.get() for _ in range(3)]
    assert [word for word, _, _ in reports] == [2, 1, 0]
    assert len({(name, pid) for _, name, pid in reports}) == 3
    joined(first)


def start_as_a_daemon(ctx_name, queue):
    from scenes import context_of

    try:
        context_of(ctx_name).Process(target=report, args=(queue, "no")).start()
    except AssertionError:
        queue.put("refused")


def a_daemonic_process_has_no_children(ctx):
    queue = ctx.SimpleQueue()
    process = started(ctx, start_as_a_daemon, ctx.get_start_method(), queue, daemon=True)[0]
    assert queue.get() == "refused"
    joined([process])


def the_driver_sees_an_exit_without_a_join(ctx):
    process = started(ctx, end_by, "exit")[0]
    until(lambda: not process.is_alive())
    assert process.exitcode == 7


if __name__ == "__main__":
    main()
