"""A storm: processes and nodes are killed at random while a lock, a queue and a pool are in use.

Each worker takes numbers from a counter, under its lock, and puts each into a queue; all three have
their home with the driver. No number may come twice. A worker that is killed may keep its last one:
it dies between taking and putting it. A pool on the same nodes does tasks, each of which must have
its own result. ``--storms N``, with `make cluster`, sets the number of kills.
"""

from __future__ import annotations

import random

import pytest

import procession
from tests.pool.tasks import square

from ..waiting import LONG, until
from .loopback import Loopback

WORKERS = 4
#: Numbers that come, and tasks that are begun, between two kills.
BETWEEN = 20


def _work(counter, lock, numbers, stop):
    while not stop.is_set():
        try:
            with lock:
                number = counter.value
                counter.value = number + 1
        except procession.OwnerDied:
            continue  # the number of the dead is taken, or is not; either is right
        numbers.put(number)


@pytest.fixture
def nodes():
    """The driver's node, where no process is started, and three others."""
    cluster = Loopback(3)
    yield cluster
    cluster.close()


@pytest.mark.timeout(0)  # every wait has a limit
def test_processes_and_nodes_die(pytestconfig, nodes):
    kills = pytestconfig.getoption("storms", None) or 8
    chance = random.Random(kills)
    ctx = procession.get_context("ray")
    counter, lock, numbers, stop = ctx.RawValue("i", 0), ctx.Lock(), ctx.Queue(100), ctx.Event()
    workers, dead, seen, results = [], [], set(), []

    def take(count):
        for _ in range(count):
            number = numbers.get(timeout=LONG)
            assert number not in seen, f"{number} came twice"
            seen.add(number)

    def replace():
        for worker in [worker for worker in workers if worker.exitcode is not None]:
            workers.remove(worker)
            dead.append(worker)
        while len(workers) < WORKERS:
            worker = ctx.Process(target=_work, args=(counter, lock, numbers, stop), daemon=True)
            worker.start()
            workers.append(worker)

    with ctx.Pool(3, retries=kills) as pool:
        replace()
        for kill in range(kills):
            take(BETWEEN)
            results += [pool.apply_async(square, (len(results) + n,)) for n in range(BETWEEN)]
            if kill % 4 == 3:
                number = chance.randrange(1, len(nodes.nodes))
                lost = nodes.nodes.pop(number)
                there = [worker for worker in workers if worker._popen.node is lost]
                nodes.agents[int(lost.name[4:]) - 1].kill()
                nodes.add(f"node{len(nodes.agents) + 1}")
            else:
                there = [chance.choice(workers)]
                there[0].kill()
            until(lambda dying=there: all(worker.exitcode == -9 for worker in dying))
            replace()
        take(BETWEEN)
        assert [one.get(LONG) for one in results] == [n * n for n in range(len(results))]
    stop.set()
    while any(worker.is_alive() for worker in workers):
        take(numbers.qsize())
        workers[0].join(0.01)
    take(numbers.qsize())
    lost = counter.value - len(seen)
    assert 0 <= lost <= len(dead), f"{lost} numbers were lost by {len(dead)} deaths"
    assert len(dead) >= kills - kills // 4
