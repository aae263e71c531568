"""How processes start in frozen programs, and beside busy threads and odd children.

How they end is tested in process/test_process.py.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest

import procession
from procession import _procession, spawn
from tests.conftest import METHODS

FROZEN = """
import os, sys
sys.frozen, sys.executable = True, os.environ["FROZEN"]
import procession
from procession import shared_memory

def double(number):
    return number * 2

def attach(name):
    shared_memory.SharedMemory(name).close()

if __name__ == "__main__":
    procession.freeze_support()
    if len(sys.argv) > 1:
        sys.exit(f"the program was started anew: {sys.argv}")
    for method in ("fork", "spawn", "forkserver"):
        ctx = procession.get_context(method)
        with ctx.Pool(2) as pool, ctx.Manager() as manager:
            print(pool.map(double, range(3)), manager.list([1]))
        memory = shared_memory.SharedMemory(create=True, size=10)
        child = ctx.Process(target=attach, args=(memory.name,))
        child.start()
        child.join()
        print(child.exitcode)
        memory.close()
        memory.unlink()
"""


def test_frozen_executables(run_program, tmp_path):
    """Each further start of the executable runs a process of the package, not the program."""
    executable = tmp_path / "executable"
    executable.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/program.py "$@"\n')
    executable.chmod(0o755)
    done = run_program(FROZEN, env={"FROZEN": str(executable)})
    assert (done.stdout, done.stderr) == ("[0, 2, 4] [1]\n0\n" * 3, "")


BESIDE_THREADS = """
import sys
import procession


class Name(str):
    "Of a module: while it is looked at another one comes, as from another thread."
    def startswith(self, *args):
        sys.modules[f"another {len(sys.modules)}"] = sys
        return super().startswith(*args)


class Value:
    "As above, of a global."
    @property
    def __class__(self):
        globals()[f"another {len(globals())}"] = None
        return object


if __name__ == "__main__":
    sys.modules[Name("first")] = sys
    value = Value()
    process = procession.get_context(sys.argv[1]).Process(target=print, args=("started",))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_other_threads_define_meanwhile_does_not_disturb_a_start(run_program, method):
    done = run_program(BESIDE_THREADS, method)
    assert (done.stdout, done.stderr) == ("started\n", "")


BESIDE_ODD = """
import os, select, sys
import procession

class Popen:
    pid = returncode = sentinel = None
    def __init__(self, process):
        pass
    def poll(self):
        return None

class Pipe:
    def __init__(self):
        self.ends = os.pipe()
        os.close(self.ends[1])
    def fileno(self):
        return self.ends[0]

if __name__ == "__main__":
    context = procession.get_context("fork")

    class Remote(context.Process):
        _Popen = Popen

    if sys.argv[1] == "no poll":
        del select.poll
    else:
        Popen.sentinel = {"None": None, "-1": -1, "huge": 1 << 80, "pipe": Pipe()}[sys.argv[1]]
    remote = Remote()
    remote.start()
    child = context.Process(target=int)
    child.start()
    while child in procession.active_children():
        pass
    print(child.exitcode, procession.active_children() == [remote], flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("odd", ["None", "-1", "huge", "pipe", "no poll"])
def test_a_process_starts_beside_odd_ones(run_program, odd):
    done = run_program(BESIDE_ODD, odd)
    assert (done.stdout, done.stderr) == ("0 True\n", "")


SLOW_TO_LOAD = """
import sys

import procession

def tell():
    slow = {"contextlib", "enum", "importlib.util", "signal", "typing"}
    print(sorted(slow & sys.modules.keys() - set(sys.argv[1:])), flush=True)

if __name__ == "__main__":
    child = procession.get_context("spawn").Process(target=tell)
    child.start()
    child.join()
"""


def test_a_spawned_child_loads_nothing_slow(run_program):
    bare = run_program("import sys; print(*sys.modules)").stdout.split()
    done = run_program(SLOW_TO_LOAD, *bare)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def pack_and_end(sender):
    """Leave with a mailbox whose receiver was not named yet, as a parent that is killed while it starts a child."""
    sender.send(_procession.Mailbox(("settings", 0)).token)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_parent_that_ended_before_its_child_took_the_request(capfd):
    receiver, sender = procession.Pipe(duplex=False)
    parent = procession.get_context("fork").Process(target=pack_and_end, args=(sender,))
    parent.start()
    sentinel = os.pidfd_open(parent.pid)
    try:
        token = receiver.recv()
        parent.join()
        assert spawn._main(token, sentinel) == 1
    finally:
        os.close(sentinel)
    assert capfd.readouterr() == ("", "")


def test_a_request_that_is_gone_though_the_parent_lives():
    sentinel = os.pidfd_open(os.getpid())
    try:
        with pytest.raises(ValueError, match="no longer exists"):
            spawn._main(_procession.Mailbox(None).token, sentinel)
    finally:
        os.close(sentinel)
