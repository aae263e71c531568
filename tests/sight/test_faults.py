"""Families that die, change and are damaged while they are looked at."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import sys

import pytest

from tests.conftest import PACKAGE_FOLDER
from tests.sight.family import arena_of, dump, dump_when_asleep, family, kill_all, program, run
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

#: Has a file that looks like an arena, whose bytes are standard input's.
IMPOSTOR = """
import os, signal, sys
fd = os.memfd_create("procession")
os.ftruncate(fd, int(sys.argv[1]))
content = sys.stdin.buffer.read()
os.pwrite(fd, content, 0)
print("ready", flush=True)
signal.pause()
"""

#: Processes come and go, lock, put and get, and some are killed. Each counts in a file what it has put, and
#: the first process how many it has started: so many puts at most are not counted yet, or never.
STORM = """
import mmap, procession, random, struct, sys

def count(path, number):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as counts:
        [before] = struct.unpack_from("q", counts, 8 * number)
        struct.pack_into("q", counts, 8 * number, before + 1)

def work(lock, queue, path, number):
    for item in range(20):
        try:
            with lock:
                queue.put((number, item))
        except procession.OwnerDied:
            continue
        count(path, number)
        queue.get()

if __name__ == "__main__":
    ctx = procession.get_context(sys.argv[1])
    path = sys.argv[2]
    lock, queue = ctx.RLock(), ctx.Queue(5000)
    print("ready", flush=True)
    while True:
        processes = [ctx.Process(target=work, args=(lock, queue, path, number)) for number in range(3)]
        for process in processes:
            count(path, 3)
            process.start()
        random.choice(processes).kill()
        for process in processes:
            process.join()
        while not queue.empty():
            queue.get()
