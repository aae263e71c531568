"""When a soak measures."""

from __future__ import annotations

import pytest

from tests.storm import soak


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
