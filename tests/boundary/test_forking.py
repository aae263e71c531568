"""A fork while another thread first uses the package.

The child finds no lock held and no module half made.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(300)

#: FastPath the name of a first call, and how the child is forked. Each import in the calling thread
#: takes a while.
PROGRAM = """
import logging  # its own hooks of `fork` fail where it is loaded beside one
import os, sys, threading, time
import procession

ctx = procession.get_context("fork")
queue = ctx.SimpleQueue()


class Own:
    pass


def put(obj):
    queue.put(obj)
    queue.get()


def pool(ctx):
    with ctx.Pool(1) as pool:
        pool.apply(int)


def executor():
    with procession.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        executor.submit(int).result()


def pipe():
    one, other = ctx.Pipe()
    one.send(Own)
    other.recv()


def start(method):
    process = procession.get_context(method).Process(target=int)
    process.start()
    process.join()


def put_functions():
    for _ in range(30):
        queue.put(lambda: Own)


FIRST = {
    "get_lambda": lambda: queue.get()(),
    "put": lambda: put(1),
    "put_own": lambda: put(Own()),
    "put_lambda": lambda: put(lambda: Own),
    "lock": ctx.Lock,
    "condition": ctx.Condition,
    "queue": lambda: ctx.JoinableQueue().put(1),
    "pool": lambda: pool(ctx),
    "executor": executor,
    "value": lambda: ctx.Value("i"),
    "array": lambda: ctx.Array("i", 3),
    "pipe": pipe,
    "manager": lambda: ctx.Manager().shutdown(),
    "logger": procession.get_logger,
    "fork": lambda: start("fork"),
    "spawn": lambda: start("spawn"),
    "forkserver": lambda: start("forkserver"),
}


class Slow:
    "Tells when a module is looked for."

    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is thread:
            importing.set()
            time.sleep(0.02)  # not synchronisation: it lengthens the import
            importing.clear()


def child_of_fork():
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            first()
            code = 0
        finally:
            os._exit(code)

    def ended():
        end = time.monotonic() + 30
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(pid, 9)
                return "stuck"
            time.sleep(0.005)

    return ended


def child_of_start():
    process = ctx.Process(target=first)
    process.start()

    def ended():
        process.join(30)
        if process.exitcode is None:
            process.kill()
            return "stuck"

    return ended


if __name__ == "__main__":
    first = FIRST[sys.argv[1]]
    if sys.argv[1] == "get_lambda":
        sender = ctx.Process(target=put_functions)
        sender.start()
        sender.join()
    fork = {"os.fork": child_of_fork, "start": child_of_start}[sys.argv[2]]
    importing = threading.Event()
    sys.meta_path.insert(0, Slow())
    thread = threading.Thread(target=first)
    thread.start()
    children = []
    while thread.is_alive() and len(children) < 8:
        importing.wait(0.01)
        children.append(fork())
    thread.join()
    for ended in children:
        if (what := ended()) is not None:
            print(what)
"""

FIRST = (
    "put",
    "put_own",
    "put_lambda",
    "get_lambda",
    "lock",
    "condition",
    "queue",
    "pool",
    "executor",
    "value",
    "array",
    "pipe",
    "manager",
    "logger",
    "fork",
    "spawn",
    "forkserver",
)


@pytest.mark.parametrize("how", ["os.fork", "start"])
@pytest.mark.parametrize("first", FIRST)
def test_a_fork_beside_a_first_use(run_program, first, how):
    # From 3.12 on Python warns of a fork beside threads, which is what this tests.
    flags = ("-W", "ignore::DeprecationWarning")
    done = run_program(PROGRAM, first, how, flags=flags, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
