"""`current_worker()`: which worker runs a task, and what its initializer returned."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import procession
from procession import ProcessPoolExecutor, current_worker
from procession.pool import ThreadPool
from tests.pool.shapes import workers_without_main
from tests.pool.tasks import meet
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)


class Value:
    def __init__(self, text):
        self.text = text
        self.at_start = current_worker()
        self.uses = 0


def seen(*_):
    worker = current_worker()
    worker.value.uses += 1
    assert worker.value.at_start == procession.CurrentWorker(worker.index, worker.pool, None)
    return worker.index, worker.pool, worker.value.text, worker.value.uses


def index_and_pid(folder, count):
    return current_worker().index, meet(folder, count)


def test_a_task_knows_its_worker(ctx):
    assert current_worker() is None
    with workers_without_main(), ctx.Pool(1, Value, ("v",), name="mine") as pool:
        assert [pool.apply(seen) for _ in range(3)] == [(0, "mine", "v", n) for n in (1, 2, 3)]
        assert pool.name == "mine"
    with workers_without_main(), ProcessPoolExecutor(1, ctx, Value, ("v",)) as executor:
        index, name, text, uses = executor.submit(seen).result(30)
        assert (index, text, uses) == (0, "v", 1) and name.startswith("Pool-")
    assert current_worker() is None


def test_indexes_are_those_of_living_workers(tmp_path):
    with procession.get_context("fork").Pool(3) as pool:

        def by_index(count):
            folder = tmp_path / str(len(os.listdir(tmp_path)))
            folder.mkdir()
            return dict(pool.starmap(index_and_pid, [(str(folder), count)] * count, 1))

        first = by_index(3)
        assert sorted(first) == [0, 1, 2]
        os.kill(first[1], signal.SIGKILL)
        until(lambda: first[1] not in [process.pid for process in pool._pool])
        second = by_index(3)
        assert sorted(second) == [0, 1, 2], "another worker has its index"
        assert (second[0], second[2]) == (first[0], first[2]) and second[1] != first[1]
        pool.resize(5)
        assert sorted(by_index(5)) == [0, 1, 2, 3, 4]


def test_without_an_initializer():
    with procession.get_context("fork").Pool(1) as one, procession.Pool(1) as two:
        assert one.name != two.name
        worker = one.apply(current_worker)
        assert worker == procession.CurrentWorker(0, one.name, None)


def none_in_child():
    assert current_worker() is not None
    pid = os.fork()
    if pid == 0:
        os._exit(0 if current_worker() is None else 1)
    return os.waitpid(pid, 0)[1]


def test_a_child_of_a_worker_is_none():
    with procession.get_context("fork").Pool(1) as pool:
        assert pool.apply(none_in_child) == 0
    with ThreadPool(1) as threads:
        assert threads.apply(none_in_child) == 0


def test_threads(tmp_path):
    barrier = threading.Barrier(3)

    def look():
        barrier.wait(30)
        return current_worker()

    with ThreadPool(3, object) as pool:
        workers = [result.get(30) for result in [pool.apply_async(look) for _ in range(3)]]
        assert sorted(worker.index for worker in workers) == [0, 1, 2]
        assert {worker.pool for worker in workers} == {pool.name}
        assert len({id(worker.value) for worker in workers}) == 3
    assert current_worker() is None


def of_a_thread():
    with ThreadPool(1) as pool:
        return current_worker().pool, pool.apply(current_worker).pool == pool.name


def test_threads_of_a_worker():
    with procession.get_context("fork").Pool(1, name="outer") as pool:
        assert pool.apply(of_a_thread) == ("outer", True)


class WithQueues(procession.pool.Pool):
    def _setup_queues(self):
        super()._setup_queues()


def test_a_pool_with_queues_of_its_own_tells_nothing():
    with WithQueues(1, context=procession.get_context("fork")) as pool:
        assert pool.apply(current_worker) is None


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match="name"):
        procession.Pool(1, name=3)
    with pytest.raises(TypeError, match="name"):
        ProcessPoolExecutor(1, name=3)
