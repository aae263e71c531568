"""Programs whose processes, hosts, cables or drivers fail: ``failing.py METHOD NAME``.

Each says with a line what the test needs to know, then waits for a line as a sign to go on.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import signal
import sys
import time

from scenes import LIMIT, LONG, context_of, host, started

import procession
from procession.connection import wait


def say(*words):
    print(*words, flush=True)


def hear():
    return sys.stdin.readline().strip()


def take(lock, told, works, done):
    """Take the lock, say where, and do not return."""
    lock.acquire()
    told.put((host(), os.getpid(), procession.current_process().name))
    while True:
        time.sleep(0.01)
        done.value += works


def a_host(ctx):
    """Host 2 dies with a lock held there; processes of other hosts go on."""
    told, done = ctx.Queue(), ctx.RawValue("i", 0)
    locks = {}
    processes = {}
    for number in range(12):
        lock = ctx.Lock()
        process = started(ctx, take, lock, told, 1, done, name=f"on-{number}")[0]
        name = told.get(timeout=LONG)[0]
        locks.setdefault(name, lock)
        if processes.setdefault(name, process) is not process:
            process.kill()
            process.join(LONG)
        if len(processes) == 3:
            break
    say("ready", *sorted(processes))
    hear()
    victim = processes["host2"]
    begin = time.monotonic()
    try:
        locks["host2"].acquire(timeout=LONG)
    except procession.OwnerDied as error:
        say("OwnerDied", error.name == victim.name)
    say("after", round(time.monotonic() - begin, 1))
    assert wait([victim.sentinel], LONG)
    victim.join(LONG)
    say("exit code", victim.exitcode, victim.is_alive())
    with locks["host2"]:
        say("usable")
    before = done.value
    while done.value == before:
        time.sleep(0.01)
    say("others go on", processes["host0"].is_alive(), processes["host1"].is_alive())
    replacement = started(ctx, take, ctx.Lock(), told, 1, done)[0]
    say("a new process is elsewhere", told.get(timeout=LONG)[0] != "host2")
    for process in (processes["host0"], processes["host1"], replacement):
        process.terminate()
        process.join(LONG)
        say("exit code", process.exitcode)


def report_and_wait(told, go):
    told.put(host())
    go.wait()
    return host()


def keep(told, conn):
    told.put(host())
    conn.recv()


def a_hosts_pool(ctx):
    """Host 2 dies in the middle of tasks of two pools, and with an end of a pipe."""
    told, go = ctx.Queue(), ctx.Event()
    with ctx.Pool(6, retries=1) as patient, ctx.Pool(6) as plain:
        again = [patient.apply_async(report_and_wait, (told, go)) for _ in range(6)]
        once = [plain.apply_async(report_and_wait, (told, go)) for _ in range(6)]
        hosts = [told.get(timeout=LONG) for _ in range(12)]
        here, there = ctx.Pipe()
        for _ in range(6):
            process = started(ctx, keep, told, there)[0]
            if (name := told.get(timeout=LONG)) == "host2":
                break
            process.kill()
            process.join(LONG)
        there.close()
        say("ready", *sorted({*hosts, name}))
        hear()
        for _ in range(hosts.count("host2") // 2):
            say("again at host2", told.get(timeout=LONG) == "host2")
        failures = [one for one in once if one.ready()]
        go.set()
        say("again", len({one.get(LONG) for one in again}), all(one.successful() for one in again))
        for one in failures:
            try:
                one.get()
            except procession.WorkerDied as error:
                say(
                    "WorkerDied",
                    "on node 10.77.0.3" in str(error) and "report_and_wait" in error.task,
                )
        say("others", {one.get(LONG) for one in once if one not in failures} == {"host0", "host1"})
        try:
            here.recv()
        except EOFError:
            say("end of file")
        say("still serves", patient.map(abs, range(-9, 0), 1) == list(range(9, 0, -1)))


def compute(told):
    told.put((host(), os.getpid()))
    while True:
        pass


def starts_more(ctx_name, told):
    started(context_of(ctx_name), compute, told)
    compute(told)


def a_driver(ctx):
    """Killed with busy processes, and processes of processes, on all hosts."""
    told = ctx.Queue()
    method = ctx.get_start_method()
    started(ctx, compute, told, times=3)
    started(ctx, starts_more, method, told)
    lock = ctx.Lock()
    lock.acquire()
    started(ctx, wait_in_vain, lock, told, times=2)
    say("ready", *("/".join(map(str, told.get(timeout=LONG))) for _ in range(7)))
    hear()


def wait_in_vain(lock, told):
    told.put((host(), os.getpid()))
    lock.acquire()


def count_up(lock, counter, told, ended, turns):
    told.put((host(), os.getpid()))
    for _ in range(turns):
        with lock:
            counter.value += 1
    ended.put("counted")


def put_numbers(queue, told, ended, turns):
    told.put((host(), os.getpid()))
    for number in range(turns):
        queue.put((host(), number))
    ended.put("put")


TURNS = 800


def a_cable(ctx):
    """Cut for a while, in the middle of locks and queues: nothing is done twice or left out."""
    told, ended, queue = ctx.Queue(), ctx.Queue(), ctx.Queue()
    lock, counter = ctx.Lock(), ctx.RawValue("i", 0)
    started(ctx, count_up, lock, counter, told, ended, TURNS, times=3)
    started(ctx, put_numbers, queue, told, ended, TURNS, times=3)
    say("ready", *sorted({told.get(timeout=LONG)[0] for _ in range(6)}))
    hear()
    ends = sorted(ended.get(timeout=2 * LONG) for _ in range(6))
    items = {}
    for _ in range(3 * TURNS):
        name, number = queue.get(timeout=LONG)
        items.setdefault(name, []).append(number)
    say(*ends, counter.value == 3 * TURNS)
    # With three hosts, each has one producer.
    if len(items) == 3:
        say("in order", all(numbers == list(range(TURNS)) for numbers in items.values()))
    else:
        say("each once", sorted(itertools.chain(*items.values())) == sorted(3 * list(range(TURNS))))
    say("empty", queue.empty())


def a_long_cut(ctx):
    """A call with a timeout ends by it though its home is out of reach."""
    told, queue = ctx.Queue(), ctx.Queue()
    answers = ctx.Queue()
    for _ in range(6):
        started(ctx, ask_with_a_timeout, queue, told, answers)
    say("ready", *sorted({told.get(timeout=LONG)[0] for _ in range(6)}))
    hear()
    found = [answers.get(timeout=2 * LONG) for _ in range(6)]
    say("all ended", sorted({name for name, _ in found}))
    say("by", sorted({what for _, what in found}))


def ask_with_a_timeout(queue, told, answers):
    told.put((host(), os.getpid()))
    try:
        queue.get(timeout=3)
    except Exception as error:
        answers.put((host(), type(error).__name__))


def prints(ctx):
    for number in range(3):
        process = started(ctx, print_lines, number)[0]
        process.join(LONG)


def print_lines(number):
    for turn in range(20):
        print(f"line {turn} of {number} " + 300 * "x")
    print("to standard error", number, file=sys.stderr)


def interrupted(ctx):
    """Ctrl-C: the driver gets KeyboardInterrupt, ends, and its processes with it."""
    told = ctx.Queue()
    started(ctx, compute, told, times=3, daemon=True)
    say("ready", *("/".join(map(str, told.get(timeout=LONG))) for _ in range(3)))
    try:
        signal.pause()
    except KeyboardInterrupt:
        say("interrupted")


def tell_address(told):
    from procession._cluster import place

    told.put((host(), "{}:{}".format(*place.here().address)))


def listens(ctx):
    """Says at which addresses its nodes listen."""
    told = ctx.Queue()
    processes = started(ctx, tell_address, told, times=3)
    say("ready", *(f"{name}/{address}" for name, address in (told.get() for _ in processes)))
    hear()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    globals()[sys.argv[2]](context_of(sys.argv[1]))
    faulthandler.cancel_dump_traceback_later()
