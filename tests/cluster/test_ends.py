"""The end of the driver, in whatever way: nothing is left on any node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from ..conftest import PACKAGE_FOLDER
from ..waiting import LONG, until_ended

PROGRAM = """
import json, os, sys, time
import procession
from tests.cluster.loopback import Loopback

def work(queue, lock, pids):
    queue.empty()
    pids.put(os.getpid())
    if sys.argv[1] == "busy":
        while True:
            pass
    with lock:
        time.sleep(600)

def nest(queue, lock, pids):
    children = [procession.Process(target=work, args=(queue, lock, pids)) for _ in range(2)]
    for child in children:
        child.start()
    work(queue, lock, pids)

if __name__ == "__main__":
    cluster = Loopback(2, own_cpus=1)
    procession.set_start_method("ray")
    queue, lock, pids = procession.Queue(), procession.Lock(), procession.Queue()
    children = [
        procession.Process(target=nest, args=(queue, lock, pids), daemon=sys.argv[1] == "daemons")
        for _ in range(3)
    ]
    if sys.argv[1] == "daemons":
        children = [
            procession.Process(target=work, args=(queue, lock, pids), daemon=True) for _ in range(9)
        ]
    for child in children:
        child.start()
    found = [pids.get() for _ in range(9)]
    members = [member["pid"] for member in procession._procession.members()]
    elsewhere = [pid for pid in found if pid not in members]
    found += [agent.pid for agent in cluster.agents]
    print(json.dumps([elsewhere, found + members]), flush=True)
    if sys.argv[1] == "daemons":
        sys.exit(7)
    for child in children:
        child.join()
"""


def _start(tmp_path, how):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    folders = os.pathsep.join([PACKAGE_FOLDER, root])
    driver = subprocess.Popen(
        [sys.executable, str(path), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": folders},
        start_new_session=True,
    )
    line = driver.stdout.readline()
    if not line:
        pytest.fail(driver.stderr.read())
    elsewhere, found = json.loads(line)
    assert len(set(found)) >= 9 + 2 + 4
    return driver, found, elsewhere


def _end(driver, found):
    """Wait until the driver and all that it started has ended; return what it wrote."""
    output = driver.communicate(timeout=LONG)
    until_ended(found)
    return output


@pytest.mark.parametrize("how", ["waiting", "busy"])
def test_a_killed_driver(tmp_path, how):
    driver, found, _elsewhere = _start(tmp_path, how)
    driver.kill()
    _end(driver, found)


def test_a_stopped_process_of_another_node_ends_as_well(tmp_path):
    driver, found, elsewhere = _start(tmp_path, "waiting")
    os.kill(elsewhere[0], signal.SIGSTOP)
    driver.kill()
    _end(driver, found)


def test_a_terminated_driver(tmp_path):
    driver, found, _elsewhere = _start(tmp_path, "waiting")
    driver.terminate()
    _end(driver, found)


def test_a_driver_that_exits_ends_its_daemons(tmp_path):
    driver, found, _elsewhere = _start(tmp_path, "daemons")
    out, err = _end(driver, found)
    assert (driver.returncode, out) == (7, "")
    # One may learn before its own end that another has died with a lock, or that its home has ended.
    assert not err or "NodeLost" in err or "OwnerDied" in err


def test_ctrl_c(tmp_path):
    driver, found, _elsewhere = _start(tmp_path, "waiting")
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does; agents under Ray are not in it
    output = _end(driver, found)
    assert driver.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in output[1]
