"""Modules loaded by importing the package and making its first objects.

They are no more than those that the standard library loads, and, except for two, are among these.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap

import pytest

from tests.conftest import PACKAGE_FOLDER

#: A program's first step -> how many modules it may load besides those of the import.
FIRST_STEPS = {
    "{p}": 0,
    "{p}.Process": 0,
    "{p}.Lock()": 2,
    "{p}.Condition()": 2,
    "{p}.Event()": 2,
    "{p}.Queue()": 12,  # with what `put` needs: see `queues`
    "{p}.get_context('fork').Process().start()": 10,
    "{p}.Pipe()": 40,
    "{p}.Value('i')": 40,
    "{p}.get_context('fork').Pool(1).terminate()": 28,
    "__import__('{p}.spawn')": 9,
    "__import__('{p}.forkserver')": 22,
    "__import__('{p}.managers')": 80,
    "__import__('{p}.shared_memory')": 12,
}

#: What later CPythons load beside `warnings` (3.14) and `math` (3.15), which are in several modules there.
IN_PARTS = {"_py_warnings", "_math_integer", "math.integer"}
#: Slow to load, and not needed by any first step.
NEVER = {"typing", "tempfile", "shutil", "random", "logging", "subprocess", "inspect", "asyncio"}


def loaded(package: str, step: str) -> set[str]:
    """Return the modules that a step loads in a fresh interpreter, from `import` on."""
    text = f"""
        import sys
        sys.path.insert(0, {PACKAGE_FOLDER!r})
        before = set(sys.modules)
        import {package}
        {step.format(p=package)}
        print(sorted(set(sys.modules) - before))
    """
    command = [sys.executable, "-I", "-S", "-c", textwrap.dedent(text)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return set(ast.literal_eval(run.stdout))


def others(modules: set[str], package: str) -> set[str]:
    return {name for name in modules if name.partition(".")[0] != package}


@pytest.mark.parametrize("step", FIRST_STEPS)
def test_a_first_step_loads_no_more_than_the_standard_library_s(step):
    theirs = loaded("multiprocessing", step)
    ours = loaded("procession", step)
    assert len(ours) <= len(theirs)
    added = others(ours, "procession") - others(theirs, "multiprocessing")
    # A pool's parent loads what its forked workers would load each.
    assert added <= {"__future__", "gc", "faulthandler"}
    if "managers" not in step:  # the standard library's managers load some of these too
        assert not ours & NEVER
    assert len(ours - loaded("procession", "{p}") - IN_PARTS) <= FIRST_STEPS[step]


def test_the_package_itself_is_five_modules():
    own = {name for name in loaded("procession", "{p}") if name.startswith("procession")}
    parts = "_errors", "_pickling", "context", "process"
    assert own == {"procession", *(f"procession.{part}" for part in parts)}


def test_locks_do_not_load_queues_nor_the_other_way_round():
    lock, queue = loaded("procession", "{p}.Lock()"), loaded("procession", "{p}.Queue()")
    assert "procession.synchronize" in lock and "procession.queues" not in lock
    assert "procession.queues" in queue and "procession.synchronize" not in queue
    assert not (lock | queue) & {"procession.connection", "procession.util"}
    assert "procession.reduction" not in lock and not {"pickle", "socket"} & queue


#: The first thing that goes by value is put while the interpreter ends, when no other thread can begin to run Python.
BY_VALUE_AT_THE_END = """
import atexit, gc, sys
import procession
from procession._procession import import_whole

class Thing:
    def __del__(self):
        queue.put(lambda: 0)
        print(sys.is_finalizing())

atexit.register(import_whole, "colorsys")  # called without a frame of Python's
queue = procession.Queue()
queue.put(object)
queue.get()
gc.set_threshold(0)
thing = Thing()
thing.itself = thing
del thing
"""


def test_a_first_import_while_the_interpreter_ends(run_program):
    done = run_program(BY_VALUE_AT_THE_END)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
