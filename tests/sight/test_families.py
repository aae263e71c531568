"""`ps`, `dump` and `snapshot()` on programs that were not prepared for it."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys

import pytest

import procession
from tests.conftest import PACKAGE_FOLDER
from tests.sight.family import (
    arena_of,
    content_of,
    dump,
    dump_when_asleep,
    family,
    process_of,
    program,
    run,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def test_a_dump_shows_who_holds_and_who_waits(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        seen = dump_when_asleep(root.pid, capfd)
    holder, wanter, getter = (process_of(seen, name) for name in ("holder", "wanter", "getter"))
    held = [lock for lock in seen["locks"] if lock["holder"] is not None]
    assert [(lock["kind"], lock["holder"]["pid"], lock["waiters"]) for lock in held] == [
        ("lock", holder["pid"], [wanter["pid"]])
    ]
    assert held[0]["made"].endswith("sick.py:26")
    assert held[0]["holder"] == {"pid": holder["pid"], "name": "holder", "thread": holder["pid"]}
    waits = [(wait["kind"], wait["operation"], wait["object"]) for wait in wanter["waits"]]
    assert waits == [("lock", "acquire", held[0]["id"])]
    assert [wait["operation"] for wait in getter["waits"]] == ["get"]
    depths = {queue["depth"]: queue for queue in seen["queues"] if queue["put"] or queue["getters"]}
    assert (depths[5]["put"], depths[5]["maxsize"], depths[5]["getters"]) == (5, 9, [])
    assert depths[0]["getters"] == [getter["pid"]]
    [pool] = seen["pools"]
    assert (pool["queued"], pool["running"], pool["done"], pool["is_complete"]) == (4, 2, 0, True)
    workers = [process for process in seen["processes"] if process["role"] == "pool worker"]
    assert {worker["pid"] for worker in pool["workers"]} == {worker["pid"] for worker in workers}
    methods = {process["start_method"] for process in (holder, wanter, getter, *workers)}
    assert (seen["root"], methods) == (root.pid, {method})
    assert all(process["parent"] == root.pid for process in (holder, wanter, getter, *workers))
    servers = [process for process in seen["processes"] if process["role"] == "fork server"]
    assert bool(servers) == (method == "forkserver")
    assert (seen["damaged"], seen["left_out"]) == (0, 0)


def test_waits_have_lasted_since_they_began(tmp_path, capfd):
    with family(tmp_path, "fork") as root:
        for_ms = [0]

        def longer_than_any_slice():
            [wait] = process_of(dump(root.pid, capfd), "wanter")["waits"] or [None]
            for_ms.append(wait["for_ms"] if wait else for_ms[-1])
            return for_ms[-1] > 1200

        until(longer_than_any_slice)
        # The kernel's coarse clock is late by up to 10 ms.
        assert all(earlier - 10 <= later for earlier, later in itertools.pairwise(for_ms))


def test_ps_lists_each_family_once(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        dump_when_asleep(root.pid, capfd)
        assert run("ps", "--json") == 0
        families = json.loads(capfd.readouterr().out)["families"]
        assert run("ps") == 0
        lines = capfd.readouterr().out.splitlines()
    [found] = [one for one in families if root.pid in one["pids"]]
    assert (found["root"], found["error"], found["warnings"]) == (root.pid, None, [])
    assert found["program"].endswith("sick.py") and "/" not in found["program"]
    assert found["processes"] >= 6 and found["committed_bytes"] > 0
    assert len([line for line in lines if f" {root.pid} " in line and "sick.py" in line]) == 1


def test_a_stopped_family_is_shown_and_not_written_to(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        seen = dump_when_asleep(root.pid, capfd)
        os.killpg(root.pid, signal.SIGSTOP)
        pids = {process["pid"] for process in seen["processes"]}

        def stopped_pids(seen):
            return {one["pid"] for one in seen["processes"] if one["state"] == "stopped"}

        # A child that the fork server had just forked ahead, or that has ended, may be there too.
        until(lambda: pids <= stopped_pids(dump(root.pid, capfd)))
        path = arena_of(root.pid)
        before = content_of(path)
        stopped = dump(root.pid, capfd)
        assert run("ps") == 0 and run("dump", str(root.pid)) == 0
        out = capfd.readouterr().out
        assert content_of(path) == before
        assert pids <= stopped_pids(stopped)
        shown = [line.partition("stopped: ")[2] for line in out.splitlines()]
        assert any(str(root.pid) in re.findall(r"\d+", line) for line in shown), out
        assert stopped["locks"] == seen["locks"] and stopped["queues"] == seen["queues"]


def test_no_value_is_shown(tmp_path, capfd):
    with family(tmp_path, "spawn") as root:
        text = json.dumps(dump_when_asleep(root.pid, capfd))
        for words in (["dump", str(root.pid)], ["ps"], ["ps", "--json"]):
            assert run(*words) == 0
            text += capfd.readouterr().out
    assert "sick.py" in text
    assert "secret" not in text and str(tmp_path) not in text.replace("sick.py:26", "").replace(
        str(tmp_path / "sick.py"), ""
    )


@pytest.mark.parametrize("words", [["-uc"], ["-Ic"], ["-c"]], ids=lambda words: words[0])
def test_code_and_arguments_are_not_shown(words, capfd):
    code = (
        "top_secret = 'top-secret'\n" + "#" * 70_000 + "\n"
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import procession; lock = procession.Lock(); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, *words, code, "--top-secret", PACKAGE_FOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            text = ""
            for command in (["ps"], ["ps", "--json"], ["dump", str(process.pid)]):
                assert run(*command) == 0
                text += capfd.readouterr().out
        finally:
            process.kill()
    assert f"{os.path.basename(sys.executable)} -c" in text and "secret" not in text


def test_an_observer_is_in_no_family(tmp_path, capfd):
    look = "from procession import _procession; _procession.command(['procession', 'ps', '--json'])"
    with (
        family(tmp_path, "fork") as root,
        subprocess.Popen(
            [sys.executable, "-c", look],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
        ) as observer,
    ):
        families = json.loads(observer.communicate()[0])["families"]
    pids = [pid for one in families for pid in one["pids"]]
    assert root.pid in pids and observer.pid not in pids


def test_names_cannot_steer_and_any_string_is_one(tmp_path, method, capfd):
    script = tmp_path / "named.py"
    script.write_text(
        "import procession, sys\n"
        "def work(event): event.wait()\n"
        "if __name__ == '__main__':\n"
        "    ctx = procession.get_context(sys.argv[1])\n"
        "    event = ctx.Event()\n"
        "    for name in ('odd\\udcff', '\\u202eright\\x9b'):\n"
        "        ctx.Process(target=work, args=(event,), name=name, daemon=True).start()\n"
        "    print('ready', flush=True)\n"
        "    event.wait()\n"
    )
    with program(script, method) as root:
        assert root.stdout.readline() == "ready\n"
        names = {"odd?", "\u202eright\x9b"}
        until(lambda: names <= {one["name"] for one in dump(root.pid, capfd)["processes"]})
        for words in (["dump", str(root.pid)], ["dump", str(root.pid), "--json"]):
            assert run(*words) == 0
            out = capfd.readouterr().out
            assert "right" in out and "\u202e" not in out and "\x9b" not in out


def test_all_names_of_the_package_are_loaded_without_the_snapshots_types():
    code = (
        "import sys; before = set(sys.modules); from procession import *; "
        "assert 'procession._snapshot' not in sys.modules; import procession; procession.Snapshot"
    )
    environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_an_ended_process_is_listed_with_its_exit_code(tmp_path, capfd):
    script = tmp_path / "ended.py"
    script.write_text(
        "import procession, sys\n"
        "if __name__ == '__main__':\n"
        "    ctx = procession.get_context('fork')\n"
        "    process = ctx.Process(target=sys.exit, args=(7,), name='short')\n"
        "    process.start(); process.join()\n"
        "    print('ready', flush=True)\n"
        "    ctx.Event().wait()\n"
    )
    with program(script) as root:
        assert root.stdout.readline() == "ready\n"
        seen = dump(root.pid, capfd)
    assert {"name": "short", "exit_code": 7} in [
        {key: ended[key] for key in ("name", "exit_code")} for ended in seen["ended"]
    ]
    assert seen["deaths"] == 1


def test_a_snapshot_of_the_own_family_is_typed(ctx):
    lock, queue = ctx.Lock(), ctx.Queue(3)
    queue.put(1)
    with lock:
        seen = procession.snapshot()
    assert isinstance(seen, procession.Snapshot)
    me = os.getpid()
    mine = [process for process in seen.processes if process.pid == me]
    assert [process.threads >= 1 for process in mine] == [True]
    held = [one for one in seen.locks if one.holder is not None and one.holder.pid == me]
    assert any(one.made is not None and "test_families.py" in one.made for one in held)
    assert any((one.depth, one.maxsize, one.is_depth_exact) == (1, 3, True) for one in seen.queues)
    with pytest.raises(AttributeError):
        seen.root = 1


def work(number):
    if number % 3 == 0:
        raise ValueError(number)


def leave(number):
    os._exit(number)


def test_a_pool_shows_what_its_tasks_took_and_how_many_failed(ctx):
    with ctx.Pool(2) as pool:
        for number in range(40):
            pool.apply_async(work, (number,)).wait()
        pools = [one for one in procession.snapshot().pools if one.state == "running"]
        [seen] = [one for one in pools if one.done == 40]
        assert seen.failed == 14 == sum(worker.tasks_failed for worker in seen.workers)
        assert 0 < seen.median_ms <= seen.p99_ms
        assert seen.workers_ended == 0
        with pytest.raises(procession.WorkerDied):
            pool.apply(leave, (7,))

        def is_counted() -> bool:
            [now] = [one for one in procession.snapshot().pools if one.id == seen.id]
            return (now.workers_ended, now.done, now.failed) == (1, 40, 14)

        until(is_counted)


def test_a_dump_names_the_functions_that_workers_run(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        seen = dump_when_asleep(root.pid, capfd)
        [pool] = seen["pools"]
        names = [worker["function"] for worker in pool["workers"]]
        if method == "fork":
            assert names == ["task", "task"]
        assert {name.rpartition(".")[2] for name in names} == {"task"}
        capfd.readouterr()
        assert run("dump", str(root.pid)) == 0
        assert "task of task for " in capfd.readouterr().out


def test_an_item_grows_old(tmp_path, capfd):
    with family(tmp_path, "fork") as root:
        assert all(one["oldest_ms"] is None for one in dump(root.pid, capfd)["queues"])
        assert run("dump", str(root.pid), "--json", "--seconds", "0.2") == 0
        seen = json.loads(capfd.readouterr().out)
        ages = {one["depth"]: one["oldest_ms"] for one in seen["queues"]}
        assert ages[5] >= 190 and ages[0] is None
