"""When the root of a family is killed, nothing of the family is left.

Only processes with work of their own finish it first.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from tests.conftest import METHODS, PACKAGE_FOLDER
from tests.waiting import until

#: What the programs begin with. Each kind of work prints "ready" just before it never returns;
#: `time.sleep(1000)` stands for work without end.
HEAD = """\
import itertools, os, signal, sys, threading, time
import procession
from procession import managers

def ready():
    os.write(1, b"ready\\n")

def busy():
    ready()
    while True:
        pass

def native():
    "A loop in C that holds the interpreter's lock, and a handler that would have to wait for it."
    signal.signal(signal.SIGTERM, lambda *_: None)
    ready()
    max(itertools.repeat(0))

def nap():
    ready()
    time.sleep(1000)

def get(queue):
    ready()
    queue.get()

def acquire(lock):
    ready()
    lock.acquire()

def close_all():
    os.closerange(3, 256)
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
    time.sleep(1000)

def square(n):
    return n * n

def hang(_):
    ready()
    time.sleep(1000)

def nested(method, daemon):
    ctx = procession.get_context(method)
    child = ctx.Process(target=nap, daemon=daemon)
    child.start()
    time.sleep(1000)

def finish(path, began):
    began.set()
    time.sleep(1.5)  # real time is the subject: it works on while the daemons are ended
    open(path, "w").write("finished")
"""


def living(session):
    """Return pids and states of the processes of a session, zombies included."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                found[int(entry.name)] = fields[0], describe(entry)
    return found


def describe(entry):
    try:
        return (entry / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


class Family:
    """A program in its own session, with a folder for temporary files."""

    def __init__(self, folder, text, *args):
        script = folder / "program.py"
        script.write_text(HEAD + "\nif __name__ == '__main__':\n" + text)
        # Not in the test's own folder: socket addresses must be short.
        self.folder = tempfile.mkdtemp(prefix="orphans-")
        self.before = set(os.listdir("/dev/shm"))
        self.root = subprocess.Popen(
            [sys.executable, str(script), *args],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER, "TMPDIR": self.folder},
        )

    def ready(self, times):
        """Return the living processes once "ready" was printed so many times."""
        for _ in range(times):
            assert self.root.stdout.readline() == "ready\n"
        return living(self.root.pid)

    def kill_root(self):
        self.root.kill()
        self.root.wait()

    def until_nothing_is_left(self):
        """Wait for the end of its processes, and then of its files.

        Other programs' files in /dev/shm come and go.
        """
        until(lambda: not living(self.root.pid))
        until(lambda: not self.files())

    def files(self):
        return os.listdir(self.folder) + sorted(set(os.listdir("/dev/shm")) - self.before)

    def clear(self):
        for pid in living(self.root.pid):
            os.kill(pid, signal.SIGKILL)
        self.root.stdout.close()
        self.root.wait()
        shutil.rmtree(self.folder)


@pytest.fixture
def family(tmp_path):
    made = []

    def make(text, *args):
        made.append(Family(tmp_path, text, *args))
        return made[0]

    yield make
    for one in made:
        one.clear()


def expect_nothing(family, text, *args, processes, ready=1):
    one = family(text, *args)
    assert len(one.ready(ready)) >= processes
    one.kill_root()
    one.until_nothing_is_left()


@pytest.mark.parametrize("method", METHODS)
def test_daemons_leave_whatever_they_are_at(family, method):
    text = """
    ctx = procession.get_context(sys.argv[1])
    lock = ctx.Lock()
    lock.acquire()
    work = [(busy, ()), (native, ()), (nap, ()), (get, (ctx.Queue(),)), (acquire, (lock,))]
    children = [ctx.Process(target=target, args=args, daemon=True) for target, args in work]
    thread = threading.Thread(target=lambda: [child.start() for child in children])
    thread.start()
    thread.join()
    ready()
    time.sleep(1000)
"""
    expect_nothing(family, text, method, processes=6, ready=6)


@pytest.mark.parametrize("method", METHODS)
def test_a_daemon_that_closes_all_descriptors_leaves_with_its_parent_and_not_before(family, method):
    text = """
    child = procession.get_context(sys.argv[1]).Process(target=close_all, daemon=True)
    child.start()
    child.join(1.5)  # real time is the subject: nothing would report that it lives on
    print("ready" if child.exitcode is None else child.exitcode, flush=True)
    time.sleep(1000)
"""
    expect_nothing(family, text, method, processes=2)


