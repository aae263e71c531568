"""Pools and executors on several nodes: placement, lost nodes, what travels, what is refused.

The file is long because the scenes share their nodes and their tasks.
"""

from __future__ import annotations

import functools
import os
import pathlib
import random
import signal
import sys
import threading

import pytest

import procession
from procession import pool as pools
from procession._cluster import place
from tests.executor.test_interrupted import interrupted_at
from tests.pool.tasks import kill_self, square, wait_for

from ..waiting import LONG, is_running, until, until_ended
from .loopback import Loopback, stop


@pytest.fixture
def nodes():
    """The driver's node, for one process, and two others for four each."""
    cluster = Loopback(2, own_cpus=1)
    yield cluster
    cluster.close()


@pytest.fixture
def ctx(nodes):
    """The context "ray"."""
    return procession.get_context("ray")


def where(_=None):
    """Return the node and the pid of this process."""
    return place.here().node, os.getpid()


def note(folder):
    """Leave this process's node and pid in a file, and wait for ever."""
    path = pathlib.Path(folder, f"{os.getpid()}.new")
    path.write_text(" ".join(map(str, where())))
    path.rename(path.with_suffix(".there"))
    wait_for(f"{folder}/never")


def noted(folder):
    return dict(reversed(path.read_text().split()) for path in pathlib.Path(folder).glob("*.there"))


def meet(folder_and_count):
    """Return where this process is, once so many have come here."""
    folder, count = folder_and_count
    pathlib.Path(folder, str(os.getpid())).touch()
    until(lambda: len(os.listdir(folder)) >= count)
    return where()


def test_workers_are_spread_over_the_nodes(ctx, tmp_path):
    with ctx.Pool(5) as pool:
        met = pool.map(meet, [(str(tmp_path), 5)] * 5, 1)
        workers = {worker.pid: worker for worker in pool._pool}
    assert sorted(name for name, _ in met) == ["driver", *["node1"] * 2, *["node2"] * 2]
    assert {worker.node for worker in workers.values()} == {"driver", "node1", "node2"}
    assert {pid for _, pid in met} == set(workers)
    until_ended(workers)


def test_packed_workers_fill_the_own_node_first(nodes, ctx, tmp_path):
    ctx.configure(None, {"strategy": "pack"})
    nodes.home.place.options = {"strategy": "pack"}
    try:
        with ctx.Pool(3) as pool:
            met = pool.map(meet, [(str(tmp_path), 3)] * 3, 1)
    finally:
        ctx._options.clear()
    assert sorted(name for name, _ in met) == ["driver", "node1", "node1"]


def test_as_many_workers_as_the_cluster_has_processors(ctx):
    with ctx.Pool() as pool:
        assert pool._processes == ctx.cpu_count() == 9


def index_and_meet(folder_and_count):
    meet(folder_and_count)
    return procession.current_worker().index


def test_no_two_workers_have_the_same_index(ctx, tmp_path):
    with ctx.Pool(5, name="of five") as pool:
        indexes = pool.map(index_and_meet, [(str(tmp_path), 5)] * 5, 1)
    assert len(set(indexes)) == 5


