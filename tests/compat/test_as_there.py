"""Small things in which the package must behave as the standard library does.

Each test compares calls, texts or attributes of both packages.
"""

from __future__ import annotations

import collections.abc
import gc
import importlib
import pickle
import subprocess
import sys

import pytest

import procession
import procession.synchronize
from tests.conftest import PACKAGE_FOLDER

STALE = {
    "lock": lambda ctx: ctx.Lock(),
    "rlock": lambda ctx: ctx.RLock(),
    "semaphore": lambda ctx: ctx.Semaphore(1),
    "bounded": lambda ctx: ctx.BoundedSemaphore(1),
    "condition": lambda ctx: ctx.Condition(),
    "event": lambda ctx: ctx.Event(),
    "barrier": lambda ctx: ctx.Barrier(1),
    "queue": lambda ctx: ctx.Queue(),
    "joinable": lambda ctx: ctx.JoinableQueue(),
    "simple": lambda ctx: ctx.SimpleQueue(),
    "value": lambda ctx: ctx.Value("i"),
    "raw value": lambda ctx: ctx.RawValue("i"),
    "array": lambda ctx: ctx.Array("i", 3),
    "raw array": lambda ctx: ctx.RawArray("i", 3),
}


def dumped(thing):
    """Return a pickle that does not keep alive what it refers to."""
    popen = object()
    procession.context.set_spawning_popen(popen)
    try:
        return bytes(procession.reduction.ForkingPickler.dumps(thing))
    finally:
        procession.context.set_spawning_popen(None)


@pytest.mark.parametrize("kind", STALE)
def test_what_is_gone_is_one_error(kind):
    thing = STALE[kind](procession.get_context("fork"))
    text = dumped(thing)
    del thing
    gc.collect()
    with pytest.raises(ValueError, match="no longer exists"):
        pickle.loads(text)


@pytest.mark.parametrize("kind", STALE)
def test_what_is_another_family_s_is_one_error(kind, tmp_path):
    things = STALE[kind](procession.get_context("fork"))
    (tmp_path / "thing").write_bytes(dumped(things))
    program = """
import pickle
try:
    pickle.load(open("thing", "rb"))
except Exception as error:
    print(type(error).__name__, "another family" in str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": PACKAGE_FOLDER},
    )
    assert (done.stdout, done.stderr) == ("ValueError True\n", "")


def test_submodules_after_a_bare_import():
    text = """