@pytest.mark.parametrize("method", METHODS)
def test_workers_leave_busy_and_idle(family, method):
    text = """
    ctx = procession.get_context(sys.argv[1])
    idle, at_work = ctx.Pool(2), ctx.Pool(2)
    idle.map(square, range(4))
    at_work.map_async(hang, range(2), chunksize=1)
    in_c = ctx.Pool(1)
    in_c.apply_async(native)
    time.sleep(1000)
"""
    expect_nothing(family, text, method, processes=6, ready=3)


@pytest.mark.parametrize("method", METHODS)
def test_an_executors_workers_leave_busy_and_idle(family, method):
    text = """
    ctx = procession.get_context(sys.argv[1])
    idle, at_work = (procession.ProcessPoolExecutor(2, mp_context=ctx) for _ in range(2))
    assert list(idle.map(square, range(4))) == [0, 1, 4, 9]
    futures = [at_work.submit(target, *args) for target, args in ((hang, (1,)), (native, ()))]
    time.sleep(1000)
"""
    expect_nothing(family, text, method, processes=4, ready=2)


@pytest.mark.parametrize("method", METHODS)
def test_a_managers_server_leaves(family, method):
    text = """
    manager = managers.SyncManager(ctx=procession.get_context(sys.argv[1]))
    manager.start()
    shared = manager.dict(a=1)
    ready()
    time.sleep(1000)
"""
    expect_nothing(family, text, method, processes=2)


@pytest.mark.parametrize("method", METHODS)
def test_grandchildren_leave_with_a_child_that_is_told_to(family, method):
    text = """
    ctx = procession.get_context(sys.argv[1])
    ctx.Process(target=nested, args=(sys.argv[1], True), die_with_parent=True).start()
    time.sleep(1000)
"""
    expect_nothing(family, text, method, processes=3)


@pytest.mark.parametrize("method", METHODS)
def test_what_has_work_of_its_own_finishes_it(family, tmp_path, method):
    text = """
    ctx = procession.get_context(sys.argv[1])
    began = ctx.Event()
    ctx.Process(target=finish, args=(sys.argv[2], began)).start()
    began.wait()
    ready()
    time.sleep(1000)
"""
    result = tmp_path / "result"
    one = family(text, method, str(result))
    one.ready(1)
    one.kill_root()
    one.until_nothing_is_left()
    assert result.read_text() == "finished"


def test_a_daemon_leaves_while_the_roots_memory_is_still_being_taken_down(family):
    text = """
    memory = bytearray(b"1") * (1 << 30)
    procession.Process(target=nap, daemon=True).start()
    time.sleep(1000)
"""
    expect_nothing(family, text, processes=2)


def test_named_segments_and_temporary_folders_go(family):
    text = """
    from procession import shared_memory, util
    util.get_temp_dir()
    segment = shared_memory.SharedMemory(create=True, size=100)
    ready()
    time.sleep(1000)
"""
    expect_nothing(family, text, processes=1)


def test_the_errand_of_a_child_that_never_came_is_given_back(run_program, tmp_path):
    text = """
import os, select, signal, sys, time
import procession
from procession import _procession

def start(pids):
    ctx = procession.get_context("spawn")
    ctx.set_executable(sys.argv[1])
    child = ctx.Process(target=print, args=(bytes(100_000),))
    child.start()
    pids.put(child.pid)
    time.sleep(1000)

def parent():
    child = procession.get_context("fork").Process(target=start, args=(pids,))
    child.start()
    return child, pids.get()

pids = procession.Queue()
pids.put(0)
pids.get()
before = _procession.counters()
child, grandchild = parent()
pidfd = os.pidfd_open(grandchild)
child.kill()
child.join()
assert _procession.counters()["transit"] > before["transit"], "the grandchild may yet come"
os.kill(grandchild, signal.SIGKILL)
select.select([pidfd], [], [])
assert _procession.counters() == before, (_procession.counters(), before)
print("done")
"""
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 1000\n")
    sleeper.chmod(0o755)
    done = run_program(text, str(sleeper))
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_whose_parent_is_killed_right_after_the_start_does_its_work(run_program, method):
    text = """
import os, signal, sys
import procession

def start(method, queue):
    procession.get_context(method).Process(target=queue.put, args=("worked",)).start()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    for _ in range(3):
        queue = procession.Queue()
        child = procession.get_context("fork").Process(target=start, args=(sys.argv[1], queue))
        child.start()
        child.join()
        print(child.exitcode, queue.get(timeout=60))
"""
    done = run_program(text, method)
    assert done.stdout == "-9 worked\n" * 3, done.stderr
