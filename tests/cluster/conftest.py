"""A cluster over loopback for the tests of a module, and a context whose processes run on it."""

from __future__ import annotations

import pytest

import procession

from .loopback import Loopback


@pytest.fixture(scope="module")
def loopback():
    """The driver's node, where no process is started, and another."""
    cluster = Loopback()
    yield cluster
    cluster.close()


@pytest.fixture
def ctx(loopback):
    """The context "ray", whose processes are on the other node."""
    context = procession.get_context("ray")
    yield context
    for child in procession.active_children():
        child.kill()
        child.join()
