"""`procession metrics`: what it prints is Prometheus' text format, and right."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.conftest import PACKAGE_FOLDER
from tests.sight.family import dump_when_asleep, family, kill_all, process_of, program, run
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})\{{({LABEL}(?:,{LABEL})*)\}} (-?[0-9]+(?:\.[0-9]+)?)")

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def parse(text: str) -> Samples:
    """Parse the format strictly: HELP, TYPE and samples of each metric together, no series twice."""
    assert text.endswith("\n")
    samples: Samples = {}
    lines = iter(text.splitlines())
    metric = ""
    for line in lines:
        if line.startswith("#"):
            name = re.fullmatch(rf"# HELP ({NAME}) [^\\]+", line)
            assert name is not None, line
            metric = name[1]
            assert metric not in samples, metric
            samples[metric] = {}
            kind = re.fullmatch(rf"# TYPE {metric} (counter|gauge)", next(lines))
            assert kind is not None, metric
            assert metric.startswith("procession_")
            assert metric.endswith("_total") == (kind[1] == "counter"), metric
            continue
        found = SAMPLE.fullmatch(line)
        assert found is not None, line
        labels = tuple((name, unescaped(value)) for name, value in re.findall(LABEL, found[2]))
        assert found[1] == metric and labels not in samples[metric], line
        assert len({name for name, _ in labels}) == len(labels)
        samples[metric][labels] = float(found[7])
    return samples


def unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), value)


def metrics(pid: int, capfd: pytest.CaptureFixture[str]) -> tuple[str, Samples]:
    capfd.readouterr()
    assert run("metrics", str(pid)) == 0
    text = capfd.readouterr().out
    return text, parse(text)


def test_figures_are_those_of_a_dump(tmp_path, method, capfd):
    with family(tmp_path, method) as root:
        seen = dump_when_asleep(root.pid, capfd)
        text, samples = metrics(root.pid, capfd)
    common = ("root", str(root.pid))
    assert {labels[0] for series in samples.values() for labels in series} == {common}
    items = {
        dict(labels)["queue"]: value for labels, value in samples["procession_queue_items"].items()
    }
    assert items == {queue["id"]: queue["depth"] for queue in seen["queues"]}
    waiting = samples["procession_lock_waiting_threads"]
    [lock] = [lock for lock in seen["locks"] if lock["waiters"]]
    labels = (common, ("lock", lock["id"]), ("kind", "lock"), ("made", lock["made"]))
    assert waiting == {labels: 1}
    wanter = process_of(seen, "wanter")["pid"]
    waits = samples["procession_process_waiting_seconds"]
    assert waits[common, ("pid", str(wanter)), ("name", "wanter")] > 0
    pools = {
        dict(labels)["state"]: value for labels, value in samples["procession_pool_tasks"].items()
    }
    assert pools == {"queued": 4, "running": 2, "uncollected": 0}
    assert sum(samples["procession_processes"].values()) == len(seen["processes"])
    assert samples["procession_deadlocks"] == {(common,): 0}
    if importlib.util.find_spec("prometheus_client"):
        from prometheus_client.parser import text_string_to_metric_families

        families = {one.name: one for one in text_string_to_metric_families(text)}
        assert {name.removesuffix("_total") for name in samples} == set(families)


def test_names_are_escaped(tmp_path, capfd):
    script = tmp_path / "named.py"
    script.write_text(
        "import procession\n"
        "procession.Process(target=input, name='a\"b\\\\c\\nd\\u202e', daemon=True).start()\n"
        "print('ready', flush=True)\n"
        "procession.Event().wait()\n"
    )
    with program(script) as root:
        assert root.stdout.readline() == "ready\n"

        def is_named() -> bool:
            text, samples = metrics(root.pid, capfd)
            assert "\u202e" not in text
            cpu = samples["procession_process_cpu_seconds_total"]
            return 'a"b\\c?d?' in {dict(labels)["name"] for labels in cpu}

        until(is_named)


def test_a_scraper_is_answered_until_the_family_ends(tmp_path, capfd):
    command = [sys.executable, "-m", "procession", "metrics", "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(family(tmp_path, "fork"))
        seen = dump_when_asleep(root.pid, capfd)
        server = subprocess.Popen(
            [*command, str(root.pid)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        stack.callback(server.communicate)
        stack.callback(server.kill)
        address = server.stdout.readline().strip()
        port = int(address.split(":")[2].split("/")[0])
        # Clients that say nothing are in no one's way, however many they are.
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            samples = parse(answer.read().decode())
        assert len(samples["procession_queue_items"]) == len(seen["queues"])
        foreign = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=60)
        kill_all([process["pid"] for process in seen["processes"]])

        def has_ended() -> bool:
            # As a check does whether something listens.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                pass
            return server.poll() is not None

        until(has_ended)
        assert server.wait(60) == 3
        assert "has ended" in server.stderr.read()


def test_only_this_machine_is_listened_to(tmp_path, capfd):
    with family(tmp_path, "fork") as root:
        capfd.readouterr()
        assert run("metrics", str(root.pid), "--listen", "0.0.0.0:0") == 2
        assert "not an address of this machine alone" in capfd.readouterr().err
        assert run("metrics", "--listen", "127.0.0.1:0", "--seconds", "1") == 2


def test_a_family_that_is_not_there_is_an_error(capfd):
    assert run("metrics", str(2**31)) == 3
    assert capfd.readouterr().out == ""
