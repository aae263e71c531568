"""`ProcessPool`: a map, a time limit, a worker that dies, cancelling; the decorator `process`.

Needs: pebble
"""

import multiprocessing
import os
import sys
import time
from concurrent.futures import CancelledError, TimeoutError

import pebble


def add(number):
    return number + 1


def slow():
    time.sleep(600)


def die():
    os._exit(5)


@pebble.concurrent.process
def alone(number):
    return -number


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with pebble.ProcessPool(max_workers=2, max_tasks=2, context=context) as pool:
        print(list(pool.map(add, range(5)).result()))
        for function, limit in ((slow, 0.5), (die, None)):
            try:
                pool.schedule(function, timeout=limit).result()
            except TimeoutError:
                print("timed out")
            except pebble.ProcessExpired as error:
                print("expired", error.exitcode)
        future = pool.schedule(slow)
        future.cancel()
        try:
            future.result()
        except CancelledError:
            print("cancelled")
        print(pool.schedule(add, args=(1,)).result())
    print(alone(4).result())