def test_no_task_waits_at_a_node_while_others_are_idle(ctx, tmp_path):
    gate = tmp_path / "gate"
    with ctx.Pool(3) as pool:
        pool.map(square, range(3000), 1)  # the nodes know that calls are short
        held = [pool.apply_async(wait_for, (str(gate),)) for _ in range(2)]
        others = [pool.apply_async(square, (number,)) for number in range(500)]
        assert [other.get(LONG) for other in others] == [x * x for x in range(500)]
        assert not any(one.ready() for one in held)
        gate.touch()
        assert [one.get(LONG) for one in held] == [str(gate)] * 2


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("loses", ["node", "sub-pool"])
def test_a_lost_node(nodes, ctx, tmp_path, retries, loses):
    """Its tasks fail, or are tried again at others; all others go on."""
    with ctx.Pool(5, retries=retries) as pool:
        results = [pool.apply_async(note, (str(tmp_path),)) for _ in range(5)]
        until(lambda: len(noted(tmp_path)) == 5)
        before = noted(tmp_path)
        subpools = pool._pool_workers._processes
        lost = next(one for one in subpools if one.node == "node2")
        if loses == "node":
            nodes.agents[1].kill()
        else:
            subpools[lost].kill()
        gone = [int(pid) for pid, name in before.items() if name == "node2"]
        until_ended(gone)
        if not retries:
            until(lambda: sum(one.ready() for one in results) == 2)
            for one in (one for one in results if one.ready()):
                with pytest.raises(
                    procession.WorkerDied, match="on node node2, which is lost"
                ) as e:
                    one.get()
                assert "note(" in e.value.task and e.value.exitcode == -signal.SIGKILL
        else:
            until(lambda: len(noted(tmp_path)) == 7)
            assert not any(one.ready() for one in results)
        (tmp_path / "never").touch()
        ends = [one for one in results if not one.ready() or one.successful()]
        assert [one.get(LONG) for one in ends] == [None] * (5 if retries else 3)
        # As many workers as before, where there is a node for them.
        until(lambda: len(pool._pool) == 5)
        at = {worker.node for worker in pool._pool}
        assert at == ({"driver", "node1"} if loses == "node" else {"driver", "node1", "node2"})
        assert pool.map(square, range(100), 1) == [x * x for x in range(100)]


def test_the_workers_are_known_at_once(ctx):
    with ctx.Pool(5) as pool:
        assert len(pool._pool) == 5
    with ctx.Pool(3) as pool:
        assert None not in {worker.pid for worker in pool._pool}


def test_the_death_of_a_worker_names_its_node(ctx):
    with ctx.Pool(2) as pool, pytest.raises(procession.WorkerDied, match="on node") as caught:
        pool.apply(kill_self)
    assert caught.value.exitcode == -signal.SIGKILL


def die_first(mark, lock, queue):
    """Take what the arguments have; the first time, end before all of it is used."""
    with lock:
        pass
    if not os.path.exists(mark):
        pathlib.Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with lock:
        queue.put("done")
        return queue.get()


@pytest.mark.parametrize("method", ["apply", "map"])
def test_a_task_that_is_tried_again_has_its_objects(nodes, ctx, tmp_path, method):
    """Nothing but its arguments refers to them, and the first worker had taken these out."""
    nodes.nodes[0].resources["CPU"] = 0
    with ctx.Pool(2, retries=1) as pool:
        mark = str(tmp_path / "mark")
        if method == "apply":
            result = pool.apply_async(die_first, (mark, ctx.Lock(), ctx.Queue()))
            assert result.get(LONG) == "done"
        else:
            result = pool.starmap_async(die_first, [(mark, ctx.Lock(), ctx.Queue())])
            assert result.get(LONG) == ["done"]
    assert os.path.exists(mark)
    until(lambda: not nodes.home._tickets)


def receive(end):
    return end.recv()


def test_an_end_of_a_pipe_cannot_be_tried_again(ctx):
    reader, writer = ctx.Pipe(duplex=False)
    with ctx.Pool(2, retries=1) as pool, pytest.raises(ValueError, match="can be taken once"):
        pool.apply(receive, (reader,))
    with ctx.Pool(2) as pool:
        with pytest.raises(ValueError, match="can be taken once"):
            pool.map(functools.partial(max, key=reader), [[1]])
        result = pool.apply_async(receive, (reader,))
        writer.send("arrived")
        assert result.get(LONG) == "arrived"


def test_a_worker_can_be_killed(ctx):
    with ctx.Pool(3) as pool:
        victims = list(pool._pool)
        for worker in victims:
            assert worker.is_alive() and worker.node in repr(worker)
            worker.kill()
        until_ended([worker.pid for worker in victims])
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        until(lambda: not any(worker.is_alive() for worker in victims))


def put_under(lock, queue, value, number):
    with lock:
        value.value += number
    queue.put((number, where()))


