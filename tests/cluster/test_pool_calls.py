"""The calls of a pool as the standard library documents them, on several nodes."""

from __future__ import annotations

import pytest

import procession
from tests.pool.test_calls import *  # noqa: F403

from .loopback import Loopback


@pytest.fixture(scope="module")
def nodes():
    cluster = Loopback(2, own_cpus=1)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def pool(nodes):
    with procession.get_context("ray").Pool(3) as made:
        yield made
    made.join()
