"""Backends multiprocessing and loky: results, arrays that are shared, exceptions.

Needs: joblib, numpy
"""

import multiprocessing
import sys

import numpy
from joblib import Parallel, delayed


def double(number):
    return number * 2


def look(array):
    return type(array).__name__, float(array.sum()), array.flags.writeable


class Refused(Exception):
    pass


def refuse(number):
    raise Refused(number)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    for backend in ("multiprocessing", "loky"):
        run = Parallel(n_jobs=2, backend=backend)
        print(backend, run(delayed(double)(number) for number in range(5)))
        print(run(delayed(look)(numpy.ones(300_000)) for _ in range(3)))
        try:
            run(delayed(refuse)(7) for _ in range(2))
        except Refused as error:
            print("refused", error)
    run = Parallel(n_jobs=2, backend="loky", return_as="generator_unordered")
    print(sorted(run(map(delayed(double), range(5)))))
