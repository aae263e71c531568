"""The plugin for pytest: tests that leave something behind, and tests for each start method.

`-p procession.pytest_plugin` loads it. (An entry point would have pytest rewrite the assertions of
the whole package in every run.) It imports nothing that a test may not need, and does nothing for a
test that does not ask:

- `--procession-leaks`, `procession_leaks = true` in the configuration, or the mark
  `procession_leaks` on a test has it fail if it leaves processes, shared memory or held locks
  behind. `procession_leaks(False)` excludes a test.
- the fixture `procession_context` is a context of each start method in turn, or of those that the
  mark `start_methods` names.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

__all__: list[str] = []

_passed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and its counterpart in the configuration."""
    text = "fail tests that leave processes, shared memory or held locks of procession behind"
    group = parser.getgroup("procession")
    group.addoption("--procession-leaks", action="store_true", help=text)
    parser.addini("procession_leaks", text, type="bool", default=False)
    text = "seconds that processes which are ending have to end, before they are left behind"
    parser.addini("procession_grace", text, default="5")


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marks."""
    for line in (
        "procession_leaks(check=True): fail if the test leaves something of procession behind",
        "start_methods(*names): the start methods of the fixture procession_context",
    ):
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `procession_context` once for each start method."""
    if "procession_context" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("start_methods")
    methods = mark.args if mark is not None else ("fork", "spawn", "forkserver")
    metafunc.parametrize("procession_context", methods, indirect=True)


@pytest.fixture
def procession_context(request: pytest.FixtureRequest) -> Any:
    """A context of each start method in turn; see the mark `start_methods`."""
    from ..context import _default_context

    return _default_context.get_context(request.param)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Note whether the test passed: what a failed test leaves behind is not its failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "call":
        item.stash[_passed] = report.passed


# Function-scoped and automatic, so it is set up after the fixtures that outlive the test, and torn
# down after all others.
@pytest.fixture(autouse=True)
def _procession_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    item = request.node
    if not _is_asked_for(item):
        yield
        return
    before = _State()
    with _recorded() as segments:
        yield
    if not item.stash.get(_passed, False):
        return
    # pytest drops the values of the test's fixtures right after its fixtures' teardown.
    getattr(item, "funcargs", {}).clear()
    left = before.left_behind(float(item.config.getini("procession_grace")))
    if lasting := sorted(name for name in segments if os.path.exists(f"/dev/shm/{name}")):
        left.append(f"segments of shared memory: {', '.join(lasting)}")
    if left:
        pytest.fail("the test left behind " + "; ".join(left), pytrace=False)


def _is_asked_for(item: Any) -> bool:
    mark = item.get_closest_marker("procession_leaks")
    if mark is not None:
        return bool(mark.args[0] if mark.args else mark.kwargs.get("check", True))
    return bool(item.config.getoption("procession_leaks") or item.config.getini("procession_leaks"))


class _State:
    """What there is at one time. Without the engine loaded, there is nothing."""

    def __init__(self) -> None:
        gc.collect()
        self.processes = _processes()
        self.threads = _own_threads()
        self.objects = _objects()
        self.locks = {id(lock) for lock in _held_locks()}

    def left_behind(self, grace: float) -> list[str]:
        """Return a text for each kind of thing that there is more of now."""
        left = []
        gc.collect()
        end = time.monotonic() + grace
        processes = _await_ends(self.processes, grace)
        for thread in _own_threads() - self.threads:
            thread.join(
                max(0, end - time.monotonic())
            )  # that of a pool which is ending has objects
        gc.collect()
        if processes:
            names = [f"{name or 'nameless'} ({pid})" for pid, name in sorted(processes.items())]
            left.append(f"processes: {', '.join(names)}")
        locks = [repr(lock) for lock in _held_locks() if id(lock) not in self.locks]
        if locks:
            left.append(f"held locks: {', '.join(sorted(locks))}")
        # A process that is left behind has objects that are not counted a second time.
        objects = 0 if processes else _objects() - self.objects
        if objects > 0:
            left.append(f"shared memory: {objects} objects, such as queues, locks and arrays")
        return left


def _engine() -> Any:
    return sys.modules.get("procession._procession")


def _processes() -> dict[int, str]:
    """Return the other processes of the family by their number, without its helpers."""
    engine = _engine()
    members = engine.members() if engine is not None else []
    servers = {member["pid"] for member in members if member["name"] == "ForkServer"}
    return {
        member["pid"]: member["name"]
        for member in members
        # The fork server keeps a process ready, which has no name yet.
        if member["pid"] not in servers | {os.getpid()}
        and not (member["parent"] in servers and not member["name"])
    }


def _own_threads() -> set[threading.Thread]:
    """Return the running threads of the package itself."""
    threads = sys.modules.get("procession._threads")
    if threads is None:
        return set()
    return {thread for thread in threading.enumerate() if isinstance(thread, threads.Thread)}


def _await_ends(known: dict[int, str], grace: float) -> dict[int, str]:
    """Return the processes that are not known, after those that are ending have ended."""
    end = time.monotonic() + grace
    while True:
        left = {pid: name for pid, name in _processes().items() if pid not in known}
        remaining = end - time.monotonic()
        if not left or remaining <= 0:
            return left
        poll = select.poll()
        opened = []
        for pid in left:
            try:
                opened.append(os.pidfd_open(pid))
            except ProcessLookupError:
                continue  # it has ended meanwhile
            poll.register(opened[-1], select.POLLIN)
        if opened:
            poll.poll(remaining * 1000)
        for descriptor in opened:
            os.close(descriptor)


def _objects() -> int:
    engine = _engine()
    return engine.counters()["objects"] if engine is not None else 0


def _held_locks() -> list[Any]:
    synchronize = sys.modules.get("procession.synchronize")
    if synchronize is None:
        return []
    kinds = (synchronize.Lock, synchronize.RLock)
    return [thing for thing in gc.get_objects() if type(thing) in kinds and thing._holder()]


@contextlib.contextmanager
def _recorded() -> Iterator[list[str]]:
    """Record the names of the segments that this process makes."""
    from .. import resource_tracker

    names: list[str] = []
    known = set(os.listdir("/dev/shm"))
    register = resource_tracker.register

    def recording(name: str, rtype: str) -> None:
        register(name, rtype)
        if rtype == "shared_memory" and name.lstrip("/") not in known:
            names.append(name.lstrip("/"))

    resource_tracker.register = recording
    try:
        yield names
    finally:
        resource_tracker.register = register
