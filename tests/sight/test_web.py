"""`procession web` over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import signal
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sight.family import (
    arena_of,
    content_of,
    dump_when_asleep,
    family,
    kill_all,
    process_of,
    run,
    served,
)
from tests.sight.test_metrics import parse
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


class Site:
    """A page's site: asks it questions."""

    def __init__(self, address: str) -> None:
        self.address = address
        parts = urllib.parse.urlsplit(address)
        self.host, self.port, self.path = parts.hostname, parts.port, parts.path

    @contextlib.contextmanager
    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask for a path as it is."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            yield connection.getresponse()

    def status(self, path: str, method: str = "GET", **headers: str) -> int:
        with self.ask(path, method, **headers) as answer:
            return answer.status

    def get(self, name: str) -> str:
        """Ask for a page below the token."""
        with self.ask(self.path + name) as answer:
            text = answer.read().decode()
            assert answer.status == 200, text
            return text

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield the events that come, by name and content."""
        with self.ask(f"{self.path}api/events") as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            name = ""
            for line in map(bytes.decode, iter(answer.readline, b"")):
                if line.startswith("event: "):
                    name = line.removeprefix("event: ").strip()
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))


@pytest.fixture
def shown(tmp_path, capfd):
    """The root of a family, what `dump` says of it, its site, and the server."""
    with family(tmp_path, "fork") as root:
        seen = dump_when_asleep(root.pid, capfd)
        with served(root.pid, "--interval", "0.1") as (address, server):
            yield root, seen, Site(address), server


def test_the_address_is_of_this_machine_and_has_a_token(shown):
    _, _, site, _ = shown
    assert site.host == "127.0.0.1"
    assert re.fullmatch(r"/[0-9a-f]{32}/", site.path)
    assert "<!doctype html>" in site.get("")


def test_without_the_token_or_with_a_foreign_host_nothing_is_told(shown):
    _, _, site, _ = shown
    wrong = "/" + "0" * 32 + "/"
    for path in [
        "/",
        "/metrics",
        "/api/family",
        "/api/events",
        "/page.js",
        wrong,
        wrong + "api/family",
    ]:
        assert site.status(path) == 403, path
    for host in ["evil.example", "127.0.0.1.evil.example", f"evil.example:{site.port}"]:
        assert site.status(site.path, Host=host) == 403, host
    assert site.status(site.path, Host=f"localhost:{site.port}") == 200
    for method in ["POST", "PUT", "DELETE", "OPTIONS"]:
        assert site.status(site.path, method) == 405, method
    assert site.status(site.path, "HEAD") == 200
    assert site.status(site.path + "../../../etc/passwd") == 404


def test_no_answer_lets_a_page_load_from_elsewhere_or_be_kept(shown):
    _, _, site, _ = shown
    for name in [
        "",
        "page.js",
        "page.css",
        "icon.svg",
        "metrics",
        "api/family",
        "api/events",
        "nothing",
    ]:
        with site.ask(site.path + name) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none';")
            assert "unsafe" not in policy and "*" not in policy
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_what_is_told_is_what_dump_and_metrics_tell(shown):
    root, seen, site, _ = shown
    asked = json.loads(site.get("api/family"))
    assert set(asked) == set(seen)
    assert asked["root"] == root.pid
    event, told = next(site.events())
    assert event == "family"
    assert set(told) == {*seen, "beyond", "is_one_of_several", "program", "taken_ms"}
    assert told["program"] == "python sick.py"
    wanter, before = process_of(told, "wanter"), process_of(seen, "wanter")
    assert wanter["pid"] == before["pid"]
    assert [queue["depth"] for queue in told["queues"]] == [
        queue["depth"] for queue in seen["queues"]
    ]
    samples = parse(site.get("metrics"))
    assert len(samples["procession_queue_items"]) == len(seen["queues"])
    assert "top-secret" not in json.dumps(told) + site.get("api/family")


def state_of(pid: int) -> str:
    """Return the kernel's letter for a process's state."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def test_nothing_is_changed_by_looking(shown):
    root, seen, site, _ = shown
    arena = arena_of(root.pid)
    # Processes that wait look around now and then.
    os.killpg(root.pid, signal.SIGSTOP)
    until(lambda: all(state_of(one["pid"]) == "T" for one in seen["processes"]))
    before = content_of(arena)
    events = site.events()
    for _ in range(5):
        next(events)
    site.get("api/family")
    assert content_of(arena) == before


def test_the_end_of_the_family_is_told_to_all_that_follow(shown):
    _, seen, site, server = shown
    followers = [site.events() for _ in range(3)]
    for events in followers:
        assert next(events)[0] == "family"
    kill_all([process["pid"] for process in seen["processes"]])
    for events in followers:
        [*_, last] = events
        assert last[0] == "ended"
        assert "has ended" in last[1]["error"]
    assert server.wait(60) == 3
    assert "has ended" in server.stderr.read()


