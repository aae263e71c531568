"""`procession.share`: data that is sent once, read everywhere, and freed with its last handle."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import signal
import threading

import pytest

import procession
from procession import Shared, share
from procession._procession import SharedBytes, counters
from procession._share import _load
from procession.pool import ThreadPool
from tests.pool.shapes import workers_without_main
from tests.pool.tasks import wait_for
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)

SIZE = 1 << 20


class Big:
    """An object with memory that protocol 5 keeps apart, without numpy."""

    def __init__(self, data, **more):
        self.data = data
        self.more = more

    def __reduce_ex__(self, protocol):
        return _big, (pickle.PickleBuffer(self.data), self.more)


def _big(data, more):
    return Big(data, **more)


def big():
    return Big(b"x" * SIZE, names=["one", "two"], empty=b"")


def look(handle, at=0):
    loaded = handle.get()
    view = memoryview(loaded.data)
    assert view.readonly and len(view) == SIZE and handle.get() is loaded
    return chr(view[at]), loaded.more["names"]


def look_in(holder):
    return look(holder["handle"])


def look_at_worker(_):
    return look(procession.current_worker().value)


def same(handle):
    return handle


def put(queue, handle):
    queue.put(look(handle))


def freed(before):
    gc.collect()
    return counters()["objects"] == before


@pytest.fixture
def objects():
    """The number of objects in shared memory, which the test must leave as it was."""
    gc.collect()
    before = counters()["objects"]
    yield before
    until(lambda: freed(before))


EXPECTED = ("x", ["one", "two"])


def test_in_every_place_of_a_pool(ctx, objects):
    handle = share(big())
    assert isinstance(handle, Shared) and handle.nbytes >= SIZE
    with workers_without_main(), ctx.Pool(2, same, (handle,)) as pool:
        assert pool.apply(look, (handle,)) == EXPECTED
        assert pool.apply(look, (), {"handle": handle}) == EXPECTED
        assert pool.map(look, [handle] * 9) == [EXPECTED] * 9
        assert pool.map(functools.partial(look, handle), range(9)) == [EXPECTED] * 9
        assert list(pool.imap(look_in, [{"handle": handle}] * 3)) == [EXPECTED] * 3
        assert pool.map(look_at_worker, range(3)) == [EXPECTED] * 3
        assert pool.apply(same, (handle,)) is handle, "it came back"
    with workers_without_main(), procession.ProcessPoolExecutor(1, ctx) as executor:
        assert executor.submit(look, handle).result(30) == EXPECTED
        assert list(executor.map(look, [handle] * 3)) == [EXPECTED] * 3
    assert look(handle) == EXPECTED
    pool = executor = None


def test_processes_queues_and_pipes(ctx, objects):
    handle, queue = share(big()), ctx.Queue()
    process = ctx.Process(target=put, args=(queue, handle))
    process.start()
    assert queue.get(timeout=30) == EXPECTED
    process.join()
    queue.put(handle)
    assert queue.get() is handle
    one, two = ctx.Pipe()
    one.send([handle])
    assert two.recv() == [handle]
    process.close()


def test_threads():
    handle = share(big())
    loaded = []
    barrier = threading.Barrier(4)

    def load(_):
        barrier.wait(20)
        loaded.append(handle.get())

    with ThreadPool(4) as pool:
        pool.map(load, range(4), 1)
    assert len({id(one) for one in loaded}) == 1


def test_only_a_reference_is_sent(objects):
    handle = share(big())
    fork = procession.get_context("fork")
    with fork.Pool(1) as pool:
        pool.map(look, [handle] * 50, 1)
        (worker,) = pool.stats().workers
    assert worker.received < 50 * 400 < SIZE


def test_it_outlives_its_maker(ctx, objects):
    """The maker ends, or is killed, while another process has the handle."""
    for end in (None, signal.SIGKILL):
        queue = ctx.Queue()
        process = ctx.Process(target=make_and_end, args=(queue, end))
        process.start()
        handle = queue.get(timeout=30)
        process.join()
        assert process.exitcode == (0 if end is None else -end)
        assert look(handle) == EXPECTED
        process.close()
        del handle, queue, process


def make_and_end(queue, end):
    handle = share(big())
    queue.put(handle)
    if end is not None:
        os.kill(os.getpid(), end)


def test_it_is_freed_when_the_last_holder_is_killed(ctx, tmp_path, objects):
    handle = share(big())
    process = ctx.Process(
        target=hold, args=(handle, str(tmp_path / "held"), str(tmp_path / "never"))
    )
    process.start()
    until((tmp_path / "held").exists)
    del handle
    process._args = ()
    gc.collect()
    # What a forked process inherited is not counted as its reference, but not freed either.
    assert counters()["objects"] + counters()["deferred"] > objects
    process.kill()
    process.join()
    process.close()
    until(lambda: counters()["deferred"] == 0)


def hold(handle, held, never):
    look(handle)
    open(held, "w").close()
    wait_for(never)


def test_a_view_keeps_the_memory(objects):
    handle = share(big())
    data = handle.get().data
    del handle
    gc.collect()
    assert counters()["objects"] > objects
    assert data[-1] == ord("x")
    with pytest.raises(TypeError):
        data[0] = 1


def test_an_array_is_a_view_that_cannot_be_written():
    numpy = pytest.importorskip("numpy")
    arrays = {"c": numpy.arange(1000.0).reshape(10, 100), "f": numpy.ones((5, 7), order="F")}
    arrays["none"] = numpy.empty(0)
    handle = share(arrays)
    with procession.get_context("fork").Pool(1) as pool:
        assert pool.apply(sums, (handle,)) == [float(a.sum()) for a in arrays.values()]
    for name, array in handle.get().items():
        assert (array == arrays[name]).all() and not array.flags.writeable
        assert not numpy.shares_memory(array, arrays[name])
        with pytest.raises(ValueError):
            array.flags.writeable = True
    first, again = handle.get()["c"], _load(handle._memory)["c"]
    assert numpy.shares_memory(first, again), "it is not copied"
    arrays["c"][0, 0] = -1
    assert first[0, 0] == 0, "it was copied once, when it was shared"


def sums(handle):
    arrays = handle.get()
    assert not any(array.flags.writeable for array in arrays.values())
    return [float(array.sum()) for array in arrays.values()]


@pytest.mark.parametrize("plain", [None, 7, "text", [1, {"a": (2, 3)}], b"", ValueError("no"), len])
def test_any_data(plain):
    assert repr(share(plain).get()) == repr(plain)


def test_objects_that_are_shared_already_are_refused(objects):
    for one in (
        procession.Lock(),
        procession.Queue(),
        procession.RawArray("i", 3),
        procession.Value("i", 3),
        procession.SharedDict(),
        share(3),
    ):
        with pytest.raises(TypeError, match="send them beside it"):
            share({"one": [one]})
    one = None


def test_an_object_that_cannot_be_pickled(objects):
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        share(threading.Lock())


def test_without_memory(run_program):
    program = """
import procession
try:
    procession.share(bytes(200 << 20))
except MemoryError as error:
    print("MemoryError")
"""
    done = run_program(program, env={"PROCESSION_ARENA_SIZE": "64M"})
    assert done.stdout == "MemoryError\n", done.stderr


@pytest.mark.parametrize("at", [0, 8, 16])
@pytest.mark.parametrize("word", [b"\xff" * 8, b"\0\0\1\0\0\0\0\0"])
def test_damaged_data_raises(at, word):
    handle = share(Big(b"x" * 100))
    memoryview(handle._memory)[at : at + 8] = word
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        handle.get()
    with pytest.raises(ValueError, match="damaged"):
        _load(SharedBytes(1))
