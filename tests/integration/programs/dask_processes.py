"""The scheduler `processes`: delayed calls, a bag, an error; own pool handed over.

Needs: dask
Run only: Dask takes a pool only if it is one of `multiprocessing.pool.Pool`, or an executor
"""

import multiprocessing
import sys

import dask
import dask.bag


def add(left, right):
    return left + right


def fail(number):
    raise ValueError(f"no {number}")


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    dask.config.set(
        {"multiprocessing.context": sys.argv[1], "scheduler": "processes", "num_workers": 2}
    )
    print(dask.compute(*[dask.delayed(add)(number, 1) for number in range(5)]))
    bag = dask.bag.from_sequence(range(100), npartitions=4)
    print(bag.map(lambda number: number * 2).filter(lambda number: number % 3 == 0).sum().compute())
    try:
        dask.delayed(fail)(3).compute()
    except ValueError as error:
        print("raised", error)
    with multiprocessing.Pool(2) as pool:
        print(dask.compute(dask.delayed(add)(1, 2), pool=pool))
