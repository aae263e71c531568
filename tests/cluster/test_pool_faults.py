"""The faults of tasks and workers, in pools and executors on several nodes."""

from __future__ import annotations

import pytest

from tests.pool import shapes
from tests.pool.test_task_faults import *  # noqa: F403
from tests.pool.test_worker_faults import *  # noqa: F403

from .loopback import Loopback


@pytest.fixture(scope="module")
def nodes():
    cluster = Loopback(1, own_cpus=1)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module", params=shapes.SHAPES)
def _shared_pool(request, nodes):
    with shapes.opened(request.param, "ray") as made:
        yield made


@pytest.fixture
def survivor(_shared_pool):
    """A pool that must still serve after the test."""
    yield _shared_pool
    shapes.assert_serves(_shared_pool)


@pytest.fixture(params=shapes.SHAPES)
def opening(request, nodes):
    """Return a function that opens a pool for this test alone."""

    def open_one(*args, **options):
        return shapes.opened(request.param, "ray", *args, **options)

    open_one.shape, open_one.method = request.param, "ray"
    return open_one
