"""`WorkerPool`: maps, one call, shared objects, state of workers and their insights.

Needs: mpire
"""

import sys

from mpire import WorkerPool


def double(number):
    return number * 2


def pick(shared, number):
    return shared[number]


def begin(state):
    state["base"] = 5


def add(state, number):
    return state["base"] + number


def end(state):
    return state["base"]


if __name__ == "__main__":
    method = sys.argv[1]
    with WorkerPool(n_jobs=2, start_method=method) as pool:
        print(pool.map(double, range(5)), sorted(pool.imap_unordered(double, range(3))))
        print(pool.apply_async(double, 4).get())
    with WorkerPool(n_jobs=2, start_method=method, shared_objects=[1, 2, 3]) as pool:
        print(pool.map(pick, range(3)))
    with WorkerPool(2, start_method=method, use_worker_state=True, enable_insights=True) as pool:
        print(pool.map(add, range(3), worker_init=begin, worker_exit=end))
        print(pool.get_exit_results(), sum(pool.get_insights()["n_completed_tasks"]))
