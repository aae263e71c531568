"""The standard library's defects that its tests demand: present under its name alone.

Under procession's own name the behaviour is the better one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import PACKAGE_FOLDER

PROGRAM = """
import sys, threading
import procession
if sys.argv[1] == "multiprocessing":
    procession.install()
import importlib
package = importlib.import_module(sys.argv[1])


def attempt(name, work):
    try:
        print(name, work())
    except Exception as error:
        print(name, type(error).__name__, str(error)[:27])


def make_adder():
    return lambda n: n + 1


def spawn_with(thing):
    process = package.get_context("spawn").Process(target=id, args=(thing,))
    process.start()
    process.join()
    return process.exitcode


if __name__ == "__main__":
    context = package.get_context("fork")
    queue = context.Queue()
    attempt("put", lambda: queue.put(threading.Lock()))
    print("empty", queue.empty())
    for kind in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event", "Condition", "Queue", "SimpleQueue"):
        attempt(kind, lambda: spawn_with(getattr(context, kind)()))
    attempt("Barrier", lambda: spawn_with(context.Barrier(1)))
    with context.Pool(1) as pool:
        attempt("pool", lambda: pool.apply(make_adder)(1))
"""


@pytest.mark.parametrize("name", ["procession", "multiprocessing"])
def test_defects_are_followed_under_the_standard_name_alone(tmp_path, name):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, script, name],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": PACKAGE_FOLDER},
    )
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines.pop("empty") == "True"
    put, pool = lines.pop("put"), lines.pop("pool")
    assert len(lines) == 9
    if name == "procession":
        assert put.startswith("TypeError cannot send an object")
        assert pool == "2"
        assert set(lines.values()) == {"0"}
        assert done.stderr == ""
    else:
        assert put == "None"
        assert "TypeError: cannot " in done.stderr
        assert pool.startswith("MaybeEncodingError")
        assert set(lines.values()) == {"RuntimeError A SemLock created in a fork"}


def test_a_star_import_keeps_the_executor_of_concurrent_futures(run_program):
    out = run_program(
        "import procession\n"
        "procession.install()\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "before = ProcessPoolExecutor\n"
        "from multiprocessing import *\n"
        "print(ProcessPoolExecutor is before, Pool, len(set(procession.__all__)) == len(procession.__all__))\n"
    )
    assert out.stdout.startswith("True <bound method"), out.stderr
