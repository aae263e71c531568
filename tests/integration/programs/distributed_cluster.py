"""A `LocalCluster` of two processes: maps, gathering, an actor.

Needs: distributed
"""

import sys

import dask
from dask.distributed import Client, LocalCluster


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, number):
        self.count += number
        return self.count


def increment(number):
    return number + 1


if __name__ == "__main__":
    dask.config.set({"distributed.worker.multiprocessing-method": sys.argv[1]})
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        print(client.gather(client.map(increment, range(5))), client.submit(sum, [1, 2]).result())
        counter = client.submit(Counter, actor=True).result()
        counter.add(2).result()
        print(counter.add(3).result())
