"""When a soak measures."""

from __future__ import annotations

import json
import os
import signal

import pytest

import procession
from procession import _procession
from tests.storm import soak
from tests.waiting import until


@pytest.fixture
def counters(monkeypatch):
    """Counts that the engine returns one after the other; the last of them from then on."""
    looks = []
    monkeypatch.setattr(soak, "CALM", 0.1)
    idle = dict.fromkeys(("objects", "references", "owned", "transit", "deferred", "other"), 0)

    def look():
        return idle | {"other": looks.pop(0) if len(looks) > 1 else looks[0]}

    monkeypatch.setattr(soak._procession, "counters", look)
    return looks


def test_an_object_may_be_in_destruction_before_the_counts_have_settled(counters):
    counters += [1, 1, 0]
    assert soak.Use.settled().other == 0
    assert counters == [0]


def test_but_not_afterwards(counters):
    counters += [1]
    with pytest.raises(AssertionError, match="other=1"):
        soak.Use.settled()


def test_the_cells_do_not_say_how_many_references_were_held_at_once():
    def cells():
        return soak.Use.now().cells

    soak.hold_many()
    before = cells()
    for number in (1, 127, 128, soak.HELD) * 5:
        held = [procession.Lock() for _ in range(number)]
        del held
        assert cells() == before


def test_memory_left_to_processes_that_died_is_not_counted():
    context = procession.get_context("fork")
    queue = context.Queue()
    waiting = [context.Process(target=queue.get) for _ in range(2)]
    for process in waiting:
        process.start()

    def all_wait():
        seen = json.loads(_procession.snapshot_json())["processes"]
        return sum(bool(one["waits"]) for one in seen if one["pid"] != os.getpid()) >= len(waiting)

    until(all_wait)
    arrays = [context.RawArray("B", 1 << 20) for _ in range(40)]
    for process in waiting:
        os.kill(process.pid, signal.SIGSTOP)
    del arrays
    for process in waiting:
        process.kill()
        process.join()
    assert soak.Use.settled().shared < soak.KEPT
