"""The items of queues: how they are pickled, what cannot be, and the memory that they take.

Order, bounds and processes are tested in test_queue.py.
"""

from __future__ import annotations

import gc
import os
import pickle
import threading

import numpy
import pytest

import procession
from procession import queues

ctx = procession.get_context("fork")


@pytest.fixture
def queue():
    return ctx.Queue()


class Unpicklable:
    def __reduce__(self):
        raise TypeError("never")

    def __repr__(self):
        return "<the culprit>"


@pytest.mark.parametrize(
    "item", [threading.Lock(), (number for number in ()), Unpicklable(), [1, Unpicklable()]]
)
def test_an_item_that_cannot_be_pickled_is_an_error_of_the_caller(queue, item):
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
        queue.put(item)
    assert type(item).__qualname__ in str(caught.value)
    assert repr(item) not in str(caught.value)
    assert "nstead" in str(caught.value)
    assert queue.empty()


def test_a_subclass_may_take_what_cannot_be_pickled(queue):
    refused = []

    class Lenient(queues.Queue):
        def _on_queue_feeder_error(self, e, obj):
            refused.append((type(e), obj))

    lenient = Lenient(ctx=ctx)
    culprit = Unpicklable()
    lenient.put(culprit)
    lenient.put_nowait(culprit)
    lenient.put("fine")
    assert lenient.get() == "fine"
    assert refused == [(TypeError, culprit)] * 2


def test_errors_of_pickling_methods_come_through(queue):
    class Odd:
        def __reduce__(self):
            raise ZeroDivisionError("of its own")

    with pytest.raises(ZeroDivisionError, match="of its own"):
        queue.put(Odd())
    assert queue.empty()


def test_what_cannot_be_unpickled_is_lost_alone(queue):
    class Trap:
        def __reduce__(self):
            return int, ("no number",)

    queue.put(Trap())
    queue.put("next")
    with pytest.raises(ValueError, match="no number"):
        queue.get()
    assert queue.get() == "next"


def test_lambdas_travel_with_cloudpickle(queue):
    pytest.importorskip("cloudpickle")
    offset = 3
    queue.put(lambda number: number + offset)
    assert queue.get()(4) == 7


def test_registered_reducers_hold(queue):
    from procession.reduction import ForkingPickler

    class Special:
        pass

    ForkingPickler.register(Special, lambda _: (str, ("rebuilt",)))
    try:
        queue.put([Special()])
        assert queue.get() == ["rebuilt"]
    finally:
        del ForkingPickler._extra_reducers[Special]


def test_a_pickler_put_in_place_of_ours_is_used(queue, monkeypatch):
    from procession import reduction

    class Shouting(reduction.ForkingPickler):
        def reducer_override(self, obj):
            return (str, ("OVERRIDDEN",)) if type(obj) is complex else NotImplemented

    monkeypatch.setattr(reduction, "ForkingPickler", Shouting)
    queue.put([1j])
    assert queue.get() == ["OVERRIDDEN"]


def test_bound_methods_and_partials(queue):
    import functools

    queue.put([[].append, functools.partial(int, base=2), list.append])
    append, binary, descriptor = queue.get()
    append(1)
    assert append.__self__ == [1]
    assert binary("101") == 5
    assert descriptor is list.append


def test_arrays_are_the_receiver_s_own(queue):
    array = numpy.arange(1_000_000, dtype="f8")
    queue.put(array)
    array[:] = 0
    first = queue.get()
    assert first.flags.writeable and first.flags.aligned
    assert (first == numpy.arange(1_000_000)).all()
    first += 1
    queue.put(
        {"a": first, "f": numpy.asfortranarray(numpy.ones((300, 200))), "small": numpy.arange(3)}
    )
    got = queue.get()
    assert (got["a"] == first).all() and got["f"].flags.f_contiguous and got["small"].sum() == 3
    frozen = numpy.ones(100_000)
    frozen.flags.writeable = False
    queue.put(frozen)
    assert queue.get().flags.writeable  # as in the standard library


def resident_shared() -> int:
    """Return the bytes of shared memory that this process has touched."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssShmem")) * 1024


def test_memory_of_arrays_comes_back(queue):
    array = numpy.ones(4_000_000)
    for _ in range(3):
        queue.put(array)
        queue.get()
    gc.collect()
    before = resident_shared()
    for _ in range(50):
        queue.put(array)
        got = queue.get()
        assert got[-1] == 1
        del got
    gc.collect()
    assert resident_shared() <= before + array.nbytes


def test_memory_of_a_queue_thrown_away_comes_back():
    array = numpy.ones(4_000_000)
    before = None
    for round in range(12):
        queue = ctx.Queue()
        queue.put(array)
        queue.put([queue_inside := ctx.Queue(), array])
        del queue_inside
        del queue
        gc.collect()
        if round == 2:
            before = resident_shared()
    assert resident_shared() <= before + array.nbytes


def test_a_thousand_queues_are_small():
    before, descriptors = resident_shared(), len(os.listdir("/proc/self/fd"))
    many = [ctx.Queue() for _ in range(1000)]
    for number, queue in enumerate(many):
        queue.put(number)
    assert sum(queue.get() for queue in many) == 499_500
    assert resident_shared() - before < 8_000_000
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