"""


@pytest.fixture
def impostor():
    """Return a function that runs a process with a file of this content that looks like an arena."""
    processes = []

    def start(content: bytes, size: int = 64 << 20) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", IMPOSTOR, str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        process.stdin.write(content)
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def header(version: int, size: int = 64 << 20) -> bytes:
    return struct.pack("<8sIIQ", b"process1", version, 0, size)


def test_a_family_that_is_killed_while_it_is_looked_at(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        pids = [process["pid"] for process in dump_when_asleep(root.pid, capfd)["processes"]]
        killer = random.Random(1)
        victims = list(pids)
        killer.shuffle(victims)
        codes = []
        while victims:
            # A daemonic child ends with its parent.
            with contextlib.suppress(ProcessLookupError):
                os.kill(victims.pop(), signal.SIGKILL)
            codes += [run("dump", str(root.pid), "--json") for _ in range(3)]
            assert run("ps") == 0
            capfd.readouterr()
        root.wait()
        kill_all(pids)
        assert set(codes) <= {0, 3}
        assert run("dump", str(root.pid)) == 3
        assert f"no process {root.pid}" in capfd.readouterr().err


def test_a_dead_holder_is_told_from_a_living_one(tmp_path, capfd):
    with family(tmp_path, "fork") as root:
        seen = dump_when_asleep(root.pid, capfd)
        pids = {process["name"]: process["pid"] for process in seen["processes"]}
        os.kill(pids["wanter"], signal.SIGSTOP)
        os.kill(pids["holder"], signal.SIGKILL)

        def holder_is_gone():
            now = dump(root.pid, capfd)
            states = [p["state"] for p in now["processes"] if p["pid"] == pids["holder"]]
            return states in ([], ["dead"])

        until(holder_is_gone)


def test_looks_in_the_middle_of_a_storm(tmp_path, method, capfd):
    script = tmp_path / "storm.py"
    script.write_text(STORM)
    counts = tmp_path / "counts"
    counts.write_bytes(bytes(4096))
    with program(script, method, str(counts)) as root:
        assert root.stdout.readline() == "ready\n"
        # A thousand attaches, of the three start methods together.
        for _ in range(340):
            *certain, _ = struct.unpack_from("4q", counts.read_bytes())
            seen = dump(root.pid, capfd)
            *possible, started = struct.unpack_from("4q", counts.read_bytes())
            assert (seen["root"], seen["damaged"]) == (root.pid, 0)
            assert seen["deadlocks"] == []
            [queue] = [queue for queue in seen["queues"] if queue["maxsize"] == 5000]
            assert sum(certain) <= queue["put"] <= sum(possible) + started
            assert queue["depth"] <= queue["put"]
            known = {process["pid"] for process in seen["processes"]}
            for lock in seen["locks"]:
                assert lock["holder"] is None or lock["holder"]["pid"] in {None, *known}
        assert root.poll() is None


def test_another_version_is_named(impostor, capfd):
    pid = impostor(header(99))
    assert run("dump", str(pid)) == 1
    assert "another version of procession: its memory has format 99" in capfd.readouterr().err
    assert run("ps") == 0
    assert "format 99" in capfd.readouterr().out
    assert run("ps", "--json") == 0
    families = json.loads(capfd.readouterr().out)["families"]
    assert ["format 99" in one["error"] for one in families if pid in one["pids"]] == [True]


def test_a_file_that_is_no_arena_is_named(impostor, capfd):
    for content, size in ((b"", 64 << 20), (header(8, 1 << 30), 64 << 20), (b"", 4096)):
        assert run("dump", str(impostor(content, size))) == 1
        assert "is damaged, or not complete yet" in capfd.readouterr().err


def test_noise_behind_a_valid_header_does_no_harm(tmp_path, impostor, capfd):
    with family(tmp_path, "fork") as root, open(arena_of(root.pid), "rb") as file:
        begin = file.read(1 << 20)
    size = int.from_bytes(begin[16:24], "little")
    noise = random.Random(7)
    for kept in (64, 4096, 70000, 300000):
        content = begin[:kept] + noise.randbytes(len(begin) - kept)
        code = run("dump", str(impostor(content, size)), "--json")
        err = capfd.readouterr().err
        assert code in (0, 1, 3), err
        assert code == 0 or "damaged" in err or "ended" in err


def test_commands_say_what_is_missing(capfd):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert run("dump", str(process.pid)) == 3
        assert "of no family" in capfd.readouterr().err
        process.communicate(b"\n")
    assert run("dump", str(2**31)) == 3
    assert "there is no process" in capfd.readouterr().err
    assert run("dump", "x") == 2
    assert run("nothing") == 2
    assert "unrecognized subcommand" in capfd.readouterr().err
    assert run("dump", "--help") == 0
    assert "Examples:" in capfd.readouterr().out
    assert run("completions", "bash") == 0
    assert "_procession" in capfd.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_users_family_is_not_looked_at(tmp_path):
    look = (
        "import os, sys\n"
        "from procession import _procession\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "sys.exit(_procession.command(['procession', *sys.argv[1:]]))\n"
    )
    with family(tmp_path, "fork") as root:
        dump_as_other = [sys.executable, "-c", look, "dump", str(root.pid)]
        done = subprocess.run(dump_as_other, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "may not be looked at: only its own user may, and root" in done.stderr
        ps_as_other = [sys.executable, "-c", look, "ps", "--json"]
        done = subprocess.run(ps_as_other, capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout) == {"families": []}


def is_writing(pid: int) -> bool:
    """Return whether a process sleeps in `write`."""
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0] == {"x86_64": "1", "aarch64": "64"}[os.uname().machine]


def test_ctrl_c_ends_a_look(impostor):
    # The reader stops in the middle: its output has no room.
    pid = impostor(header(99))
    read, write = os.pipe()
    with open(read, "rb"), open(write, "wb") as full:
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, bytes(65536))
        os.set_blocking(write, True)
        command = [sys.executable, "-m", "procession", "ps"]
        environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
        with subprocess.Popen(command, stdout=full, env=environment) as process:
            try:
                until(lambda: is_writing(process.pid))
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == -signal.SIGINT
            finally:
                process.kill()
    assert pid > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace takes root")
def test_a_family_in_another_pid_namespace_is_named(tmp_path, capfd):
    script = tmp_path / "inside.py"
    script.write_text(
        "import procession\n"
        "lock = procession.Lock()\n"
        "print('ready', flush=True)\n"
        "procession.Event().wait()\n"
    )
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as outer:
        try:
            if outer.stdout.readline() != b"ready\n":
                outer.wait(60)
                pytest.skip(f"no pid namespaces here: {outer.stderr.read()!r}")
            with open(f"/proc/{outer.pid}/task/{outer.pid}/children") as file:
                inner = int(file.read())
            assert run("dump", str(inner)) == 1
            assert "runs in another pid namespace" in capfd.readouterr().err
        finally:
            outer.kill()


def test_the_packages_command_has_these_commands():
    done = subprocess.run(
        [sys.executable, "-m", "procession", "ps", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "families" in json.loads(done.stdout)
