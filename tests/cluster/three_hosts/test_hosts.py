"""The three hosts themselves: each is a machine of its own, fails as one, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.cluster import hosts as tool
from tests.waiting import until, until_ended

pytestmark = pytest.mark.timeout(400)

WHERE = "import os, socket; print(socket.gethostname(), os.getpid())"
CONNECT = "import socket, sys; socket.create_connection(('10.77.0.1', 6379), 1)"
NODES = """
import json, ray
ray.init(logging_level="ERROR", log_to_driver=False)
print(json.dumps([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]))
"""
RUN = """
import signal
from tests.cluster.hosts import Hosts
with Hosts(ray=False) as hosts:
    print(hosts.name, *(host.pid for host in hosts), flush=True)
    signal.pause()
"""


def on(host, program):
    """Run a program on a host; return its exit code and what it printed."""
    process = host.popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    out, _ = process.communicate(timeout=100)
    return process.returncode, out


def nodes(hosts):
    """Return the hosts whose nodes live, as the head sees it."""
    addresses = json.loads(on(hosts[0], NODES)[1])
    return [host for host in hosts if addresses.count(host.address) == 1]


def test_hosts_share_neither_names_nor_pids_nor_files(hosts):
    for host in hosts:
        code, out = on(host, WHERE)
        name, pid = out.split()
        assert code == 0 and name == host.name
        assert int(pid) < host.pid
    hosts[1].path("note").write_text("of host1")
    assert hosts[1].path("note").exists() and not hosts[2].path("note").exists()
    assert nodes(hosts) == list(hosts)


def test_a_cable_is_cut_and_restored(hosts):
    assert on(hosts[1], CONNECT)[0] == 0
    hosts[1].cut_cable()
    assert on(hosts[1], CONNECT)[0] == 1
    assert on(hosts[2], CONNECT)[0] == 0
    hosts[1].restore_cable()
    until(lambda: on(hosts[1], CONNECT)[0] == 0)


def test_a_host_without_power_is_dead_to_the_others(hosts):
    hosts[2].cut_power()
    until(lambda: nodes(hosts) == hosts[:2])
    hosts.repair()
    assert nodes(hosts) == list(hosts)


def test_delay_and_loss(hosts):
    if reason := tool.lacking_netem(hosts):
        pytest.skip(reason)
    hosts[1].impair(300)
    quick = CONNECT.replace("), 1)", "), 0.1)")
    assert on(hosts[1], quick)[0] == 1
    hosts[1].impair(0)
    assert on(hosts[1], quick)[0] == 0


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_ended(end):
    if reason := tool.lacking():
        pytest.skip(reason)
    run = subprocess.Popen(
        [sys.executable, "-c", RUN],
        cwd=tool.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    name, *pids = run.stdout.readline().split()
    assert len(pids) == 3 and all(os.path.exists(f"/proc/{pid}") for pid in pids)
    run.send_signal(end)
    run.wait()
    run.stdout.close()
    until_ended(map(int, pids))
    tool.remove_leftovers()
    for folder in ("/run", "/run/netns"):
        assert not list(pathlib.Path(folder).glob(f"{name}*"))
