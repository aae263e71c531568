"""Deadlocks and warnings, as the commands and `snapshot()` show them of real programs."""

from __future__ import annotations

import json
import os
import pathlib
import signal

import pytest

from tests.sight.family import dump, dump_when_asleep, family, process_of, program, run
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

SHOP = pathlib.Path(__file__).resolve().parents[2] / "examples" / "sick" / "shop.py"

#: Each process holds a lock and waits for the next one's. The kinds of locks take turns.
RING = """
import procession, sys

def member(own, following, all_hold):
    with own:
        all_hold.wait()
        following.acquire()

if __name__ == "__main__":
    ctx = procession.get_context(sys.argv[1])
    size = int(sys.argv[2])
    locks = [(ctx.Lock if number % 2 else ctx.RLock)() for number in range(size)]
    all_hold = ctx.Barrier(size)
    for number in range(size):
        args = (locks[number], locks[(number + 1) % size], all_hold)
        ctx.Process(target=member, args=args, name=f"member-{number}", daemon=True).start()
    print("ready", flush=True)
    ctx.Event().wait()
"""

#: `one` and `two` hold a lock each, and want the other's: `one` with a timeout, or after the event.
HARMLESS = """
import procession, sys

def one(first, second, both_hold, never, with_event):
    with first:
        both_hold.wait()
        if with_event:
            never.wait()
        second.acquire(timeout=3600)

def two(first, second, both_hold):
    with second:
        both_hold.wait()
        first.acquire()

if __name__ == "__main__":
    ctx = procession.get_context("fork")
    first, second, both_hold, never = ctx.Lock(), ctx.RLock(), ctx.Barrier(2), ctx.Event()
    args = (first, second, both_hold, never, sys.argv[1] == "event")
    ctx.Process(target=one, args=args, name="one", daemon=True).start()
    ctx.Process(target=two, args=args[:3], name="two", daemon=True).start()
    print("ready", flush=True)
    ctx.Event().wait()
"""

#: The same between two threads of one process, and the first process asks about it itself.
INSIDE = """
import procession, threading

def want(own, other, both_hold):
    with own:
        both_hold.wait()
        other.acquire()

if __name__ == "__main__":
    first, second, both_hold = procession.Lock(), procession.Lock(), threading.Barrier(2)
    for pair in ((first, second), (second, first)):
        threading.Thread(target=want, args=(*pair, both_hold), daemon=True).start()
    while not (found := procession.snapshot().deadlocks):
        pass
    [deadlock] = found
    print(type(deadlock).__name__, len({one.thread for one in deadlock.members}))
    print({one.made.rpartition(":")[2] for one in deadlock.members}, flush=True)
    input()
"""

#: The main thread waits for `second` and its process's thread `worker` holds `first`; `two` holds
#: `second` and waits for `first`. The main thread is named as those of the engine are.
NAMED = """
import procession, sys, threading

def two(first, second, held, go):
    with second:
        held.set()
        go.wait()
        first.acquire()

def worker(first, held):
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as name:
        name.write("worker")
    with first:
        held.set()
        threading.Event().wait()

if __name__ == "__main__":
    ctx = procession.get_context("fork")
    first, second, held, go = ctx.Lock(), ctx.Lock(), ctx.Event(), ctx.Event()
    ctx.Process(target=two, args=(first, second, held, go), name="two", daemon=True).start()
    held.wait()
    with open("/proc/self/comm", "w") as name:
        name.write(sys.argv[1])
    held = threading.Event()
    threading.Thread(target=worker, args=(first, held), daemon=True).start()
    held.wait()
    go.set()
    print("ready", flush=True)
    second.acquire()
"""


def deadlocks_of(pid: int, capfd: pytest.CaptureFixture[str]) -> list:
    """Return the deadlocks that `dump` shows, once there are some."""
    found: list = []
    until(lambda: found.extend(dump(pid, capfd)["deadlocks"]) or found)
    return found


@pytest.mark.parametrize("size", [2, 8])
def test_a_ring_of_processes_is_found(tmp_path, method, size, capfd):
    script = tmp_path / "ring.py"
    script.write_text(RING)
    with program(script, method, str(size)) as root:
        assert root.stdout.readline() == "ready\n"
        [deadlock] = deadlocks_of(root.pid, capfd)
        seen = dump(root.pid, capfd)
    names = [int(member["name"].partition("-")[2]) for member in deadlock["members"]]
    assert [(one + 1) % size for one in names] == [*names[1:], names[0]]
    for number, member in zip(names, deadlock["members"], strict=True):
        following = process_of(seen, f"member-{(number + 1) % size}")
        [lock] = [lock for lock in seen["locks"] if lock["id"] == member["lock"]]
        assert lock["holder"]["pid"] == following["pid"] and member["made"].endswith("ring.py:12")
        kind = "lock" if (number + 1) % size % 2 else "rlock"
        assert member["kind"] == lock["kind"] == kind


