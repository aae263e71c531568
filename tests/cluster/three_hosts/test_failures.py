"""What happens when a process, a host, a cable or the driver of three hosts fails."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.waiting import until

pytestmark = pytest.mark.timeout(400)

#: What is left in Ray's state, as a driver of its own sees it.
STATE = """
import json, ray
ray.init(logging_level="ERROR", log_to_driver=False)
actors = [actor["State"] for actor in ray._private.state.actors().values()]
groups = [group["state"] for group in ray.util.placement_group_table().values()]
whole = ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]
print(json.dumps([set(actors) <= {"DEAD"}, set(groups) <= {"REMOVED"}, whole]))
"""

KNOCK_WITH_WRONG_KEY = """
import sys
from procession import AuthenticationError
from procession.connection import Client
try:
    Client((sys.argv[1], int(sys.argv[2])), authkey=b"a wrong key")
except AuthenticationError:
    print("refused")
"""
#: Begins with a length of 100 MB.
KNOCK_WITH_NONSENSE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as knock:
    knock.settimeout(60)
    while knock.recv(1) != b"#":  # as the challenge begins
        pass
    knock.sendall(b"\\x06\\x00\\x00\\x00nonsense" * 100)
    try:
        while knock.recv(1000):
            pass
    except ConnectionResetError:
        pass
print("refused")
"""


def is_running(hosts, place):
    """Return whether a process lives: "HOST/PID", its pid as that host has it."""
    name, _, pid = place.partition("/")
    host = next(host for host in hosts if host.name == name)
    try:
        stat = pathlib.Path(f"/proc/{host.pid}/root/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def nothing_is_left(hosts):
    """Return whether Ray has no actor, placement group or CPU in use."""
    process = hosts[0].popen([sys.executable, "-c", STATE], stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return all(json.loads(out))


def shipped(host):
    """Return the folders into which the program's code was unpacked."""
    return list(host.path("").glob("procession-*"))


def begun(program):
    """Return the words that a program says once all runs."""
    line = program.line()
    if not line.startswith("ready "):
        raise AssertionError("\n".join([line, *program.end()]))
    return line.split()[1:]


def test_a_host_dies(begin, hosts):
    program = begin("ray", "failing.py", "ray", "a_host")
    assert begun(program) == ["host0", "host1", "host2"]
    hosts[2].cut_power()
    program.say("go on")
    out, err = program.end()
    told, _, code, *rest = out.splitlines()
    assert told == "OwnerDied True", f"{out}\n{err}"
    assert re.fullmatch(r"exit code -?[1-9]\d* False", code), code
    assert rest == [
        "usable",
        "others go on True True",
        "a new process is elsewhere True",
        *3 * ["exit code -15"],
    ]


def test_a_host_dies_with_tasks_and_an_end_of_a_pipe(begin, hosts):
    program = begin("ray", "failing.py", "ray", "a_hosts_pool")
    assert begun(program) == ["host0", "host1", "host2"]
    hosts[2].cut_power()
    program.say("go on")
    out, err = program.end()
    assert out.splitlines() == [
        *2 * ["again at host2 False"],
        "again 2 True",
        *2 * ["WorkerDied True"],
        "others True",
        "end of file",
        "still serves True",
    ], f"{out}\n{err}"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed9", "killed15"])
def test_the_driver_is_killed(begin, hosts, end):
    """All processes on all hosts end, busy ones too; of them nothing is left in Ray or in files."""
    program = begin("ray", "failing.py", "ray", "a_driver")
    places = begun(program)
    assert {place.partition("/")[0] for place in places} == {"host0", "host1", "host2"}
    assert len(places) == 7 and all(is_running(hosts, place) for place in places)
    assert [bool(shipped(host)) for host in hosts] == [False, True, True]
    begin_of_end = time.monotonic()
    program.kill(end)
    until(lambda: not any(is_running(hosts, place) for place in places))
    print(f"all processes ended {time.monotonic() - begin_of_end:.1f} s after their driver")
    until(lambda: nothing_is_left(hosts))
    until(lambda: not any(map(shipped, hosts)))


def test_ctrl_c(begin, hosts):
    program = begin("ray", "failing.py", "ray", "interrupted")
    places = begun(program)
    program.send(signal.SIGINT)
    out, err = program.end()
    assert out == "interrupted\n", f"{out}\n{err}"
    until(lambda: not any(is_running(hosts, place) for place in places))
    until(lambda: nothing_is_left(hosts))


def test_a_cable_is_out_for_a_while(begin, hosts):
    program = begin("ray", "failing.py", "ray", "a_cable")
    assert begun(program) == ["host0", "host1", "host2"]
    program.say("go on")
    for host in (hosts[1], hosts[2]):
        host.cut_cable()
        time.sleep(2)  # the cable is out for this time, which is shorter than Ray's limit
        host.restore_cable()
    out, err = program.end()
    want = ["counted counted counted put put put True", "in order True", "empty True"]
    assert out.splitlines() == want, f"{out}\n{err}"


def test_calls_end_by_their_timeouts_while_the_cable_is_out(begin, hosts):
    program = begin("ray", "failing.py", "ray", "a_long_cut")
    assert begun(program) == ["host0", "host1", "host2"]
    hosts[2].cut_cable()
    program.say("go on")
    time.sleep(4)  # longer than the calls' timeouts, shorter than Ray's limit
    hosts[2].restore_cable()
    out, err = program.end()
    want = ["all ended ['host0', 'host1', 'host2']", "by ['Empty']"]
    assert out.splitlines() == want, f"{out}\n{err}"


def test_prints_of_processes_come_to_the_driver_line_by_line(begin, hosts):
    out, err = begin("ray", "failing.py", "ray", "prints").end()
    lines = re.findall(r"line (\d+) of (\d+) x{300}$", out, re.MULTILINE)
    assert sorted((int(turn), int(number)) for turn, number in lines) == sorted(
        (turn, number) for turn in range(20) for number in range(3)
    ), f"{out}\n{err}"
    assert sorted(re.findall(r"to standard error (\d)$", err, re.MULTILINE)) == ["0", "1", "2"]


def test_who_does_not_know_the_key_is_refused(begin, hosts):
    """Each node listens at its own address, not at all of them."""
    program = begin("ray", "failing.py", "ray", "listens")
    places = dict(place.split("/") for place in begun(program))
    assert {name: place.partition(":")[0] for name, place in places.items()} == {
        host.name: host.address for host in hosts
    }
    for place in places.values():
        address = tuple(place.split(":"))
        for knock in (KNOCK_WITH_WRONG_KEY, KNOCK_WITH_NONSENSE):
            process = hosts[1].popen([sys.executable, "-c", knock, *address])
            out, _ = process.communicate(timeout=100)
            assert out == "refused\n"
    program.say("end")
    out, err = program.end()
    assert program.process.returncode == 0, f"{out}\n{err}"
