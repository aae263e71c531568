"""Programs on a Ray of one node. Skipped where Ray is not in `.build/ray-X.Y` (`make cluster`)."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import pytest

from ..conftest import PACKAGE_FOLDER
from ..waiting import LONG, until_ended

ROOT = pathlib.Path(__file__).parent.parent.parent
RAY = ROOT / ".build" / f"ray-{sys.version_info.major}.{sys.version_info.minor}"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(map(str, (RAY, PACKAGE_FOLDER, ROOT))),
    "RAY_USAGE_STATS_ENABLED": "0",
}

pytestmark = pytest.mark.skipif(not (RAY / "ray").is_dir(), reason=f"Ray is not in {RAY}")

START = "from ray.scripts.scripts import main; main()"
OPTIONS = (
    "--head --block --num-cpus=2 --include-dashboard=false --disable-usage-stats"
    " --object-store-memory=80000000 --node-ip-address=127.0.0.1"
)


@pytest.fixture(scope="session")
def address():
    """A Ray of one node, at this address."""
    # Unix sockets lie in the folder: its path must be short.
    folder = f"/tmp/procession-ray-{os.getpid()}"
    ray = subprocess.Popen(
        [
            sys.executable,
            "-c",
            START,
            "start",
            *OPTIONS.split(),
            "--port=0",
            f"--temp-dir={folder}",
        ],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines, address = [], None
    for line in ray.stdout:
        lines.append(line)
        found = re.search(r"--address='([^']+)'", line)
        address = found[1] if found else address
        if "--block" in line:
            break
    assert address is not None, "".join(lines)
    threading.Thread(target=ray.stdout.read, daemon=True).start()
    yield address
    ray.terminate()
    ray.wait(LONG)
    shutil.rmtree(folder, ignore_errors=True)


def _run(tmp_path, program, *command):
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, *command, str(path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=2 * LONG,
    )
    assert done.returncode == 0, done.stderr
    return done


PLAIN = """
import multiprocessing, os

def work(queue, lock, value):
    with lock:
        value.value += 1
    queue.put((multiprocessing.current_process().name, os.getpid()))

if __name__ == "__main__":
    queue, lock = multiprocessing.Queue(), multiprocessing.Lock()
    value = multiprocessing.Value("i", 0)
    children = [multiprocessing.Process(target=work, args=(queue, lock, value)) for _ in range(3)]
    for child in children:
        child.start()
    found = dict(queue.get() for _ in children)
    for child in children:
        child.join()
    assert found == {child.name: child.pid for child in children}, found
    print([child.exitcode for child in children], value.value, multiprocessing.cpu_count())
"""


def test_a_plain_program_on_its_own_node(tmp_path, address):
    done = _run(tmp_path, PLAIN, "-m", "procession", "run", "--cluster", address)
    assert done.stdout == "[0, 0, 0] 3 2\n"


#: Has an agent on the one node as well, which no other program does, and starts all processes there.
WITH_AGENT = """
import os, sys, time
import procession
from procession._cluster import cluster

start_agents = cluster._Driver._start_agents
cluster._Driver._start_agents = lambda self, ray, nodes, own, key: start_agents(
    self, ray, nodes, "", key
)

def work(queue, parent):
    queue.put((os.getpid(), procession.parent_process().pid == parent, os.getppid()))
    time.sleep(600 if sys.argv[1:] else 0)

if __name__ == "__main__":
    context = procession.get_context("ray", address=ADDRESS)
    queue = context.Queue()
    child = context.Process(target=work, args=(queue, os.getpid()))
    child.start()
    pid, knows, maker = queue.get()
    assert pid == child.pid and knows
    if sys.argv[1:]:
        print(pid, maker, flush=True)
        time.sleep(600)
    child.join()
    print(child.exitcode)
"""


def test_an_agent(tmp_path, address):
    program = WITH_AGENT.replace("ADDRESS", repr(address))
    assert _run(tmp_path, program).stdout.endswith("0\n")


POOLS = """
def work(number):
    return number * number

if __name__ == "__main__":
    with context.Pool() as pool:
        assert pool.map(work, range(100), 1) == [x * x for x in range(100)]
        workers = pool._processes
    with procession.ProcessPoolExecutor(mp_context=context) as executor:
        print(workers, executor.submit(work, 7).result())
"""


def test_pools(tmp_path, address):
    """The same on the program's own node, and with an agent."""
    plain = f"import procession\ncontext = procession.get_context('ray', address={address!r})\n"
    assert _run(tmp_path, plain + POOLS).stdout == "2 49\n"
    start = WITH_AGENT.partition("def work")[0].replace("ADDRESS", repr(address))
    start += f"context = procession.get_context('ray', address={address!r})\n"
    assert _run(tmp_path, start + POOLS).stdout.endswith("2 49\n")


def test_nothing_is_left_of_a_killed_driver(tmp_path, address):
    path = tmp_path / "program.py"
    path.write_text(WITH_AGENT.replace("ADDRESS", repr(address)))
    driver = subprocess.Popen(
        [sys.executable, str(path), "wait"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    for line in driver.stdout:
        if len(line.split()) == 2:
            break
    driver.kill()
    driver.communicate()
    until_ended(map(int, line.split()))
