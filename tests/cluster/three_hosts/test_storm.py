"""Processes, and at last a host, killed at random while locks and queues are in use."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(0)  # the program ends by itself if it hangs


def test_a_storm(begin, hosts, pytestconfig):
    kills = pytestconfig.getoption("storms")
    program = begin("ray", "storm.py", "ray", str(kills))
    line = program.line()
    if line != f"killed {kills} on 3 hosts":
        pytest.fail("\n".join([line, *program.end()]))
    hosts[2].cut_power()
    program.say("a host is dead")
    out, err = program.end()
    assert out == "no number came twice, at most one was lost for each death\n", f"{out}\n{err}"


def test_the_program_of_the_storm(begin):
    program = begin("fork", "storm.py", "fork", "6")
    program.say("")
    out, err = program.end()
    assert out.splitlines() == [
        "killed 6 on 1 hosts",
        "no number came twice, at most one was lost for each death",
    ], f"{out}\n{err}"
