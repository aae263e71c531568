"""Processes: their attributes, how they end, and what their parent sees of it.

What parents and children are to each other is tested in test_family.py.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading

import pytest

import procession
from procession import process as process_module
from tests.conftest import PACKAGE_FOLDER


def nothing():
    pass


def leave(code):
    sys.exit(code)


def wait_forever():
    threading.Event().wait()


def write_name(fd):
    os.write(fd, procession.current_process().name.encode())


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not this one")


class TestAttributes:
    def test_before_during_and_after(self, both):
        child = both.Process(target=wait_forever)
        assert child.exitcode is None and child.pid is None and child.ident is None
        assert not child.is_alive()
        assert child.authkey == both.current_process().authkey
        with pytest.raises(ValueError, match="process not started"):
            _ = child.sentinel
        child.start()
        assert child.is_alive() and child.exitcode is None
        assert child.pid == child.ident and child.pid not in (None, os.getpid())
        assert child in both.active_children()
        assert not select.select([child.sentinel], [], [], 0)[0]
        child.terminate()
        assert select.select([child.sentinel], [], [])[0]
        child.join()
        assert child.exitcode == -signal.SIGTERM
        assert not child.is_alive() and child not in both.active_children()
        child.close()
        for what in ("exitcode", "pid", "sentinel"):
            with pytest.raises(ValueError, match="process object is closed"):
                getattr(child, what)
        with pytest.raises(ValueError, match="process object is closed"):
            child.join()
        assert "closed" in repr(child)

    def test_repr(self, both):
        child = both.Process(target=leave, args=(3,), name="N", daemon=True)
        kind = type(child).__name__
        assert repr(child) == f"<{kind} name='N' parent={os.getpid()} initial daemon>"
        child.start()
        pid = child.pid
        child.join()
        assert (
            repr(child)
            == f"<{kind} name='N' pid={pid} parent={os.getpid()} stopped exitcode=3 daemon>"
        )

    def test_wrong_use_says_so(self, both):
        child = both.Process(target=wait_forever)
        with pytest.raises(AssertionError, match="can only join a started process"):
            child.join()
        with pytest.raises(AssertionError, match="name must be a string"):
            child.name = 5
        child.start()
        try:
            with pytest.raises(AssertionError, match="cannot start a process twice"):
                child.start()
            with pytest.raises(AssertionError, match="process has already started"):
                child.daemon = True
            with pytest.raises(
                ValueError, match="Cannot close a process while it is still running"
            ):
                child.close()
        finally:
            child.kill()
            child.join()
        assert child.exitcode == -signal.SIGKILL
        with pytest.raises(AssertionError, match="group argument must be None for now"):
            both.Process(group=1)

    def test_the_arguments_are_let_go(self, both):
        child = both.Process(target=nothing)
        child.start()
        child.join()
        assert not {"_target", "_args", "_kwargs"} & set(vars(child))


FAILING = """
import multiprocessing, sys

def work():
    1 / 0

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
    print(child.exitcode)
