"""`procession.trace`, `procession trace` and `run --trace`: the file has what the program did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import procession
from tests.conftest import PACKAGE_FOLDER
from tests.sight.family import family, run
from tests.sight.trace_file import TraceFile
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

ITEMS = 200


def double(queue, doubled):
    for item in iter(queue.get, None):
        doubled.put(2 * item)


def square(number):
    return number * number


def put_and_sleep(queue, never):
    queue.put("there")
    never.wait()


def take_and_hold(lock, held, never):
    with lock:
        held.set()
        never.wait()


def test_arrows_lead_from_each_put_to_its_get(ctx, tmp_path):
    queue, doubled = ctx.Queue(), ctx.Queue()
    child = ctx.Process(target=double, args=(queue, doubled), name="doubler")
    with procession.trace(tmp_path / "trace.json"):
        child.start()
        for number in range(ITEMS):
            queue.put(number)
        assert [doubled.get() for _ in range(ITEMS)] == [2 * number for number in range(ITEMS)]
        queue.put(None)
        child.join()
    trace = TraceFile(tmp_path / "trace.json")
    assert trace.lost == 0
    assert trace.names[child.pid] == "doubler"
    me = os.getpid()
    ways = [(begin["pid"], end["pid"]) for begin, end in trace.arrows["item"]]
    assert ways.count((me, child.pid)) == ITEMS + 1
    assert ways.count((child.pid, me)) == ITEMS
    assert len(trace.spans["queue"]) >= 2 * ITEMS + 1
    assert trace.pids("put") >= {me, child.pid}


def test_arrows_lead_from_submit_to_run_to_result(ctx, tmp_path):
    with ctx.Pool(2) as pool:
        pool.map(square, range(4), chunksize=1)
        workers = {worker.pid for worker in pool._pool}
        with procession.trace(tmp_path / "trace.json"):
            assert pool.map(square, range(50), chunksize=1) == [number**2 for number in range(50)]
    trace = TraceFile(tmp_path / "trace.json")
    assert trace.lost == 0
    assert len(trace.named("square")) == 50
    assert trace.pids("square") <= workers
    me = os.getpid()
    for name, first, then in (("run", {me}, workers), ("result", workers, {me})):
        arrows = trace.arrows[name]
        assert len(arrows) == 50
        assert {begin["pid"] for begin, _ in arrows} <= first
        assert {end["pid"] for _, end in arrows} <= then


def test_a_killed_process_keeps_its_place(ctx, tmp_path):
    queue, never, lock, held = ctx.Queue(), ctx.Event(), ctx.Lock(), ctx.Event()
    with procession.trace(tmp_path / "trace.json"):
        sleeper = ctx.Process(target=put_and_sleep, args=(queue, never))
        holder = ctx.Process(target=take_and_hold, args=(lock, held, never))
        sleeper.start()
        holder.start()
        assert queue.get() == "there"
        held.wait()
        for child in (sleeper, holder):
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        with pytest.raises(procession.OwnerDied):
            lock.acquire()
    trace = TraceFile(tmp_path / "trace.json")
    [(put, got)] = [ends for ends in trace.arrows["item"] if ends[0]["pid"] == sleeper.pid]
    assert got["pid"] == os.getpid() and put["ts"] <= got["ts"]
    assert [begin["pid"] for begin, _ in trace.spans["lock"]].count(holder.pid) == 1
    found = [event["name"] for event in trace.events if event["ph"] == "i"]
    assert f"process {holder.pid} was found to have ended" in found


def test_a_program_that_was_not_prepared_is_traced(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        assert run("trace", str(root.pid), "-o", str(tmp_path / "t.json"), "--seconds", "0.3") == 0
        assert root.poll() is None
    out, err = capfd.readouterr()
    assert err == "" and out.splitlines()[0].startswith("tracing the family of process ")
    trace = TraceFile(tmp_path / "t.json")
    assert f"{trace.total} events, 0 lost" in out


def test_run_writes_a_trace_and_keeps_the_exit_code(tmp_path, method):
    script = tmp_path / "program.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "def work(number): return -number\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(2) as pool: print(pool.map(work, range(20), chunksize=1))\n"
        "    sys.exit(7)\n"
    )
    command = ["run", "--start-method", method, "--trace", str(tmp_path / "t.json"), str(script)]
    done = subprocess.run(
        [sys.executable, "-m", "procession", *command],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
    )
    assert (done.returncode, done.stdout) == (7, f"{[-n for n in range(20)]}\n")
    trace = TraceFile(tmp_path / "t.json")
    assert len(trace.named("work")) == 20


def test_a_family_is_traced_by_one_observer(tmp_path):
    second = procession.trace(tmp_path / "second.json")
    with (
        procession.trace(tmp_path / "first.json"),
        pytest.raises(RuntimeError, match="traced already"),
    ):
        second.__enter__()
    assert not (tmp_path / "second.json").exists()
    with procession.trace(tmp_path / "third.json"):
        pass
    assert TraceFile(tmp_path / "third.json").lost == 0


def test_a_trace_outlives_its_family(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import os, procession, signal\n"
        "queue = procession.Queue()\n"
        f"procession.trace({str(tmp_path / 't.json')!r}).__enter__()\n"
        "for number in range(10): queue.put(number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], check=False, env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
    )
    assert done.returncode == -signal.SIGKILL
    until(lambda: (tmp_path / "t.json").read_bytes().endswith(b"}\n"))
    trace = TraceFile(tmp_path / "t.json")
    assert len(trace.spans["queue"]) == 10


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(RuntimeError, match="No such file"):
        procession.trace(tmp_path / "no" / "trace.json").__enter__()
    with procession.trace(tmp_path / "trace.json"):
        pass


def test_what_the_block_raises_is_raised_though_the_tracer_was_killed(run_program, tmp_path):
    done = run_program(
        f"""
import os, signal
import procession

trace = procession.trace({str(tmp_path / "trace.json")!r})
try:
    with trace:
        os.kill(trace._process.pid, signal.SIGKILL)
        raise KeyError("of the block")
except KeyError as error:
    print(error)
"""
    )
    assert (done.returncode, done.stdout) == (0, "'of the block'\n"), done.stderr
