"""Fixtures that open a pool of each shape, over each start method."""

from __future__ import annotations

import pytest

from tests.pool import shapes


def _of_either_shape(scope):
    """Return a fixture's parameters: each shape of the pool, over each start method."""
    pairs = [(shape, method) for shape in shapes.SHAPES for method in shapes.METHODS]
    return pytest.fixture(scope=scope, params=pairs, ids="-".join)


@_of_either_shape("module")
def _shared_pool(request):
    """One pool for all tests of a module: each fault meets what the others left behind."""
    with shapes.opened(*request.param) as made:
        yield made


@pytest.fixture
def survivor(_shared_pool):
    """A pool that must still serve after the test."""
    yield _shared_pool
    shapes.assert_serves(_shared_pool)


@_of_either_shape("function")
def opening(request):
    """Return a function that opens a pool for this test alone."""

    def open_one(*args, **options):
        return shapes.opened(*request.param, *args, **options)

    open_one.shape, open_one.method = request.param
    return open_one