def test_shared_objects_in_arguments(ctx):
    lock, queue, value = ctx.Lock(), ctx.Queue(), ctx.Value("i", 0)
    with ctx.Pool(5) as pool:
        pool.starmap(put_under, [(lock, queue, value, number) for number in range(20)], 1)
        got = [queue.get(timeout=LONG) for _ in range(20)]
    assert sorted(number for number, _ in got) == list(range(20))
    assert value.value == sum(range(20))


of_worker = None


def keep(queue, number):
    global of_worker
    of_worker = queue
    queue.put(number)
    return number


def tell():
    of_worker.put(where())
    return procession.current_worker().value


def test_an_initializer_gets_shared_objects(ctx):
    queue = ctx.Queue()
    with ctx.Pool(3, keep, (queue, 7)) as pool:
        assert [queue.get(timeout=LONG) for _ in range(3)] == [7] * 3
        assert pool.apply(tell) == 7
        assert queue.get(timeout=LONG)[0] in ("driver", "node1", "node2")


def fail():
    raise ValueError("meant to fail")


def test_an_initializer_that_fails_breaks_the_pool(ctx):
    with ctx.Pool(2, fail) as pool:
        with pytest.raises(procession.BrokenPool, match=r"meant to fail.*on node") as caught:
            pool.apply(square, (3,))
        assert isinstance(caught.value.__cause__, ValueError)


def test_a_closed_pool_ends_with_its_workers(ctx, tmp_path):
    gate = tmp_path / "gate"
    pool = ctx.Pool(3)
    met = pool.map(where, range(30), 1)
    held = pool.apply_async(wait_for, (str(gate),))
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))
    gate.touch()
    pool.join()
    assert held.get() == str(gate)
    until_ended(pid for _, pid in met)
    assert not any("PoolWorker" in child.name for child in procession.active_children())


def test_terminate_ends_busy_workers(ctx, tmp_path):
    pool = ctx.Pool(5)
    results = [pool.apply_async(note, (str(tmp_path),)) for _ in range(8)]
    until(lambda: len(noted(tmp_path)) == 5)
    pool.terminate()
    pool.join()
    until_ended(int(pid) for pid in noted(tmp_path))
    for one in results:
        with pytest.raises(procession.ProcessError, match="terminated"):
            one.get(LONG)


def test_a_stopped_sub_pool_does_not_hold_up_terminate(ctx):
    pool = ctx.Pool(3)
    _, pid = pool.apply(where)
    for process in pool._pool_workers._processes.values():
        stop(process.pid)
    pool.terminate()
    pool.join()
    until_ended([pid])


def test_cancelled_tasks_are_stopped_on_their_nodes(ctx, tmp_path):
    with ctx.Pool(5) as pool:
        result = pool.map_async(note, [str(tmp_path)] * 9, 1)
        until(lambda: len(noted(tmp_path)) == 5)
        assert result.cancel()
        with pytest.raises(procession.TaskCancelled):
            result.get(LONG)
        until_ended(int(pid) for pid in noted(tmp_path))
        assert pool.apply(square, (4,)) == 16


def test_resize(ctx, tmp_path):
    with ctx.Pool(1) as pool:
        pool.resize(5)
        met = pool.map(meet, [(str(tmp_path), 5)] * 5, 1)
        assert {name for name, _ in met} == {"driver", "node1", "node2"}
        pool.resize(2)
        until(lambda: len(pool._pool) == 2)
        assert pool.map(square, range(50), 1) == [x * x for x in range(50)]
        with pytest.raises(ValueError, match="at least 1"):
            pool.resize(0)


def test_figures(ctx):
    with ctx.Pool(3) as pool:
        pool.map(square, range(60), 1)
        until(lambda: len(pool._pool) == 3)
        stats = pool.stats()
    assert (stats.done, stats.queued, stats.running) == (60, 0, 0)
    assert sum(worker.tasks for worker in stats.workers) == 60


def test_large_functions_and_results(ctx):
    data = os.urandom(1 << 20)
    with ctx.Pool(3) as pool:
        results = pool.map(lambda number: data[number:], range(6), 1)
    assert results == [data[number:] for number in range(6)]


def make_a_pool(number):
    with procession.get_context("ray").Pool(3) as pool:
        return where()[0], pool.map(square, range(number), 1)


