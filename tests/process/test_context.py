"""Contexts, start methods, and the names of the package.

What each function of a context makes is tested with its kind.
"""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import sys

import pytest

import procession
import procession.forkserver
from tests.conftest import PACKAGE_FOLDER

OWN_MODULES = [
    "context",
    "process",
    "util",
    "spawn",
    "forkserver",
    "popen_fork",
    "popen_spawn_posix",
    "popen_forkserver",
    "dummy",
    "dummy.connection",
]


@pytest.mark.parametrize("name", ["", *OWN_MODULES])
def test_every_name_of_the_standard_library_is_here(name):
    theirs = importlib.import_module(f"multiprocessing.{name}".rstrip("."))
    ours = importlib.import_module(f"procession.{name}".rstrip("."))
    assert set(theirs.__all__) <= set(ours.__all__)
    for public in theirs.__all__:
        ours_one, theirs_one = getattr(ours, public), getattr(theirs, public)
        if inspect.isclass(theirs_one):
            assert {n for n in dir(theirs_one) if n[0] != "_"} <= {
                n for n in dir(ours_one) if n[0] != "_"
            }
        elif inspect.isfunction(theirs_one) and public[0] != "_":
            wanted = list(inspect.signature(theirs_one).parameters)
            if public not in ("get_command_line", "set_forkserver_preload"):
                ours_names = inspect.signature(ours_one).parameters
                ours_names = [n for n in ours_names if n not in ADDED or n in wanted]
                assert ours_names == wanted, public


#: Parameters that procession adds, all of them keywords.
ADDED = (
    "die_with_parent",
    "recover",
    "task_timeout",
    "retries",
    "max_rss",
    "worker_exit",
    "seed",
    "threads_per_worker",
    "name",
    "options",
)


def test_signatures_of_methods(method):
    for theirs, ours in [
        (multiprocessing.get_context(method), procession.get_context(method)),
        (multiprocessing.context._default_context, procession.context._default_context),
        (multiprocessing.process.BaseProcess, procession.process.BaseProcess),
    ]:
        for name in dir(theirs):
            one = getattr(theirs, name)
            if (
                name.startswith("_")
                or not inspect.isroutine(one)
                or name == "set_forkserver_preload"
            ):
                continue
            wanted = [(p.name, p.kind) for p in inspect.signature(one).parameters.values()]
            assert [
                (p.name, p.kind)
                for p in inspect.signature(getattr(ours, name)).parameters.values()
                if p.name not in ADDED or (p.name, p.kind) in wanted
            ] == wanted


def test_nothing_stands_beside_all():
    public = {
        n for n in vars(procession) if n[0] != "_" and not inspect.ismodule(getattr(procession, n))
    }
    assert public - set(procession.__all__) == {"SUBDEBUG", "SUBWARNING"}
    assert {"install", "log_to_file"} <= set(procession.__all__)


def test_concrete_contexts(package, method):
    context = package.get_context(method)
    assert context.get_start_method() == method
    assert context.get_context() is context
    assert context.get_context("spawn").get_start_method() == "spawn"
    assert context.Process._start_method == method
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        context.set_start_method("spawn")
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        context.get_context("thread")


CHOICE = """
import multiprocessing as mp
print(mp.get_all_start_methods())
print(mp.get_start_method(allow_none=True))
mp.set_start_method("spawn")
print(mp.get_start_method())
try:
    mp.set_start_method("fork")
except RuntimeError as error:
    print(error)
mp.set_start_method("forkserver", force=True)
print(mp.get_start_method(), mp.get_context().get_start_method())
mp.set_start_method(None, force=True)
print(mp.get_start_method(allow_none=True), mp.get_start_method() == mp.get_all_start_methods()[0])
try:
    mp.set_start_method("thread", force=True)
except ValueError as error:
    print(error)
print(mp.reducer.__name__.rpartition(".")[2], mp.cpu_count() >= 1)
"""


def test_choosing_a_start_method(run_program):
    expected = run_program(CHOICE).stdout
    default = "forkserver" if sys.version_info >= (3, 14) else "fork"
    assert expected.startswith(f"['{default}'")
    for under in ("import", "run"):
        done = run_program(CHOICE, under=under)
        assert (done.stdout, done.stderr) == (expected, "")


@pytest.mark.parametrize("name", ["forkserver", "spawn"])
def test_children_of_children_use_the_same_method(run_program, under, name):
    done = run_program(
        """
import multiprocessing as mp, sys

def show(depth):
    print(mp.get_start_method(), type(mp.get_context()).__name__, flush=True)
    if depth:
        child = mp.Process(target=show, args=(depth - 1,))
        child.start()
        child.join()

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    show(2)
""",
        name,
        under=under,
    )
    line = f"{name} {'ForkServer' if name == 'forkserver' else 'Spawn'}Context\n"
    assert (done.stdout, done.stderr) == (line * 3, "")


def test_importing_loads_little(run_program):
    done = run_program(
        """
import sys
before = set(sys.modules)
import procession
heavy = {"logging", "subprocess", "tempfile", "shutil", "socket", "pickle", "selectors", "ctypes", "random"}
print(sorted(heavy & (set(sys.modules) - before)))
print("multiprocessing" in sys.modules)
""",
    )
    assert (done.stdout, done.stderr) == ("[]\nFalse\n", "")


PRELOAD = """
import multiprocessing, os, sys

def show():
    print("loaded" if "counted" in sys.modules else "absent", flush=True)

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(["counted", "no_such_module"])
    for _ in range(2):
        child = multiprocessing.Process(target=show)
        child.start()
        child.join()
"""


def test_the_fork_server_preloads_once(run_program, under, tmp_path):
    (tmp_path / "counted.py").write_text("print('imported', flush=True)")
    done = run_program(PRELOAD, under=under, env={"PYTHONPATH": f"{tmp_path}:{PACKAGE_FOLDER}"})
    assert (done.stdout, done.stderr) == ("imported\nloaded\nloaded\n", "")


def test_preload_takes_strings(package):
    if package is multiprocessing and sys.version_info < (3, 11):
        pytest.skip("3.10 checks the list that it had before, and keeps the wrong one")
    with pytest.raises(TypeError, match="module_names must be a list of strings"):
        package.set_forkserver_preload([1, 2])


def test_a_stopped_fork_server_is_started_again():
    ctx = procession.get_context("forkserver")
    server = procession.forkserver._forkserver
    pids = []
    for _ in range(2):
        child = ctx.Process(target=int)
        child.start()
        child.join()
        assert child.exitcode == 0
        pids.append(server._forkserver_pid)
        server._stop()
    assert None not in pids and pids[0] != pids[1]


def test_a_killed_fork_server_is_started_again():
    import os
    import select
    import signal

    ctx = procession.get_context("forkserver")
    procession.forkserver.ensure_running()
    pid = procession.forkserver._forkserver._forkserver_pid
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([end], [], [])
    os.close(end)
    child = ctx.Process(target=int)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert procession.forkserver._forkserver._forkserver_pid != pid
