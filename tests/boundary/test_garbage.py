"""Extension objects that hold Python objects take part in garbage collection.

A cycle through each is collected.
"""

from __future__ import annotations

import functools
import gc
import weakref

import pytest

import procession
from procession._procession import PoolCore, PoolStream


class Node:
    """A callable object that may refer to anything."""

    def __call__(self, *args):
        return None


def of_core_with_a_function(node):
    core = PoolCore()

    def function():
        return node

    core.call(function, (), {})
    return core


def of_core_with_an_error(node):
    core = PoolCore()
    core.terminate(functools.partial(node))
    return core


def of_job(node):
    return PoolCore().call(node, (), {})


def of_job_with_a_refusal(node):
    job = PoolCore().job(Node(), 0, False)
    error = ValueError()
    error.node = node
    job.refuse(error)
    return job


def of_stream_with_a_future(node):
    stream = PoolStream(PoolCore(), None, 0, 1)
    stream.submit(node, int, (), {})
    return stream


def of_stream_with_a_function(node):
    stream = PoolStream(PoolCore(), None, 0, 1)
    stream.submit(None, node, (), {})
    return stream


def of_condition(node):
    lock = procession.RLock()
    lock.node = node
    return procession.Condition(lock)


@pytest.mark.parametrize(
    "make",
    [
        of_core_with_a_function,
        of_core_with_an_error,
        of_job,
        of_job_with_a_refusal,
        of_stream_with_a_future,
        of_stream_with_a_function,
        of_condition,
    ],
)
def test_a_cycle_is_collected(make):
    node = Node()
    node.held = make(node)
    end = weakref.ref(node)
    del node
    gc.collect()
    assert end() is None


def test_what_is_in_use_is_not_collected():
    """A pool and an executor with calls under way survive collections and return each result."""
    with procession.Pool(2) as pool, procession.ProcessPoolExecutor(2) as executor:
        results = [pool.apply_async(int, (number,)) for number in range(20)]
        futures = [executor.submit(int, number) for number in range(20)]
        gc.collect()
        assert [result.get() for result in results] == list(range(20))
        assert [future.result() for future in futures] == list(range(20))
