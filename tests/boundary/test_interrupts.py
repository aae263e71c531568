"""Ctrl-C while something is made, used or ended: part of `make storm`'s `interrupts`.

No process hangs, none is left, and only the user's own process reports the interrupt.
"""

from __future__ import annotations

import _thread
import importlib
import inspect
import itertools
import os
import pathlib
import pkgutil
import select
import signal
import subprocess
import sys

import pytest

import procession
from procession import _procession, context, process, spawn
from tests.boundary.calls import at_call
from tests.conftest import PACKAGE_FOLDER
from tests.storm import interrupts

pytestmark = pytest.mark.timeout(600)

#: The number of points tried in each program.
POINTS = 5


def test_no_line_turns_an_interrupt_into_another_error():
    """Before Python 3.12, what `__set_name__` raises arrives as a RuntimeError."""
    sources = pathlib.Path(procession.__file__).parent.rglob("*.py")
    texts = {source.name: source.read_text() for source in sources}
    assert len(texts) > 60
    assert [name for name, text in texts.items() if "def __set_name__(" in text] == []


@pytest.mark.parametrize("scene", interrupts.SCENES)
def test_an_interrupt_anywhere(scene, method):
    if scene == "imports" and method != "fork":
        pytest.skip("is the same by every start method")
    points = interrupts.points_of(scene, method)
    for number in range(POINTS):
        # Most lines belong to the imports, which come first.
        interrupts.at_line(scene, method, points[-1 - number * len(points) // 3 // POINTS])
    interrupts.at_line(scene, method, points[len(points) // 3])
    interrupts.at_random(scene, method, 1)


def classes_with_finalizers():
    for module in pkgutil.walk_packages(procession.__path__, "procession."):
        # joblib and pytest may be missing.
        unasked = ("__main__", "win32", "._procession", "._start.tracker", ".joblib", "plugin")
        if module.name.endswith(unasked):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            ours = inspect.isclass(cls) and cls.__module__.startswith("procession")
            if ours and hasattr(cls, "__del__"):
                yield cls


def test_a_finalizer_takes_an_object_whose_making_was_interrupted(monkeypatch):
    """An interrupt may come before `__init__` has set any attribute."""
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    classes = set(classes_with_finalizers())
    assert len(classes) > 8, classes
    for cls in classes:
        cls.__new__(cls)
    assert not unraisable


SLOW_TO_IMPORT = """
import sys, time
import procession
from procession import _procession

if __name__ == "__main__":
    child = procession.get_context(sys.argv[1]).Process(target=print)
    child.start()
    child.join()
else:
    print("importing", flush=True)
    while True:  # an interrupt just before a sleep may be heard only after it (seen with CPython 3.14)
        time.sleep(0.1)
"""


@pytest.mark.parametrize("own_method", ["spawn", "forkserver"])
def test_ctrl_c_while_a_child_imports_the_main_module(tmp_path, own_method):
    """All processes of a terminal get it, and only the one that the user started reports it."""
    file = tmp_path / "program.py"
    file.write_text(SLOW_TO_IMPORT)
    program = subprocess.Popen(
        [sys.executable, file, own_method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
        start_new_session=True,
    )
    assert program.stdout.readline() == "importing\n"
    os.killpg(program.pid, signal.SIGINT)
    interrupts.check(program, 60)
    assert program.returncode == -signal.SIGINT


def sleeper():
    return _procession.spawn_exec("/bin/sleep", ["sleep", "600"], [])


def test_a_child_whose_start_raises_is_ended():
    kept = sleeper()
    with pytest.raises(KeyboardInterrupt), _procession.Birth():
        with _procession.Birth():
            recorded = sleeper()
        ended = [sleeper(), _procession.fork(lambda: os.execv("/bin/sleep", ["sleep", "600"]))]
        raise KeyboardInterrupt
    assert [child.poll() for child in ended] == [-signal.SIGKILL] * 2
    for child in (kept, recorded):
        assert child.poll() is None
        child.kill(signal.SIGKILL)
        child.wait()


def test_a_child_whose_object_an_interrupt_drops_is_ended():
    """Between the call that makes a child and the assignment, an interrupt drops what was returned."""
    reader, writer = os.pipe()  # the child has the writing end, too
    os.set_inheritable(writer, True)
    with pytest.raises(KeyboardInterrupt), _procession.Birth():
        _procession.fork(lambda: os.execv("/bin/sleep", ["sleep", "600"]))
        os.close(writer)
        raise KeyboardInterrupt
    ready, _, _ = select.select([reader], [], [], 30)
    assert ready and os.read(reader, 1) == b"", "the child lives"
    os.close(reader)


def test_an_interrupt_after_the_start_keeps_the_child(monkeypatch):
    """The call of `Birth.__exit__` runs signal handlers when the child is already kept."""

    class Trip:
        __del__ = staticmethod(_thread.interrupt_main)

    class Children(set):
        def add(self, item):
            super().add(item)
            return Trip()  # dropped when the block's last call has returned

    monkeypatch.setattr(process, "_children", Children())
    child = procession.get_context("fork").Process(
        target=os.execv, args=("/bin/sleep", ["sleep", "600"])
    )
    with pytest.raises(KeyboardInterrupt):
        child.start()
    assert procession.active_children() == [child]
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL


WITH_A_LOCK_FILE = """
import os, signal, sys, time
import procession

if __name__ == "__main__":
    child = procession.get_context(sys.argv[1]).Process(target=print)
    child.start()
    child.join()
    print(child.exitcode)
else:
    handler = signal.getsignal(signal.SIGINT)
    open("lock", "x").close()
    try:
        print(os.getpid(), flush=True)
        while True:  # an interrupt just before a sleep may be heard only after it (seen with CPython 3.14)
            time.sleep(0.1)
    except KeyboardInterrupt:
        print("caught", handler is signal.default_int_handler, flush=True)
        if sys.argv[2] == "raise":
            raise
    finally:
        os.remove("lock")
"""


def program(folder, text, *arguments):
    (folder / "program.py").write_text(text)
    return subprocess.Popen(
        [sys.executable, "program.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
    )


@pytest.mark.parametrize(
    ("own_method", "then", "exitcode"),
    [("spawn", "raise", "1"), ("spawn", "go on", "0"), ("forkserver", "go on", "0")],
)
def test_the_main_module_handles_an_interrupt_of_its_import(tmp_path, own_method, then, exitcode):
    with program(tmp_path, WITH_A_LOCK_FILE, own_method, then) as parent:
        os.kill(int(parent.stdout.readline()), signal.SIGINT)
        out, err = parent.communicate(timeout=60)
    assert out.split() == ["caught", "True", exitcode]
    assert not err
    assert not (tmp_path / "lock").exists()


AT_EXIT = """
import atexit, os, sys, time
import procession

def slow():
    try:
        print(os.getpid(), flush=True)
        while True:  # an interrupt just before a sleep may be heard only after it (seen with CPython 3.14)
            time.sleep(0.1)
    finally:
        print("finally", flush=True)

def target():
    global file
    file = open("data", "w")
    file.write("flushed")
    atexit.register(print, "next", flush=True)
    atexit.register(slow)

if __name__ == "__main__":
    child = procession.get_context("spawn").Process(target=target)
    child.start()
    child.join()
    print(child.exitcode)
"""


def test_an_interrupt_at_a_spawned_child_s_exit(tmp_path):
    """The other functions of `atexit` run, and files are flushed."""
    with program(tmp_path, AT_EXIT) as parent:
        os.kill(int(parent.stdout.readline()), signal.SIGINT)
        out, err = parent.communicate(timeout=60)
    assert out.split() == ["finally", "next", "0"]
    # CPython 3.15 writes no colon where there is no text.
    assert err.endswith(("KeyboardInterrupt: \n", "KeyboardInterrupt\n")) and "in slow" in err
    assert (tmp_path / "data").read_text() == "flushed"


LIBRARY_TARGET = """
import subprocess, sys
import procession

if __name__ == "__main__":
    command = ["sh", "-c", "kill -INT $PPID"]
    child = procession.get_context(sys.argv[1]).Process(target=subprocess.call, args=(command,))
    child.start()
    child.join()
    print(child.exitcode)
"""


def test_an_interrupt_of_a_library_function_is_reported(tmp_path, method):
    with program(tmp_path, LIBRARY_TARGET, method) as parent:
        out, err = parent.communicate(timeout=60)
    assert out == "1\n"
    assert err.startswith("Process ") and err.endswith("KeyboardInterrupt\n")


#: The module is imported at first use. An interrupt comes in the middle, and then code that is text
#: runs, as it does where a module makes named tuples: CPython then forgets that an interrupt has ended
#: the program.
FIRST_USE = """
import atexit, pathlib, threading
from procession._procession import import_whole

ending, ran = threading.Event(), threading.Event()

def at_exit():
    ending.set()
    ran.wait(30)

atexit.register(at_exit)
pathlib.Path("needed.py").write_text('''
import os, signal
from __main__ import ending, ran
os.kill(os.getpid(), signal.SIGINT)
ending.wait(0.5)  # in vain: the program waits for this import
exec("pass")
ran.set()
''')
import_whole("needed")
"""


def test_an_interrupt_while_a_module_is_imported_ends_the_program_by_the_signal(tmp_path):
    with program(tmp_path, FIRST_USE) as parent:
        _, err = parent.communicate(timeout=60)
    assert (parent.returncode, err.endswith("KeyboardInterrupt\n")) == (-signal.SIGINT, True), err


def test_an_interrupted_start_leaves_no_mode_of_pickling():
    """A thread that went on pickling as for a new process could not send what others can receive."""
    child = procession.get_context("spawn").Process(target=print)
    spawn.SpawnRequest("a Popen", child)  # imports what it needs
    for number in itertools.count():
        try:
            at_call(number, lambda: spawn.SpawnRequest("a Popen", child))
            break
        except KeyboardInterrupt:
            assert context.get_spawning_popen() is None, number
    assert number > 5
