"""Fixtures of the tests in a browser: Chromium without a window, and the page of a program.

`make browser` runs these tests. Elsewhere Playwright is not installed, and all of them are skipped.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sight.family import arena_of, program, served
from tests.waiting import until

HERE = pathlib.Path(__file__).resolve().parent
#: Where pictures of the page are kept.
PICTURES = HERE.parent.parent / ".build" / "pictures"
#: Milliseconds that a passing test never waits.
LONG = 60_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("playwright") is None:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(
                    pytest.mark.skip(reason="Playwright is not installed: make browser")
                )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium: the system's, or else the one that Playwright has installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or playwright.chromium.executable_path
        if not pathlib.Path(path).exists():
            pytest.skip("there is no Chromium: apt-get install chromium")
        # As root, Chromium runs only without its sandbox. The pages are this project's own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def keep(page: Any, name: str) -> None:
    """Keep a picture of a page for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


class Watched:
    """A program, and its page in the browser."""

    def __init__(self, process: Any, page: Any) -> None:
        self.process = process
        self.page = page

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""
        keep(self.page, name)

    def view(self, name: str) -> None:
        """Go to a view."""
        self.page.evaluate("name => { location.hash = `#/${name}`; }", name)
        self.page.locator(f'[data-view="{name}"]').wait_for(state="attached")

    def end(self) -> None:
        """Kill the program with all its processes: the page says so."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.page.locator("#state", has_text="ended").wait_for()
        assert "has ended" in self.page.locator("#trouble").inner_text()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens an address. No page may log an error or a warning."""
    problems: list[str] = []

    def note(message: Any) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    with contextlib.ExitStack() as stack:

        def open_page(address: str, **options: Any) -> Any:
            context = browser.new_context(**options)
            stack.callback(context.close)
            context.set_default_timeout(LONG)
            page = context.new_page()
            page.on("console", note)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(address)
            return page

        yield open_page
    assert problems == []


def shares(pid: int) -> bool:
    """Return whether a process has made its family's memory."""
    try:
        arena_of(pid)
    except AssertionError:
        return False
    return True


@pytest.fixture
def watch(open_page: Callable[..., Any]) -> Iterator[Callable[..., Watched]]:
    """Return a function that runs a script and opens its page.

    When the test is through, the program is killed while it is watched: the page must say that it
    has ended.
    """
    with contextlib.ExitStack() as stack:

        def watch(script: pathlib.Path, *args: str, ready: str = "", **options: Any) -> Watched:
            process = stack.enter_context(program(script, *args, stdin=True))
            if ready:
                assert process.stdout is not None
                assert process.stdout.readline() == f"{ready}\n"
            until(lambda: shares(process.pid))
            address, _ = stack.enter_context(served(process.pid, "--interval", "0.1"))
            page = open_page(address, **options)
            page.locator("#state", has_text="live").wait_for()
            watched = Watched(process, page)
            stack.callback(watched.end)
            return watched

        yield watch