def test_a_pool_of_another_node(ctx):
    with ctx.Pool(2) as pool:
        for _, squares in pool.map(make_a_pool, [10] * 2, 1):
            assert squares == [x * x for x in range(10)]


def _hold_a_pool(queue, folder):
    pool = procession.get_context("ray").Pool(5)
    result = pool.map_async(note, [folder] * 5, 1)
    queue.put(os.getpid())
    result.get()


def test_workers_end_with_a_killed_maker(ctx, tmp_path):
    queue = ctx.Queue()
    child = ctx.Process(target=_hold_a_pool, args=(queue, str(tmp_path)))
    child.start()
    until(lambda: len(noted(tmp_path)) == 5)
    pids = [int(pid) for pid in noted(tmp_path)]
    assert all(map(is_running, pids))
    child.kill()
    until_ended(pids)
    child.join()


class WithItsOwnQueues(pools.Pool):
    def _setup_queues(self):
        super()._setup_queues()


def test_what_is_refused(ctx):
    with pytest.raises(NotImplementedError, match="queues of its own"):
        WithItsOwnQueues(2, context=ctx)
    with pytest.raises(NotImplementedError, match="idle_timeout"):
        procession.ProcessPoolExecutor(mp_context=ctx, idle_timeout=3)
    with pytest.raises(ValueError, match="at least 1"):
        ctx.Pool(0)


def test_an_executor(ctx, tmp_path):
    gate = tmp_path / "gate"
    with procession.ProcessPoolExecutor(3, ctx) as executor:
        assert list(executor.map(square, range(50))) == [x * x for x in range(50)]
        assert executor.submit(pow, 2, 5).result(LONG) == 32
        running = [executor.submit(wait_for, str(gate)) for _ in range(3)]
        until(lambda: all(future.running() for future in running))
        waiting = executor.submit(square, 3)
        assert waiting.cancel() and waiting.cancelled()
        assert not running[0].cancel()
        assert running[0].cancel(running=True)
        gate.touch()
        assert [future.result(LONG) for future in running[1:]] == [str(gate)] * 2
        with pytest.raises(KeyError):
            executor.submit({}.__getitem__, "x").result(LONG)


def test_an_executor_cancels_what_has_not_begun(ctx, tmp_path):
    gate = tmp_path / "gate"
    executor = procession.ProcessPoolExecutor(2, ctx)
    running = [executor.submit(wait_for, str(gate)) for _ in range(2)]
    until(lambda: all(future.running() for future in running))
    waiting = [executor.submit(square, number) for number in range(20)]
    ender = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
    ender.start()
    until(lambda: all(future.cancelled() for future in waiting))
    gate.touch()
    ender.join(LONG)
    assert [future.result() for future in running] == [str(gate)] * 2


def test_an_executors_lost_node(nodes, ctx, tmp_path):
    with procession.ProcessPoolExecutor(5, ctx) as executor:
        futures = [executor.submit(note, str(tmp_path)) for _ in range(5)]
        until(lambda: len(noted(tmp_path)) == 5)
        nodes.agents[1].kill()
        until(lambda: sum(future.done() for future in futures) == 2)
        (tmp_path / "never").touch()
        for future in futures:
            if error := future.exception(LONG):
                assert isinstance(error, procession.WorkerDied) and "node2" in str(error)
        assert list(executor.map(square, range(20))) == [x * x for x in range(20)]


def wait_on_three(folder_and_number):
    folder, number = folder_and_number
    return number if number != 3 else wait_for(f"{folder}/never")


def test_time_limits_are_those_of_each_item(ctx, tmp_path):
    items = [(str(tmp_path), number) for number in range(6)]
    with ctx.Pool(3, task_timeout=3) as pool:
        with pytest.raises(
            procession.TaskTimeout, match=r"on node .* more than 3 seconds"
        ) as caught:
            pool.map(wait_on_three, items, 2)
        assert "wait_on_three" in caught.value.task
        ends = pool.map(wait_on_three, items, 2, return_exceptions=True)
        assert [end for end in ends if isinstance(end, int)] == [0, 1, 4, 5]
        assert all(isinstance(end, procession.TaskTimeout) for end in ends[2:4])
        calls = pool.options(timeout=None, name="the long one")
        held = calls.apply_async(wait_for, (str(tmp_path / "gate"),))
        (tmp_path / "gate").touch()
        assert held.get(LONG) == str(tmp_path / "gate")


