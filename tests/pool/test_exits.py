"""However a pool or its program ends, it ends soon.

No process is left, and no output of tasks is lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import procession
from procession import connection, process, util
from tests.conftest import PACKAGE_FOLDER
from tests.pool import tasks
from tests.pool.shapes import METHODS, SHAPES, opened
from tests.waiting import is_running, until, until_ended

pytestmark = pytest.mark.timeout(60)

SHAPES_AND_METHODS = [(shape, method) for shape in SHAPES for method in METHODS]

#: A program with a pool of two. `act` holds what its main part does then.
PROGRAM = """
import os, sys, time
import procession

def say(x):
    print("task", x)
    return x

def meet(folder):
    "Return once both workers have come here."
    open(f"{folder}/{os.getpid()}.met", "w").close()
    while sum(name.endswith(".met") for name in os.listdir(folder)) < 2:
        time.sleep(0.002)

def hold(kind):
    if kind == "busy":
        while True:
            pass
    if kind == "in C":
        # Holds the interpreter's lock for ever, and so hears no signal.
        [0] * 3 in __import__("itertools").repeat(1)
    time.sleep(1000)  # work without end

class Shape:
    def __init__(self, shape, context):
        self.is_pool = shape == "Pool"
        self.face = context.Pool(2) if self.is_pool else procession.ProcessPoolExecutor(2, context)
    def call(self, function, *args):
        if self.is_pool:
            return self.face.apply_async(function, args).get
        return self.face.submit(function, *args).result
    @property
    def pids(self):
        return [process.pid for process in (self.face if self.is_pool else self.face._start().pool)._pool]

if __name__ == "__main__":
    shape, method, act = sys.argv[1:4]
    made = Shape(shape, procession.get_context(method))
    exec(sys.argv[4])
"""


@pytest.fixture(params=SHAPES_AND_METHODS, ids="-".join)
def arguments(request):
    return list(request.param)


@pytest.fixture
def start(tmp_path, arguments):
    """Start the program with a line to run; it is killed at the end."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    started = []

    def start(line):
        program = subprocess.Popen(
            [sys.executable, str(script), *arguments, "act", line],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
            start_new_session=True,
        )
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()
        program.wait()
        program.stdout.close()
        program.stderr.close()


@pytest.mark.parametrize("kind", ["idle", "busy", "in C"])
def test_parent_killed(start, kind):
    held = "" if kind == "idle" else f"calls = [made.call(hold, {kind!r}) for _ in range(2)];"
    program = start(
        f"[call() for call in [made.call(meet, os.getcwd()) for _ in range(8)]]; {held} print(*made.pids, flush=True); time.sleep(1000)"
    )
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert len(pids) == 2
    program.kill()
    until_ended(pids)


@pytest.mark.parametrize("place", ["with block", "no with block"])
def test_interrupted_once(start, place):
    """Ctrl-C reaches all processes of the terminal; one reports it, and all end."""
    wait = "[call() for call in [made.call(meet, os.getcwd()) for _ in range(8)]]; calls = [made.call(hold, 'asleep') for _ in range(9)]; print(*made.pids, flush=True); calls[0]()"
    program = start(f"with made.face: {wait}" if place == "with block" else wait)
    pids = [int(pid) for pid in program.stdout.readline().split()]
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=20)
    assert program.returncode == -signal.SIGINT
    assert errors.count("Traceback (most recent call last)") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    until_ended(pids)


@pytest.mark.parametrize(
    "end",
    [
        "with made.face: [call() for call in calls]",
        "[call() for call in calls]; made.face.close() if made.is_pool else made.face.shutdown()",
        "[call() for call in calls]; made.face.terminate() if made.is_pool else made.face.kill_workers()",
        "[call() for call in calls]; del made, calls",
        "[call() for call in calls]; raise SystemExit(0)",
    ],
    ids=["with", "close", "terminate", "dropped", "interpreter end"],
)
def test_what_tasks_print_is_not_lost(start, end):
    program = start(f"calls = [made.call(say, x) for x in range(100)]\n{end}")
    output, errors = program.communicate(timeout=40)
    assert sorted(output.splitlines()) == sorted(f"task {x}" for x in range(100))
    assert [
        line for line in errors.splitlines() if "Warning" not in line and "_warn" not in line
    ] == []
    assert program.returncode == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_worker_is_left(shape, method):
    for end in ("shut", "end"):
        with opened(shape, method) as made:
            pids = {made.call(tasks.identify)(20) for _ in range(4)}
            getattr(made, end)()
            assert not any(map(is_running, pids))


COVERED = """
import multiprocessing
import sys

def even(x):
    if x % 2 == 0:
        y = x // 2
        return y
    return odd(x)

def odd(x):
    return -x

def never():
    return 0

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map(even, range(10), 1) == [x // 2 if x % 2 == 0 else -x for x in range(10)]
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_coverage_sees_the_same_lines(tmp_path, method):
    pytest.importorskip("coverage")
    path = os.pathsep.join([PACKAGE_FOLDER, *sys.path])
    measured = []
    for before in ([], ["-m", "procession", "run"]):
        folder = tmp_path / f"run{len(measured)}"
        folder.mkdir()
        settings = "[run]\nconcurrency = multiprocessing\nparallel = true\nsource = .\n"
        (folder / ".coveragerc").write_text(settings)
        (folder / "program.py").write_text(COVERED)

        def coverage(*args, before=(), folder=folder):
            run = subprocess.run(
                [sys.executable, *before, "-m", "coverage", *args],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
            )
            assert run.returncode == 0, run.stdout + run.stderr
            return run.stdout

        coverage("run", "program.py", method, before=before)
        coverage("combine")
        measured.append(coverage("report", "-m").splitlines()[2:])
    assert measured[0] == measured[1]
    assert "15" in measured[0][0].split()[-1], "the line that nobody reaches, and that alone"


def _write_at_exit(barrier, writer):
    util.Finalize(None, os.write, (writer.fileno(), b"."), exitpriority=1)
    global _kept
    _kept = barrier, writer


def _meet(_):
    _kept[0].wait()


def test_idle_workers_run_their_finalizers(method, monkeypatch):
    """As coverage tools use them, also in a pool that is left by `with`, which terminates it."""
    monkeypatch.setattr("procession._pool.workers._GRACE_PERIOD", 60.0)
    ctx = procession.get_context(method)
    reader, writer = ctx.Pipe(duplex=False)
    with ctx.Pool(3, _write_at_exit, (ctx.Barrier(3), writer)) as pool:
        pool.map(_meet, range(3), 1)
        until(lambda: not any(pool._core.is_busy(worker._worker_index) for worker in pool._pool))
    writer.close()
    assert os.read(reader.fileno(), 10) == b"..."


@pytest.mark.parametrize("method", METHODS)
def test_who_ended_before_terminate_looked_is_no_child_any_more(method):
    pool = procession.get_context(method).Pool(2)
    assert pool.map(abs, range(2)) == [0, 1]
    workers, watch = list(pool._pool), pool._pool_workers._thread

    class Watch:
        """Stands for the watching thread: when it has been joined, the workers have ended."""

        def join(self):
            watch.join()
            for worker in workers:
                assert connection.wait([worker.sentinel], 60)

    pool._pool_workers._thread = Watch()
    pool.terminate()
    assert not process._children.intersection(workers)
