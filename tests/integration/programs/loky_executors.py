"""The reusable executor: maps, a closure, an initializer, a task that raises, a worker that dies, a pool in a worker.

Needs: loky
"""

import multiprocessing
import os
import sys

import loky


def begin(number):
    os.environ["BASE"] = str(number)


def add(number):
    return int(os.environ.get("BASE", "0")) + number


def fail(number):
    raise KeyError(number)


def die():
    os._exit(3)


def nested(method, number):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(abs, [-number, number])


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    executor = loky.get_reusable_executor(max_workers=2, initializer=begin, initargs=(10,))
    print(list(executor.map(add, range(5))))
    print(executor.submit(lambda: add(1)).result())
    try:
        executor.submit(fail, "key").result()
    except KeyError as error:
        print("raised", error)
    print(executor.submit(nested, sys.argv[1], 3).result())
    try:
        executor.submit(die).result()
    except loky.process_executor.TerminatedWorkerError as error:
        print(type(error).__name__)
    executor = loky.get_reusable_executor(max_workers=1)
    print(executor.submit(add, 1).result())
    executor.shutdown()