class _Interrupt(BaseException):
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalizers
def test_interrupted_calls_leave_nothing_behind(ctx):
    """A signal handler raises at random moments of calls; all is as if those had not been made."""
    chance = random.Random(7)
    is_armed = False

    def interrupt(*_):
        if is_armed:
            raise _Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        with ctx.Pool(3) as pool, procession.ProcessPoolExecutor(2, ctx) as executor:
            assert executor.submit(square, 3).result(LONG) == 9
            calls = (
                lambda n: pool.apply(square, (n,)) == n * n,
                lambda n: pool.map(square, range(n), 1) == [x * x for x in range(n)],
                lambda n: executor.submit(square, n).result(LONG) == n * n,
            )
            for _ in range(600):
                try:
                    try:
                        is_armed = True
                        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-3))
                        assert chance.choice(calls)(chance.randrange(1, 200))
                    finally:
                        is_armed = False
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except _Interrupt:
                    interrupted += 1
            cores = pool._core, executor._engine.pool._core
            until(lambda: not any(core.jobs or core.queue for core in cores))
            assert all(call(50) for call in calls)
            pool.close()
            pool.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in finalizers
def test_an_interrupt_at_each_point_of_a_call(ctx):
    """Whatever call of a function was interrupted, the pool serves and nothing is left of the call."""
    with ctx.Pool(2) as pool, procession.ProcessPoolExecutor(2, ctx) as executor:
        calls = (
            lambda: pool.apply(square, (3,)),
            lambda: pool.map(square, range(3), 1),
            lambda: executor.submit(square, 3).result(LONG),
        )
        assert executor.submit(square, 3).result(LONG) == 9
        cores = pool._core, executor._engine.pool._core
        for call in calls:
            point = 1
            while interrupted_at(point, call):
                point += 1
                until(lambda: not any(core.jobs or core.queue for core in cores))
                call()
            assert point > 10
        for kind in pool.imap, pool.imap_unordered:
            point, is_interrupted = 1, True
            while is_interrupted:
                results = kind(square, range(3))
                got = set()
                # What the iterator returned may be lost with the call of `add`.
                take = lambda results=results, got=got: got.add(results.next(LONG))  # noqa: E731
                is_interrupted = interrupted_at(point, take)
                point += 1
                got.update(results)
                assert {4} < got <= {0, 1, 4} if is_interrupted else got == {0, 1, 4}
        pool.close()
        pool.join()


class ExitsWhereUnpickled:
    def __reduce__(self):
        return sys.exit, (3,)


def exit_later():
    return ExitsWhereUnpickled()


def test_a_result_that_exits_where_it_is_unpickled(ctx):
    with procession.ProcessPoolExecutor(1, ctx) as executor:
        with pytest.raises(pools.MaybeEncodingError) as caught:
            executor.submit(exit_later).result(LONG)
        assert isinstance(caught.value.__cause__, SystemExit)
        assert executor.submit(square, 3).result(LONG) == 9


def test_a_forked_child_drops_and_asks_the_pool(ctx, tmp_path):
    """Another thread held the pool's lock; results and figures that cannot come are not waited for."""
    with ctx.Pool(2) as pool:
        result = pool.apply_async(wait_for, (tmp_path / "end",))
        held, release = threading.Event(), threading.Event()

        def hold():
            with pool._core.changed:
                held.set()
                release.wait(LONG)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(LONG)

        def child():
            repr(pool)
            assert not pool.stats().workers
            with pytest.raises(ValueError, match="belongs to process"):
                result.get()
            pool.close()

        try:
            process = procession.get_context("fork").Process(target=child)
            process.start()
        finally:
            release.set()
        holder.join()
        process.join(LONG)
        assert process.exitcode == 0
        (tmp_path / "end").touch()
        result.get(LONG)
