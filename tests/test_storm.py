"""The storms of `make storm`, some seconds long."""

from __future__ import annotations

import pytest
from storm import soak
from storm.scenes import SCENES

import procession

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("scene", SCENES)
def test_a_short_storm(scene):
    assert SCENES[scene](procession.get_context("fork"), seed=1, kills=12)


def test_a_storm_of_forkserver_children():
    assert SCENES["queues"](procession.get_context("forkserver"), seed=2, kills=12)


def test_a_short_soak():
    first, last, _ = soak.soak(seconds=12, part=4)
    assert soak.compare(first, last) == []
