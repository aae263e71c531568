"""Both shapes of the pool, with one interface for the fault tests.

`Pool` and `ProcessPoolExecutor` differ in how calls are given and results taken, not in their faults.
"""

from __future__ import annotations

import contextlib
import os
import sys

import procession
from tests.pool.tasks import square

METHODS = ["fork", "spawn", "forkserver"]
SHAPES = ["Pool", "ProcessPoolExecutor"]
#: Whether numbers may cost minutes and gigabytes.
BIG = "PROCESSION_BIG_TESTS" in os.environ


class Pool:
    """`procession.Pool` behind the methods `call`, `map` and `results`."""

    def __init__(self, context, size=2, initializer=None, initargs=(), **options):
        self.face = context.Pool(size, initializer, initargs, **options)

    @property
    def pool(self):
        return self.face

    def call(self, function, *args):
        return self.face.apply_async(function, args).get

    def map(self, function, items):
        return self.face.map_async(function, items, 1).get(30)

    def results(self, function, items):
        return self.face.imap(function, items)

    def shut(self):
        self.face.close()
        self.face.join()

    def end(self):
        self.face.terminate()
        self.face.join()


class ProcessPoolExecutor:
    """`procession.ProcessPoolExecutor` behind the same methods."""

    def __init__(self, context, size=2, initializer=None, initargs=(), **options):
        if "maxtasksperchild" in options:
            options["max_tasks_per_child"] = options.pop("maxtasksperchild")
        self.face = procession.ProcessPoolExecutor(size, context, initializer, initargs, **options)

    @property
    def pool(self):
        return self.face._start().pool

    def call(self, function, *args):
        return self.face.submit(function, *args).result

    def map(self, function, items):
        return list(self.face.map(function, items, timeout=30))

    def results(self, function, items):
        return self.face.map(function, items)

    def shut(self):
        self.face.shutdown()

    def end(self):
        self.face.terminate_workers()
        self.face.shutdown()


@contextlib.contextmanager
def workers_without_main():
    """Keep workers from importing the main program, which here is the test runner."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


@contextlib.contextmanager
def opened(shape, method, *args, **options):
    """Open one of `SHAPES`, and end it afterwards."""
    with workers_without_main():
        made = globals()[shape](procession.get_context(method), *args, **options)
        try:
            yield made
        finally:
            made.end()


def assert_serves(made):
    """Check that the pool works, with no more workers than it should have."""
    assert made.map(square, range(20)) == [x * x for x in range(20)]
    assert len(made.pool._pool) <= made.pool._processes
