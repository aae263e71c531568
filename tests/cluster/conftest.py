"""A cluster over loopback for the tests of a module, and a context whose processes run on it."""

from __future__ import annotations

import pytest

import procession

from .loopback import Elsewhere, Loopback


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
    before = set(procession.active_children())
    yield context
    for child in set(procession.active_children()) - before:
        child.kill()
        child.join()


@pytest.fixture
def elsewhere(ctx):
    """A process on the other node that calls functions."""
    worker = Elsewhere(ctx)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def peer(loopback):
    """The same, shared by the tests of a module."""
    worker = Elsewhere(procession.get_context("ray"))
    yield worker
    worker.close()
