"""Functions of the package that tools (tracers, coverage, debuggers) replace are used.

Programs replace them as such a tool does, and report which replacement was called.
"""

from __future__ import annotations

import pytest

PATCHED = """
import multiprocessing, os, sys
import multiprocessing.process, multiprocessing.spawn, multiprocessing.util
from multiprocessing import resource_tracker

class Stowaway:
    def __reduce__(self):
        return exec, ("import os; os.environ['STOWED'] = 'yes'", {})

def look(queue):
    queue.put([os.environ.get(name) for name in ("STOWED", "BOOTED", "RUN", "FORKED")])

def forked(obj):
    os.environ["FORKED"] = "yes"

class Child:
    pass

def patch():
    process, spawn, util = multiprocessing.process, multiprocessing.spawn, multiprocessing.util
    bootstrap, run = process.BaseProcess._bootstrap, process.BaseProcess.run

    def new_bootstrap(self, *args, **kwargs):
        os.environ["BOOTED"] = "yes"
        return bootstrap(self, *args, **kwargs)

    def new_run(self):
        os.environ["RUN"] = "yes"
        return run(self)

    process.BaseProcess._bootstrap, process.BaseProcess.run = new_bootstrap, new_run
    util.register_after_fork(Child, forked)
    data, line, start = spawn.get_preparation_data, spawn.get_command_line, util.spawnv_passfds

    def new_data(name):
        return {**data(name), "stowaway": Stowaway()}

    def new_line(**kwds):
        seen.append("line")
        return line(**kwds)

    def new_start(path, args, passfds):
        text = " ".join(map(os.fsdecode, args))
        words = ("resource_tracker", "multiprocessing.forkserver", "spawn_main")
        seen.extend(word for word in words if word in text and word not in seen)
        return start(path, args, passfds)

    spawn.get_preparation_data, spawn.get_command_line, util.spawnv_passfds = new_data, new_line, new_start

seen = []
patch()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    child = context.Process(target=look, args=(queue,))
    child.start()
    print(queue.get())
    child.join()
    resource_tracker.ensure_running()
    print(sorted(seen))
"""

#: What a child has seen: the entry added to its settings, `_bootstrap`, `run`, the after-fork
#: function.
IN_CHILD = {
    "fork": [None, "yes", "yes", "yes"],
    "spawn": ["yes", "yes", "yes", None],
    "forkserver": ["yes", "yes", "yes", "yes"],
}
STARTED = {
    "fork": ["resource_tracker"],
    "spawn": ["line", "resource_tracker", "spawn_main"],
    "forkserver": ["multiprocessing.forkserver", "resource_tracker"],
}


@pytest.mark.parametrize("under", ["plain", "run"])
def test_what_a_tool_patches_is_used(run_program, under, method):
    done = run_program(PATCHED, method, under=under)
    assert (done.stdout, done.stderr) == (f"{IN_CHILD[method]}\n{STARTED[method]}\n", "")


TAKEN_OVER = """
import multiprocessing, os, sys
import multiprocessing.util

def leave(code):
    sys.exit(code)

if __name__ == "__main__":
    original = multiprocessing.util.spawnv_passfds

    def start(path, args, passfds):
        for fd in passfds:
            os.set_inheritable(fd, True)
        pid = os.posix_spawn(path, args, os.environ)
        for fd in passfds:
            os.set_inheritable(fd, False)
        return pid

    multiprocessing.util.spawnv_passfds = start
    context = multiprocessing.get_context(sys.argv[1])
    child = context.Process(target=leave, args=(5,))
    child.start()
    child.join(60)
    print(child.exitcode)
    multiprocessing.util.spawnv_passfds = original
"""


@pytest.mark.parametrize("under", ["plain", "run"])
@pytest.mark.parametrize("own_method", ["spawn", "forkserver"])
def test_a_tool_that_starts_processes_itself(run_program, under, own_method):
    done = run_program(TAKEN_OVER, own_method, under=under)
    assert (done.stdout, done.stderr) == ("5\n", "")