def test_the_sick_example_is_named_in_every_command(capfd):
    with program(SHOP) as root:
        until(lambda: run("dump", str(root.pid)) == 0)
        [deadlock] = deadlocks_of(root.pid, capfd)
        pids = {member["name"]: member["pid"] for member in deadlock["members"]}
        server, refiller = (f"{name} ({pids[name]})" for name in ("server", "refiller"))
        until(lambda: shows(["ps"], f"deadlock: {server}, {refiller}", capfd))
        until(lambda: shows(["dump", str(root.pid)], "deadlock of 2 threads", capfd))
        for name, line in ((server, 25), (refiller, 24)):
            other = refiller if name == server else server
            assert f"{name} has waited " in deadlock["text"]
            assert f"shop.py:{line}), held by {other} for at least " in deadlock["text"]
        until(lambda: shows(["metrics", str(root.pid)], f'deadlocks{{root="{root.pid}"}} 1', capfd))
        # A stopped deadlock is one still.
        os.killpg(root.pid, signal.SIGSTOP)
        assert len(deadlocks_of(root.pid, capfd)) == 1


def shows(words: list[str], text: str, capfd: pytest.CaptureFixture[str]) -> bool:
    capfd.readouterr()
    assert run(*words) == 0
    return text in capfd.readouterr().out


@pytest.mark.parametrize("how", ["timeout", "event"])
def test_what_may_go_on_is_no_deadlock(tmp_path, how, capfd):
    script = tmp_path / "harmless.py"
    script.write_text(HARMLESS)
    with program(script, how) as root:
        assert root.stdout.readline() == "ready\n"

        def both_wait() -> bool:
            seen = dump(root.pid, capfd)
            assert seen["deadlocks"] == []
            waits = {one["name"]: one["waits"] for one in seen["processes"]}
            found = [waits.get(name) for name in ("one", "two")]
            return all(found) and all(wait["for_ms"] > 200 for [wait] in found)

        until(both_wait)


#: The first process holds the lock for which its child waits, and waits for the child's end.
JOIN = """
import procession, sys

def take(lock):
    with lock:
        pass

if __name__ == "__main__":
    ctx = procession.get_context(sys.argv[1])
    lock = ctx.RLock()
    with lock:
        child = ctx.Process(target=take, args=(lock,), name="child", daemon=True)
        child.start()
        print("ready", flush=True)
        child.join()
"""


def test_a_join_is_part_of_a_deadlock(tmp_path, method, capfd):
    script = tmp_path / "join.py"
    script.write_text(JOIN)
    with program(script, method) as root:
        assert root.stdout.readline() == "ready\n"
        [deadlock] = deadlocks_of(root.pid, capfd)
        child = process_of(dump(root.pid, capfd), "child")["pid"]
    found = {one["pid"]: (one["kind"], one["lock"] is None) for one in deadlock["members"]}
    assert found == {root.pid: ("process", True), child: ("rlock", False)}
    assert f"for the end of child ({child})" in deadlock["text"]


def test_threads_of_one_process_are_told_apart(tmp_path):
    script = tmp_path / "inside.py"
    script.write_text(INSIDE)
    with program(script) as root:
        assert root.stdout.readline() == "Deadlock 2\n"
        assert root.stdout.readline() == "{'10'}\n"


@pytest.mark.parametrize("name", ["procession-shop", "procession-fds"])
def test_a_thread_that_is_named_like_the_engines_own_is_the_programs(tmp_path, name, capfd):
    script = tmp_path / "named.py"
    script.write_text(NAMED)
    with program(script, name) as root:
        assert root.stdout.readline() == "ready\n"

        def both_wait() -> bool:
            seen = dump(root.pid, capfd)
            assert seen["deadlocks"] == []
            waits = [one["waits"] for one in seen["processes"]]
            locks = [wait[0] for wait in waits if wait and wait[0]["operation"] == "acquire"]
            return len(locks) == 2 and all(wait["for_ms"] > 200 for wait in locks)

        until(both_wait)


def test_a_stopped_holder_is_a_warning_and_no_deadlock(tmp_path, capfd):
    with family(tmp_path, "fork") as root:
        seen = dump_when_asleep(root.pid, capfd)
        assert seen["warnings"] == []
        holder, wanter = (process_of(seen, name)["pid"] for name in ("holder", "wanter"))
        os.kill(holder, signal.SIGSTOP)

        def is_warned_of() -> bool:
            now = dump(root.pid, capfd)
            assert now["deadlocks"] == []
            kinds = {one["kind"]: one["pids"] for one in now["warnings"]}
            return kinds == {"stopped": [holder], "stopped holder": [holder, wanter]}

        until(is_warned_of)


def test_thresholds_are_options(tmp_path, capfd):
    with family(tmp_path, "fork") as root:
        dump_when_asleep(root.pid, capfd)
        command = ["dump", str(root.pid), "--json"]
        capfd.readouterr()
        assert run(*command, "--lock-seconds", "0") == 0
        [warning] = json.loads(capfd.readouterr().out)["warnings"]
        assert warning["kind"] == "lock held long" and "holder" in warning["text"]
        assert run(*command, "--replaced", "0") == 2
        assert run(*command, "--memory-percent", "101") == 2
        assert run(*command, "--seconds", "0") == 2
        capfd.readouterr()


def test_a_queue_that_grows_shows_in_two_looks(tmp_path, capfd):
    script = tmp_path / "growing.py"
    script.write_text(
        "import procession, time\n"
        "queue = procession.Queue()\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    queue.put(None)\n"
        "    time.sleep(0.001)\n"
    )
    with program(script) as root:
        assert root.stdout.readline() == "ready\n"
        two_looks = ["dump", str(root.pid), "--seconds", "0.1", "--queue-growth", "1"]
        until(lambda: shows(two_looks, "only grows: from ", capfd))
        assert run("dump", str(root.pid)) == 0
        assert "only grows" not in capfd.readouterr().out