import {0}, sys
there = {0}.context, {0}.process, {0}.reduction
assert there[2] is sys.modules["{0}.reduction"]
print([name for name in NAMES if hasattr({0}, name)])
"""
    names = importlib.import_module("pkgutil").iter_modules(procession.__path__)
    public = [module.name for module in names if not module.name.startswith("_")]
    text = text.replace("NAMES", repr(public))
    theirs, ours = (
        subprocess.run(
            [sys.executable, "-c", text.format(package)],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": PACKAGE_FOLDER},
        )
        for package in ("multiprocessing", "procession")
    )
    assert theirs.stderr == ours.stderr == ""
    assert theirs.stdout == ours.stdout


def enter_and_wait(package):
    """Record which methods of a changed lock a condition calls.

    A subclass or the program itself has changed the lock.
    """
    calls = []
    synchronize = importlib.import_module(f"{package.__name__}.synchronize")
    ctx = package.get_context("fork")

    def noting(name):
        def method(self, *args, **kwds):
            calls.append((name, args, kwds))
            return getattr(super(type(self), self), name)(*args, **kwds)

        return method

    changed = {name: noting(name) for name in ("acquire", "release", "__enter__", "__exit__")}
    changed_with = {name: noting(name) for name in ("__enter__",)}
    patched = ctx.Lock()

    def patch(name, own):
        def method(*args):
            calls.append((name, args))
            return own(*args)

        setattr(patched, name, method)

    patch("acquire", patched.acquire)
    patch("release", patched.release)
    locks = [
        type("Changed", (kind,), members)(ctx=ctx)
        for kind in (synchronize.Lock, synchronize.RLock)
        for members in (changed, changed_with, {})
    ]
    for lock in (*locks, patched, ctx.Lock(), ctx.RLock()):
        calls.append(type(lock).__name__)
        condition = ctx.Condition(lock)
        with condition:
            calls.append("inside")
            condition.wait(0.001)
            condition.notify()
        condition.acquire()
        condition.wait_for(lambda: False, 0.001)
        calls.append(condition.acquire(False))
        condition.release()
        if "R" in repr(lock):
            condition.release()
        calls.append(isinstance(condition, synchronize.Condition))
    return [call for call in calls if "exc" not in str(call)]


def test_a_condition_calls_its_lock_s_methods():
    theirs, ours = (
        enter_and_wait(importlib.import_module(name)) for name in ("multiprocessing", "procession")
    )
    assert ours == theirs


class Noting(procession.synchronize.Lock):
    entered = 0

    def __enter__(self):
        Noting.entered += 1
        return super().__enter__()


def use(condition, queue):
    with condition:
        queue.put(Noting.entered)


def test_a_condition_keeps_its_ways_when_it_travels(ctx):
    condition, queue = ctx.Condition(Noting(ctx=ctx)), ctx.Queue()
    child = ctx.Process(target=use, args=(condition, queue))
    child.start()
    assert queue.get(timeout=30) == 1
    child.join()


ABSTRACT = ["Sequence", "MutableSequence", "Mapping", "MutableMapping", "Set", "Iterable", "Sized"]


def test_proxies_are_of_the_same_classes():
    theirs, ours = (
        importlib.import_module(f"{name}.managers") for name in ("multiprocessing", "procession")
    )
    names = [name for name in dir(theirs) if name.endswith("Proxy")]
    assert len(names) > 10
    for name in names:
        their, our = getattr(theirs, name), getattr(ours, name)
        if not isinstance(their, type):
            continue
        # The name of a private base differs from version to version.
        assert name.startswith("_") or our.__name__ == their.__name__, name
        assert our.__module__.endswith("managers"), name
        for other in names:
            if isinstance(getattr(theirs, other), type):
                assert issubclass(our, getattr(ours, other)) == issubclass(
                    their, getattr(theirs, other)
                ), (name, other)
        for kind in ABSTRACT:
            abstract = getattr(collections.abc, kind)
            if name.endswith("SetProxy") and kind.endswith(("Mapping", "Set")):
                continue  # CPython 3.14 registers its proxies of sets as mappings, not as sets
            assert issubclass(our, abstract) == issubclass(their, abstract), (name, kind)


def same(item):
    return item


def test_proxies_show_their_connection(package, both):
    """Programs use this to reconnect to a server that was started anew."""
    with both.Manager() as manager:
        one, two = manager.list([1]), manager.dict()
        has_ids = package is procession or sys.version_info < (3, 14)
        assert one._tls is two._tls
        if has_ids:
            local, ids = type(one)._address_to_local[one._token.address]
            assert local is one._tls and ids is two._idset and {one._id, two._id} <= ids
        assert callable(one._Client)
        with one._mutex:
            assert one[:] == [1]
        first = one._tls.connection
        del one._tls.connection
        one.sort()  # which is a call of the server in any case
        assert one[:] == [1] and one._tls.connection is not first
        second = two._tls.connection
        two._connect()
        assert two._tls.connection is not second and len(two) == 0
        gone = two._id
        del two
        gc.collect()
        assert not has_ids or gone not in one._idset


def test_read_only_arrays_arrive_writable(package, both):
    numpy = pytest.importorskip("numpy")
    if package is not procession and pickle.DEFAULT_PROTOCOL >= 5:
        pytest.skip("the standard library's arrive read-only from Python 3.14 on")
    arrays = [
        numpy.arange(10),
        numpy.arange(10_000),
        numpy.arange(10_000.0).reshape(100, 100).T,
        numpy.zeros(5000, dtype=[("a", "i4"), ("b", "f8")]),
        numpy.arange(5000).astype("M8[s]"),
        numpy.array(["text"] * 9000),
    ]
    for array in arrays:
        array.flags.writeable = False
    arrays += [numpy.frombuffer(bytes(20_000)), numpy.broadcast_to(numpy.arange(3), (2, 3))]
    queue = both.Queue()
    with both.Pool(1) as pool:
        for array in arrays:
            queue.put([array, array])
            back, again = queue.get()
            assert back is again
            for item in (back, pool.apply(same, (array,))):
                assert item.flags.writeable and item.dtype == array.dtype
                assert (item == array).all()
            assert not array.flags.writeable