"""


class TestEnd:
    @pytest.mark.parametrize(
        ("code", "expected"), [(None, 0), (0, 0), (7, 7), (True, 1), ("words", 1), (-1, 255)]
    )
    def test_exit_codes(self, both, code, expected):
        child = both.Process(target=leave, args=(code,))
        child.start()
        child.join()
        assert child.exitcode == expected

    def test_join_with_a_timeout(self, both):
        child = both.Process(target=wait_forever)
        child.start()
        child.join(0)
        child.join(0.01)
        child.join(-1)
        assert child.is_alive()
        child.kill()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGUSR1, signal.SIGSEGV])
    def test_signals_end_it_with_minus_their_number(self, ctx, signum):
        reader, writer = os.pipe()
        child = ctx.Process(target=sleep_with_defaults, args=(Descriptor(writer),))
        child.start()
        os.close(writer)
        assert os.read(reader, 1) == b"."  # it has started
        os.close(reader)
        os.kill(child.pid, signum)
        child.join()
        assert child.exitcode == -signum

    def test_interrupt_is_ctrl_c(self, run_program, method):
        done = run_program(
            """
            import procession, os, threading, sys
            def work(started):
                try:
                    started.send(1)
                    threading.Event().wait()
                except KeyboardInterrupt:
                    sys.exit(9)
            if __name__ == "__main__":
                ctx = procession.get_context(sys.argv[1])
                here, started = ctx.Pipe(duplex=False)
                child = ctx.Process(target=work, args=(started,))
                child.start()
                here.recv()
                child.interrupt()
                child.join()
                print(child.exitcode)
            """.replace("\n            ", "\n"),
            method,
        )
        assert (done.stdout, done.stderr) == ("9\n", "")

    def test_a_child_that_another_call_reaped_has_ended(self):
        child = procession.get_context("fork").Process(target=nothing)
        child.start()
        os.waitpid(child.pid, 0)
        child.join()
        assert not child.is_alive() and child.exitcode is not None

    def test_forgotten_children_are_reaped(self, ctx):
        children = [ctx.Process(target=nothing) for _ in range(3)]
        pids = []
        for child in children:
            child.start()
            pids.append(child.pid)
            select.select([child.sentinel], [], [])
        del children, child
        assert not [child for child in procession.active_children() if child.pid in pids]

    def test_exception(self, run_program, under, method):
        done = run_program(FAILING, method, under=under)
        assert done.stdout == "1\n"
        lines = done.stderr.splitlines()
        assert lines[0] == "Process Process-1:"
        assert lines[1] == "Traceback (most recent call last):"
        assert lines[-1] == "ZeroDivisionError: division by zero"

    def test_words_of_system_exit_are_printed(self, run_program, under, method):
        done = run_program(FAILING.replace("1 / 0", "sys.exit('farewell')"), method, under=under)
        assert (done.stdout, done.stderr) == ("1\n", "farewell\n")

    @pytest.mark.parametrize("flags", [["-S"], ["-E"], ["-I"], ["-S", "-E", "-I"], ["-O"], ["-u"]])
    def test_children_of_an_interpreter_with_flags(self, run_program, method, flags):
        text = FAILING.replace("1 / 0", "assert sys.flags.optimize; sys.exit(0)")
        text = f"import sys; sys.path.insert(0, {PACKAGE_FOLDER!r})\n" + text
        done = run_program(text, method, under="import", flags=flags)
        assert done.stdout == ("0\n" if "-O" in flags else "1\n"), done.stderr


def sleep_with_defaults(fd):
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGSEGV):
        signal.signal(signum, signal.SIG_DFL)
    os.write(fd.fd, b".")
    wait_forever()


class Descriptor:
    """A descriptor as an argument."""

    def __init__(self, fd):
        self.fd = fd

    def __reduce__(self):
        popen = procession.context.get_spawning_popen()
        return receive, (popen.DupFd(popen.duplicate_for_child(self.fd)),)


def receive(passed):
    return Descriptor(passed.detach())


def test_an_authentication_key_is_not_sent_by_accident(package):
    import pickle

    key = package.process.AuthenticationString(b"secret")
    with pytest.raises(TypeError, match="Pickling an AuthenticationString object is disallowed"):
        pickle.dumps(key)


def test_private_names_that_the_world_uses():
    assert process_module._current_process is procession.current_process()
    assert isinstance(process_module._children, set)
    assert len(process_module._dangling) >= 0


def test_a_process_whose_arguments_are_refused_has_taken_a_number(ctx):
    before = ctx.Process()._identity[-1]
    with pytest.raises(TypeError):
        ctx.Process(args=5)
    assert ctx.Process()._identity[-1] == before + 2


#: Exit codes of all kinds. The standard library gives the lower bits of one that is no C int, or 1.
CODES = """
import sys
import multiprocessing

class Whole(int):
    pass

class Index:
    def __index__(self):
        return 7

CODES = [
    None, 0, 1, -1, 5, 255, 256, 257, -255, -256, -257, 2**31 - 1, -2**31, 2**31, -2**31 - 1, 2**32, 2**32 + 3,
    2**40, -2**40, 2**63 - 1, 2**63, -2**63, -2**64, 2**64 + 3, 2**200, True, False, 1.5, 0.0, "text", "", (), (3,),
    (1, 2), [], Whole(9), Index(), b"bytes", float("nan"),
]

def leave(number):
    sys.exit(CODES[number])

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    codes = []
    for number in range(len(CODES)):
        child = context.Process(target=leave, args=(number,))
        child.start()
        child.join()
        codes.append(child.exitcode)
    print(codes)
"""


def test_every_exit_code_is_what_it_is_there(run_program, method):
    theirs, ours = (run_program(CODES, method, under=under) for under in ("plain", "import"))
    assert ours.stdout == theirs.stdout != ""
    large = ours.stderr.count("is too large for the system")
    assert large == (0 if method == "spawn" else 12)
    # By spawn, Python 3.13 reports what its own `sys.exit` leaves behind for a number beyond a C long.
    assert ours.stderr.count("Traceback") == theirs.stderr.count("Traceback") * (method == "spawn")


#: A thread and a function for the exit start processes when the main module has run to its end.
AFTER_MAIN = """
import atexit, sys, threading
import procession

def child(what):
    print(what, flush=True)

class Thing:
    def __repr__(self):
        return "a thing"

def start(*things):
    threading.current_thread() is threading.main_thread() or threading.main_thread().join()
    for target in child, lambda what: child(what):
        for thing in things:
            process = procession.get_context(sys.argv[1]).Process(target=target, args=(thing,))
            process.start()
            process.join()
            print(process.exitcode, flush=True)

if __name__ == "__main__":
    start("before")  # so that all is known about the main module
    atexit.register(start, "at exit", Thing())
    threading.Thread(target=start, args=("in a thread", Thing())).start()
"""


def test_processes_that_are_started_after_the_main_module_s_end(run_program, method):
    if method == "fork" and sys.version_info[:2] == (3, 12):
        pytest.skip("Python 3.12 itself refuses to fork then")
    done = run_program(AFTER_MAIN, method)
    expected = "".join(f"{where}\n0\na thing\n0\n" * 2 for where in ("in a thread", "at exit"))
    expected = "before\n0\n" * 2 + expected
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
