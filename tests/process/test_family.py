"""Parents and children: names, daemons, failed starts, and what a child inherits.

Most tests are programs of their own, run with the standard library and with procession.
"""

from __future__ import annotations

import os
import textwrap
import time

import pytest

import procession


def find_a_number_free(seconds):
    end = time.monotonic() + seconds
    first = os.dup(1)
    os.close(first)
    while time.monotonic() < end:
        try:
            os.get_inheritable(first)
        except OSError:
            continue
        raise AssertionError("another thread has opened it")


def nothing():
    pass


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not this one")


class TestFamily:
    def test_names(self, run_program, under, method):
        done = run_program(NAMES, method, under=under)
        assert done.stderr == ""
        assert done.stdout.split() == [
            "Process-1",
            "Mine",
            "Process-3",
            "Process-3:1",
            "Process-3:2",
            "Process-3:2:1",
            "Child-4",
        ]

    def test_parent_process(self, run_program, under, method):
        done = run_program(PARENT, method, under=under)
        assert (done.stdout, done.stderr) == ("True MainProcess\nTrue\nTrue\nFalse\n", "")

    def test_daemons_have_no_children(self, run_program, under, method):
        done = run_program(DAEMON_PARENT, method, under=under)
        assert done.stdout == "daemonic processes are not allowed to have children\n"

    def test_only_the_maker_may_start_and_join(self):
        ctx = procession.get_context("fork")
        mine = ctx.Process(target=nothing)
        pid = os.fork()
        if pid == 0:
            try:
                mine.start()
            except AssertionError as error:
                os._exit(str(error) == "can only start a process object created by current process")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1

    def test_children_are_joined_and_daemons_terminated_at_exit(self, run_program, under, method):
        done = run_program(AT_EXIT, method, under=under)
        assert (done.stdout, done.stderr, done.returncode) == (
            "main is done\nchild is done\n",
            "",
            0,
        )

    def test_an_error_in_start_leaves_nothing_behind(self, ctx):
        if ctx.get_start_method() == "fork":
            pytest.skip("fork pickles nothing")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            child = ctx.Process(target=nothing, args=(Unpicklable(),))
            with pytest.raises(TypeError, match="not this one"):
                child.start()
            assert child.pid is None and not child.is_alive()
            assert child not in procession.active_children()
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # this process's own sentinel

    def test_descriptors_do_not_leak(self, ctx, alone):
        def cycle():
            child = ctx.Process(target=nothing)
            child.start()
            child.join()
            child.close()

        def count():
            cycle()
            before = sorted(os.listdir("/proc/self/fd"))
            for _ in range(3):
                cycle()
            assert sorted(os.listdir("/proc/self/fd")) == before

        alone(count)

    def test_a_free_descriptor_stays_free(self, ctx):
        """A program uses descriptor numbers that it found free.

        No thread of the package takes one meanwhile.
        """
        child = ctx.Process(target=find_a_number_free, args=(2.0,), daemon=True)
        child.start()
        child.join()
        assert child.exitcode == 0

    def test_a_daemon_leaves_with_a_killed_parent(self, run_program, method):
        done = run_program(KILLED_PARENT, method)
        assert done.stderr == ""
        assert done.stdout == "ended\n"

    @pytest.mark.parametrize("force", ["", ", force=True"])
    def test_an_unguarded_main_module_is_told_so_once(self, run_program, method, force):
        if method == "fork":
            pytest.skip("fork imports nothing")
        done = run_program(UNGUARDED.replace(", force=True", force), method)
        assert done.stdout.splitlines()[-1] == "[1, 1]"
        assert done.stderr.count("RuntimeError: \n        An attempt has been made") == 2
        assert f"program.py, line {8 if method == 'spawn' and not force else 11}" in done.stderr
        assert "Traceback" not in done.stderr


NAMES = """
import multiprocessing, sys

def show(inner=()):
    print(multiprocessing.current_process().name, flush=True)
    for deeper in inner:
        run(multiprocessing.Process(target=show, args=(deeper,)))

def run(child):
    child.start()
    child.join()

class Child(multiprocessing.Process):
    def run(self):
        show()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    run(multiprocessing.Process(target=show))
    run(multiprocessing.Process(target=show, name="Mine"))
    run(multiprocessing.Process(target=show, args=([(), [()]],)))
    run(Child())
"""

PARENT = """
import multiprocessing, os, sys

def work(expected, down, up):
    parent = multiprocessing.parent_process()
    print(parent.pid == expected, parent.name, flush=True)
    print(parent.is_alive(), flush=True)
    child = multiprocessing.Process(target=outlive, args=(down, up))
    child.start()
    up.send(child.pid)
    down.recv()
    os._exit(0)

def outlive(down, up):
    parent = multiprocessing.parent_process()
    print(parent.is_alive(), flush=True)
    down.send("go")
    parent.join()
    print(parent.is_alive(), flush=True)
    up.send("done")

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    here, there = multiprocessing.Pipe()
    down, up = multiprocessing.Pipe()
    child = multiprocessing.Process(target=work, args=(os.getpid(), down, there))
    child.start()
    here.recv()
    up.send(up.recv())
    child.join()
    here.recv()
"""

PARENT = textwrap.dedent(PARENT)

DAEMON_PARENT = """
import multiprocessing, sys

def work():
    try:
        multiprocessing.Process(target=print).start()
    except AssertionError as error:
        print(error, flush=True)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=work, daemon=True)
    child.start()
    child.join()
"""

AT_EXIT = """
import multiprocessing, sys, threading

def work(go):
    go.recv()
    print("child is done", flush=True)

def forever():
    threading.Event().wait()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    there, here = multiprocessing.Pipe(duplex=False)
    multiprocessing.Process(target=forever, daemon=True).start()
    multiprocessing.Process(target=work, args=(there,)).start()
    print("main is done", flush=True)
    here.send("go")
"""

KILLED_PARENT = """
import procession, procession.connection, os, signal, sys, threading

def forever():
    while True:  # busy, in the interpreter
        pass

def parent(up):
    child = procession.Process(target=forever, daemon=True)
    child.start()
    up.send(child.pid)
    threading.Event().wait()

if __name__ == "__main__":
    procession.set_start_method(sys.argv[1])
    here, there = procession.Pipe()
    middle = procession.Process(target=parent, args=(there,))
    middle.start()
    daemon = os.pidfd_open(here.recv())
    middle.kill()
    middle.join()
    if procession.connection.wait([daemon], 30):
        print("ended")
    else:
        signal.pidfd_send_signal(daemon, signal.SIGKILL)
"""

UNGUARDED = """
import procession, sys

def work():
    pass

if True:
    procession.set_start_method(sys.argv[1], force=True)
    children = [procession.Process(target=work) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print([child.exitcode for child in children])
"""
