"""The faults of tasks and workers, in pools and executors on several nodes."""

from __future__ import annotations

import pytest

import procession
from tests.pool import shapes, tasks
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


def fail(*_):
    raise RuntimeError("no figures today")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watch_that_fails(opening, monkeypatch):
    """Without it no sub-pool would be replaced: all calls fail instead."""
    with opening(1) as made:
        waiting = made.call(tasks.wait_for, "/nonexistent/never")
        monkeypatch.setattr(made.pool._pool_workers, "_maintain", fail)
        made.pool._pool_workers._notify()
        with pytest.raises(procession.BrokenPool, match="no longer be watched"):
            waiting(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("step", ["told", "take"])
def test_a_thread_of_a_connection_that_fails(opening, monkeypatch, step):
    """Its sub-pool is given up with the tasks that it has, and replaced."""
    with opening(1) as made:
        assert made.call(tasks.square, 2)(30) == 4
        core = made.pool._core

        def fail_once(*_):
            monkeypatch.setattr(core, step, real)
            fail()

        real = getattr(core, step)
        monkeypatch.setattr(core, step, fail_once)
        waiting = made.call(tasks.square, 3)
        if step == "told":  # the task was sent already
            with pytest.raises(procession.WorkerDied):
                waiting(30)
        else:
            assert waiting(30) == 9
        assert made.call(tasks.square, 4)(30) == 16
