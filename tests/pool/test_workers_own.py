"""What each worker has for itself: random numbers, a number of threads.

The options `seed` and `threads_per_worker` choose both.
"""

from __future__ import annotations

import functools
import os
import random

import pytest

import procession
from tests.pool.shapes import METHODS, SHAPES, opened
from tests.waiting import LONG

numpy = pytest.importorskip("numpy")

# A spawned worker imports numpy, which takes long on a busy machine.
pytestmark = pytest.mark.timeout(240)


def draw(_=None, *_more):
    return random.random(), float(numpy.random.random())


def meet_and_draw(barrier):
    barrier.wait(LONG)
    return draw()


@pytest.fixture(params=[(shape, method) for shape in SHAPES for method in METHODS], ids="-".join)
def opening(request):
    return functools.partial(opened, *request.param)


def drawings(opening, seed, size, chunksize):
    with opening(size, seed=seed) as pool:
        single = [pool.call(draw)(LONG) for _ in range(2)]
        first = pool.map(draw, range(12))
        face = pool.face
        if hasattr(face, "starmap"):
            starred = face.starmap(draw, [(x, x) for x in range(12)], chunksize)
            lazy = list(face.imap(draw, range(12), chunksize))
        else:
            starred = list(face.map(draw, range(12), range(12), chunksize=chunksize))
            lazy = list(face.map(draw, range(12), chunksize=chunksize, buffersize=3))
        return [*single, *first, *starred, *lazy]


def test_a_seed_makes_it_reproducible(opening):
    once = drawings(opening, 7, 2, 1)
    assert len(set(once)) == len(once), "each item has numbers of its own"
    assert drawings(opening, 7, 1, 5) == once


def test_another_seed_gives_other_numbers():
    drawn = []
    for seed in (1, 2, None, None):
        with procession.get_context("fork").Pool(1, seed=seed) as pool:
            drawn.append(pool.apply(draw))
    assert len(set(drawn)) == 4


def test_forked_workers_are_not_alike():
    numpy.random.random()  # loads what the workers inherit
    context = procession.get_context("fork")
    for seed, alike in ((None, False), (False, True)):
        barrier = context.Barrier(2)
        with context.Pool(2, remember_barrier, (barrier,), seed=seed) as pool:
            (_, one), (_, other) = pool.map(draw_together, range(2), 1)
        assert (one == other) is alike


def remember_barrier(barrier):
    global met
    met = barrier


def draw_together(_):
    return meet_and_draw(met)


def threads_of_blas(_=None):
    """Return the number that the library itself reports."""
    import ctypes

    found = set()
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "blas" in line and ".so" in line}
    for path in paths:
        library = ctypes.CDLL(path)
        for prefix in ("", "scipy_"):
            for suffix in ("", "64_"):
                name = f"{prefix}openblas_get_num_threads{suffix}"
                if hasattr(library, name):
                    found.add(getattr(library, name)())
    return sorted(found), os.environ.get("OMP_NUM_THREADS")


def test_threads_per_worker(opening):
    if not threads_of_blas()[0]:
        pytest.skip("numpy without OpenBLAS")
    with opening(1, threads_per_worker=1) as pool:
        assert pool.call(threads_of_blas)(LONG) == ([1], "1")


@pytest.mark.parametrize(
    "options",
    [{"seed": "x"}, {"seed": 1.5}, {"threads_per_worker": 0}, {"threads_per_worker": 1.5}],
)
def test_refused(options):
    with pytest.raises((TypeError, ValueError)):
        procession.ProcessPoolExecutor(**options)
    with pytest.raises((TypeError, ValueError)):
        procession.Pool(1, **options)
