"""The time limit of programs that are interrupted."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from tests.storm import patience


@pytest.fixture
def sleeper():
    """A process that leads a session of its own and waits for input."""
    program = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with program:
        assert program.stdout.readline() == b"\n"
        yield program.pid
        program.kill()


def test_a_process_that_sleeps_uses_up_its_limit(sleeper, monkeypatch):
    limit = patience.Patience(sleeper, 60)
    assert not limit.is_over()
    later = time.monotonic() + 100 + patience.waited(sleeper)
    monkeypatch.setattr(patience.time, "monotonic", lambda: later)
    assert limit.is_over()
    text = patience.descriptions(sleeper)
    assert f"{sleeper} {sys.executable} -c" in text
    assert re.search(rf"thread {sleeper}: [RSD] in ", text)
    assert "to run" in text


def test_a_process_without_a_processor_does_not(sleeper, monkeypatch):
    limit = patience.Patience(sleeper, 60)
    monkeypatch.setattr(patience, "waited", lambda pid: 45.0)
    begun = limit.begun
    monkeypatch.setattr(patience.time, "monotonic", lambda: begun + 100)
    assert not limit.is_over()
    assert limit.waited == 45
    # What a process that has ended had waited still counts.
    monkeypatch.setattr(patience, "session", lambda leader: [])
    monkeypatch.setattr(patience.time, "monotonic", lambda: begun + 104)
    assert not limit.is_over()
    monkeypatch.setattr(patience.time, "monotonic", lambda: begun + 106)
    assert limit.is_over()


def test_what_a_process_waited_for_a_processor_is_counted_by_the_kernel(sleeper):
    assert 0 <= patience.waited(sleeper) < time.monotonic()
    assert patience.session(sleeper) == [sleeper]
