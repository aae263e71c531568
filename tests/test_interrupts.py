"""Ctrl-C while something is made, used or ended: part of `make storm`'s `interrupts`."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import signal
import subprocess
import sys

import pytest
from conftest import PACKAGE_FOLDER
from storm import interrupts

import procession
from procession import _procession

pytestmark = pytest.mark.timeout(600)

#: The number of points tried in each program.
POINTS = 5


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
        if module.name.endswith(("__main__", "win32", "._procession", "._tracker")):
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
    time.sleep(600)
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