def test_clients_that_do_not_read_are_in_nobodys_way(shown):
    _, _, site, _ = shown
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            slow = stack.enter_context(socket.create_connection((site.host, site.port)))
            slow.sendall(f"GET {site.path}api/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert slow.recv(12) == b"HTTP/1.1 200"
        for _ in range(40):
            stack.enter_context(socket.create_connection((site.host, site.port)))
        with site.ask(f"{site.path}api/events") as answer:
            assert answer.status == 503
        assert json.loads(site.get("api/family"))["root"]


def answers(site: Site) -> bool:
    try:
        return site.status(site.path) == 200
    except ConnectionError:
        return False


def descriptors(pid: int) -> set[int]:
    return {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}


def has_spare(pid: int) -> bool:
    """Return whether a server has the descriptor that it gives up to refuse a client."""
    files = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in descriptors(pid) if fd > 2}
    return "/dev/null" in files


def test_without_a_free_descriptor_clients_are_refused_until_there_is_one(shown):
    root, _, site, server = shown
    until(lambda: has_spare(server.pid))
    used = descriptors(server.pid)
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (max(used) + 4, before[1]))
    with contextlib.ExitStack() as stack:

        def follow() -> http.client.HTTPResponse | None:
            """Return an answer that goes on, or None if it was refused, or closed unread."""
            try:
                answer = stack.enter_context(site.ask(f"{site.path}api/events"))
            except ConnectionError:
                return None
            stack.callback(answer.close)
            return answer if answer.status == 200 else None

        followers = list(iter(follow, None))
        # Fewer than may follow at once, and none is told that the family has ended.
        assert 0 < len(followers) < 8
        first = iter(followers[0].readline, b"")
        while next(first) != b"event: trouble\n":
            pass
        assert b"too many open files" in next(first).lower()
        assert server.poll() is None
    until(lambda: answers(site))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
    assert json.loads(site.get("api/family"))["root"] == root.pid


def test_without_even_the_spare_descriptor_clients_wait(shown):
    _, _, site, server = shown
    until(lambda: has_spare(server.pid))
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    # All that is open stays open; the next number is beyond the limit.
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (2, before[1]))
    with socket.create_connection((site.host, site.port), timeout=60) as client:
        client.sendall(f"GET {site.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        until(lambda: not has_spare(server.pid))
        # It does not try again and again.
        until(lambda: state_of(server.pid) == "S")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_other_machines_are_let_in_only_where_it_is_said(tmp_path, capfd):
    with (
        family(tmp_path, "fork") as root,
        served(root.pid, "--host", "0.0.0.0") as (address, server),
    ):
        site = Site(address)
        assert site.host == "0.0.0.0"
        site.host = "127.0.0.1"
        # A name could be one that was made to lead here.
        assert site.status(site.path, Host="evil.example") == 403
        assert site.status(site.path, Host="192.0.2.1:80") == 200
        assert site.status("/", Host="192.0.2.1:80") == 403
        server.kill()
        assert "other machines can connect" in server.stderr.read()


def test_a_port_can_be_chosen_once(tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken, family(tmp_path, "fork") as root:
        port = taken.getsockname()[1]
        capfd.readouterr()
        assert run("web", str(root.pid), "--port", str(port)) == 1
        assert "in use" in capfd.readouterr().err
        taken.close()
        with served(root.pid, "--port", str(port)) as (address, _):
            assert Site(address).port == port


def test_what_is_not_there_or_wrong_is_an_error(capfd):
    assert run("web", str(2**31)) == 3
    assert run("web", "--host", "localhost.evil.example") == 2
    assert run("web", "--interval", "0") == 2
    capfd.readouterr()
    assert run("completions", "bash") == 0
    assert "web" in capfd.readouterr().out


def test_several_families_have_a_list_and_a_page_each(tmp_path):
    with (
        family(tmp_path, "fork") as one,
        family(tmp_path, "fork") as other,
        served(None) as (address, _),
    ):
        site = Site(address)
        assert "families.js" in site.get("")
        found = {one["root"]: one for one in json.loads(site.get("api/families"))["families"]}
        # Other tests may run beside this one.
        assert {one.pid, other.pid} <= set(found)
        number = found[other.pid]["number"]
        assert found[other.pid]["program"] == "python sick.py"
        assert json.loads(site.get(f"{number}/api/family"))["root"] == other.pid
        assert "page.js" in site.get(f"{number}/")
        assert site.status(f"/{number}/") == 403
        pids = [
            process["pid"] for process in json.loads(site.get(f"{number}/api/family"))["processes"]
        ]
        site.path += f"{number}/"
        events = site.events()
        assert next(events)[1]["is_one_of_several"] is True
        kill_all(pids)
        while next(events)[0] != "ended":
            pass
        assert site.status(site.path) == 404
