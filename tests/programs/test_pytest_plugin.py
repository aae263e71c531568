"""The plugin for pytest, in runs of pytest of their own."""

from __future__ import annotations

import os

import pytest

from tests.conftest import PACKAGE_FOLDER
from tests.waiting import until

pytest_plugins = ["pytester"]

PLUGINS = ("-p", "procession.pytest_plugin", "-p", "no:cacheprovider")


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest over the text of a test module, in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", PACKAGE_FOLDER)

    def run(text, *options):
        pytester.makepyfile(test_it=f"import procession, pytest\n{text}")
        return pytester.runpytest_subprocess(*PLUGINS, *options)

    return run


#: What a test may leave behind -> its body, and what the failure says.
LEFT = {
    "a process": (
        "process = procession.Process(target=time.sleep, args=(600,), name='sleeper', daemon=True)\n"
        "    process.start()",
        "*left behind processes: sleeper (*)",
    ),
    "a pool": ("kept.append(procession.Pool(2))", "*left behind processes: *PoolWorker*"),
    "memory": ("kept.append(procession.Queue())", "*left behind shared memory: 1 objects*"),
    "a lock": ("lock.acquire()", "*left behind held locks: <Lock(owner=MainProcess)>"),
    "a segment": (
        "SharedMemory(create=True, size=1).close()",
        "*left behind segments of shared memory: psm_*",
    ),
}

MODULE = """
import time
from procession.shared_memory import SharedMemory

kept = []
lock = procession.Lock()

def test_before():
    procession.Queue().put(1)

def test_it():
    {body}

def test_after():
    pass
"""


@pytest.mark.parametrize("what", LEFT)
def test_fails_a_test_that_leaves_something_behind(run, what):
    body, told = LEFT[what]
    before = set(os.listdir("/dev/shm"))
    done = run(MODULE.format(body=body), "--procession-leaks", "-o", "procession_grace=0.1")
    done.assert_outcomes(passed=3, errors=1)
    done.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", told])
    # The resource tracker removes the segment with the program.
    until(
        lambda: (
            not {name for name in {*os.listdir("/dev/shm")} - before if name in str(done.stdout)}
        )
    )


CLEAN = """
import threading, time

@pytest.fixture(scope="module")
def pool():
    with procession.Pool(2) as pool:
        yield pool

@pytest.fixture
def queue():
    return procession.Queue()

@pytest.fixture
def held():
    lock = procession.RLock()
    with lock:
        yield lock

def test_uses_what_outlives_it(pool):
    assert pool.map(abs, [-1]) == [1]

def test_uses_fixtures(queue, held):
    queue.put([held])

@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_makes_all_kinds(method):
    context = procession.get_context(method)
    with context.Pool(2) as pool:
        assert pool.apply(abs, (-1,)) == 1
    with procession.ProcessPoolExecutor(2, context) as executor:
        assert executor.submit(abs, -1).result() == 1
    with context.Manager() as manager:
        manager.list([1])
    array, condition = context.Array("i", 5), context.Condition()

def test_waits_for_what_is_ending():
    executor = procession.ProcessPoolExecutor(1)
    executor.submit(abs, 1)
    executor.shutdown(wait=False)
"""


def test_passes_what_leaves_nothing_behind(run):
    run(CLEAN, "--procession-leaks").assert_outcomes(passed=6)


MARKED = """
kept = []

def test_unmarked():
    kept.append(procession.Queue())

@pytest.mark.procession_leaks
def test_marked():
    kept.append(procession.Queue())

@pytest.mark.procession_leaks(False)
def test_excluded():
    kept.append(procession.Queue())

@pytest.mark.procession_leaks
def test_failed():
    kept.append(procession.Queue())
    assert False
"""


def test_does_nothing_unless_asked(run, pytester):
    done = run(MARKED)
    done.assert_outcomes(passed=3, failed=1, errors=1)
    done.stdout.fnmatch_lines(["*ERROR at teardown of test_marked*"])
    pytester.makeini("[pytest]\nprocession_leaks = true\n")
    done = run(MARKED)
    done.assert_outcomes(passed=3, failed=1, errors=2)
    done.stdout.fnmatch_lines(["*ERROR at teardown of test_unmarked*"])


METHODS = """
def test_all(procession_context):
    process = procession_context.Process(target=abs, args=(1,))
    process.start()
    process.join()
    assert process.exitcode == 0

@pytest.mark.start_methods("fork", "spawn")
def test_two(procession_context):
    assert procession_context.get_start_method() in ("fork", "spawn")

@pytest.mark.start_methods("vfork")
def test_wrong(procession_context):
    pass
"""


def test_runs_a_test_over_start_methods(run):
    done = run(METHODS, "-v", "--strict-markers")
    done.assert_outcomes(passed=5, errors=1)
    names = ["all[[]fork]", "all[[]spawn]", "all[[]forkserver]", "two[[]fork]", "two[[]spawn]"]
    done.stdout.fnmatch_lines([f"*::test_{name} PASSED*" for name in names])
    done.stdout.fnmatch_lines(["*ValueError: cannot find context for 'vfork'*"])


def test_a_run_that_does_not_ask_loads_no_more_than_the_package(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PACKAGE_FOLDER)
    pytester.makepyfile(
        "import sys\n\ndef test_it():\n"
        "    loaded = {name for name in sys.modules if name.startswith('procession')}\n"
        "    assert loaded - {'procession.pytest_plugin'} == "
        "{'procession', 'procession._errors', 'procession._pickling', 'procession.context', "
        "'procession.process'}\n"
    )
    pytester.runpytest_subprocess(*PLUGINS).assert_outcomes(passed=1)
