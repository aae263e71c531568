"""The time limit of programs that are interrupted."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

import procession
from tests.storm import patience, workers


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
    limit = patience.session_limit(sleeper, 60)
    assert not limit.is_over()
    monkeypatch.setattr(patience, "waited", lambda pid: 0.0)
    begun = limit.begun
    monkeypatch.setattr(patience.time, "monotonic", lambda: begun + 61)
    assert limit.is_over()
    text = patience.descriptions(patience.session(sleeper))
    assert f"{sleeper} {sys.executable} -c" in text
    assert re.search(rf"thread {sleeper}: [RSD] in ", text)


def test_processes_without_a_processor_do_not(monkeypatch):
    now, waits = 100.0, {1: 5.0, 2: 0.0}
    monkeypatch.setattr(patience.time, "monotonic", lambda: now)
    monkeypatch.setattr(patience, "waited", lambda pid: waits[pid])
    limit = patience.Patience(lambda: list(waits), 60)
    now, waits = 200.0, {1: 55.0, 2: 45.0}
    # Two processes that wait at the same time delay the others once.
    assert not limit.is_over()
    assert limit.waited == 50
    # The waits of different times add up, and what an ended process waited still counts.
    now, waits = 210.0, {2: 50.0}
    assert not limit.is_over()
    assert limit.waited == 55
    now = 216.0
    assert limit.is_over()
    # A process with many threads may wait for longer than the time that passes.
    now, waits = 220.0, {2: 1000.0}
    limit.is_over()
    assert limit.waited == 59


def test_a_stuck_worker_is_named_with_what_it_does(monkeypatch):
    monkeypatch.setattr(workers, "TIMEOUT", 0.1)
    context = procession.get_context("fork")
    gate = context.Event()
    group = workers.Workers(context, 1, 2, wait_for, gate)
    try:
        with pytest.raises(
            workers.Stuck, match=rf"(?s)places \[0, 1\].*{group.places[1].pid} .*ran"
        ):
            group.resolve()
    finally:
        group.end()


def wait_for(place, beats, gate):
    gate.wait()


def test_what_a_process_waited_for_a_processor_is_counted_by_the_kernel(sleeper):
    assert 0 <= patience.waited(sleeper) < time.monotonic()
    assert patience.session(sleeper) == [sleeper]
