"""A program annotated against the standard library's types.

`test_checkers.py` checks it as it stands and with the import swapped.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from ctypes import c_double, c_int
from multiprocessing import get_context, managers, pool, queues, shared_memory, synchronize
from multiprocessing.connection import Client, Connection, Listener, wait
from multiprocessing.context import BaseContext, SpawnContext
from multiprocessing.managers import BaseManager, SharedMemoryManager, SyncManager
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from typing import Any, assert_type


def work(number: int, results: queues.Queue[tuple[int, str]]) -> None:
    results.put((number, multiprocessing.current_process().name))


def square(number: int) -> float:
    return number * 1.5


def add(left: int, right: int) -> int:
    return left + right


class Child(multiprocessing.Process):
    def __init__(self, lock: synchronize.Lock) -> None:
        super().__init__(name="child", daemon=True)
        self.lock = lock

    def run(self) -> None:
        with self.lock:
            print(self.pid, self.exitcode, self.sentinel)


def processes() -> None:
    results: queues.Queue[tuple[int, str]] = multiprocessing.Queue()
    child = multiprocessing.Process(target=work, args=(1, results), kwargs={}, daemon=False)
    child.start()
    child.join(timeout=1.5)
    assert_type(child.exitcode, int | None)
    assert_type(child.pid, int | None)
    assert_type(child.is_alive(), bool)
    assert_type(child.sentinel, int)
    assert_type(child.name, str)
    assert_type(child.daemon, bool)
    key: bytes = child.authkey
    print(key)
    assert_type(results.get(True, 0.5), tuple[int, str])
    assert_type(results.get_nowait(), tuple[int, str])
    assert_type(results.empty(), bool)
    assert_type(results.qsize(), int)
    parent = multiprocessing.parent_process()
    if parent is not None:
        print(parent.name, parent.ident)
    for other in multiprocessing.active_children():
        other.terminate()
        other.kill()
        other.close()
    assert_type(multiprocessing.cpu_count(), int)
    Child(multiprocessing.Lock()).start()


def primitives() -> None:
    lock = multiprocessing.Lock()
    assert_type(lock.acquire(block=True, timeout=1.0), bool)
    lock.release()
    again = multiprocessing.RLock()
    with again:
        pass
    permits: synchronize.Semaphore = multiprocessing.Semaphore(3)
    assert_type(permits.get_value(), int)
    bounded: synchronize.BoundedSemaphore = multiprocessing.BoundedSemaphore()
    bounded.release()
    condition: synchronize.Condition = multiprocessing.Condition(lock)
    with condition:
        assert_type(condition.wait(0.1), bool)
        assert_type(condition.wait_for(lambda: True, timeout=1), bool)
        condition.notify(2)
        condition.notify_all()
    event: synchronize.Event = multiprocessing.Event()
    event.set()
    assert_type(event.is_set(), bool)
    assert_type(event.wait(timeout=None), bool)
    barrier = multiprocessing.Barrier(2, action=print, timeout=5)
    assert_type(barrier.wait(), int)
    assert_type(barrier.parties, int)
    assert_type(barrier.broken, bool)


def pipes_and_queues() -> None:
    here, there = multiprocessing.Pipe()
    here.send({"a": 1})
    assert_type(there.poll(1.0), bool)
    print(there.recv(), there.recv_bytes(), here.fileno(), here.closed)
    there.send_bytes(b"bytes", 0, 3)
    with here, there:
        ready = wait([here, there], timeout=0)
        print(len(ready))
    joinable: queues.JoinableQueue[int] = multiprocessing.JoinableQueue(5)
    joinable.put(1, block=True, timeout=2)
    joinable.task_done()
    joinable.join()
    simple: queues.SimpleQueue[str] = multiprocessing.SimpleQueue()
    simple.put("text")
    assert_type(simple.get(), str)
    joinable.cancel_join_thread()
    joinable.close()
    joinable.join_thread()


def shared() -> None:
    number = multiprocessing.Value("i", 3)
    with number.get_lock():
        number.value += 1
    exact = multiprocessing.Value(c_double, 1.5)
    assert_type(exact, Synchronized[float])
    exact.value *= 2
    raw = multiprocessing.RawValue(c_int, 7)
    assert_type(raw, c_int)
    array = multiprocessing.Array(c_double, [1.0, 2.0])
    assert_type(array, SynchronizedArray[float])
    array[0] = 3.0
    assert_type(array[1], float)
    letters = multiprocessing.Array("c", 10)
    print(letters[:])
    plain = multiprocessing.RawArray(c_int, 4)
    assert_type(plain, ctypes.Array[c_int])


def pools() -> None:
    with multiprocessing.Pool(
        2, initializer=print, initargs=("hello",), maxtasksperchild=9
    ) as workers:
        assert_type(workers, pool.Pool)
        assert_type(workers.map(square, [1, 2], chunksize=1), list[float])
        assert_type(workers.map_async(square, range(3)).get(5.0), list[float])
        assert_type(workers.starmap(add, [(1, 2)]), list[int])
        assert_type(workers.starmap_async(add, [(1, 2)]).get(), list[int])
        assert_type(workers.apply(add, (1, 2)), int)
        result = workers.apply_async(add, (1,), {"right": 2}, callback=print, error_callback=print)
        assert_type(result.get(timeout=1), int)
        assert_type(result.ready(), bool)
        assert_type(result.successful(), bool)
        result.wait(1)
        for one in workers.imap(square, [1, 2, 3], 2):
            assert_type(one, float)
        assert_type(workers.imap(square, [1]).next(0.5), float)
        for one in workers.imap_unordered(square, iter([1])):
            assert_type(one, float)
        workers.close()
        workers.terminate()
        workers.join()
    with pool.ThreadPool(4) as threads:
        assert_type(threads.map(square, [1]), list[float])


def contexts() -> None:
    multiprocessing.set_start_method("spawn", force=True)
    assert_type(multiprocessing.get_all_start_methods(), list[str])
    context = get_context("spawn")
    assert_type(context, SpawnContext)
    child = context.Process(target=print)
    child.start()
    base: BaseContext = get_context()
    items: queues.Queue[Any] = base.Queue(maxsize=3)
    items.put_nowait(object())
    multiprocessing.get_logger().info("told")
    multiprocessing.log_to_stderr("INFO").setLevel(10)
    multiprocessing.freeze_support()


class Calculator:
    def add(self, left: int, right: int) -> int:
        return left + right


class OwnManager(BaseManager):
    pass


OwnManager.register("Calculator", Calculator, exposed=["add"])


def manager_types() -> None:
    with multiprocessing.Manager() as manager:
        assert_type(manager, SyncManager)
        table = manager.dict({"a": 1})
        assert_type(table, managers.DictProxy[str, int])
        table["b"] = 2
        assert_type(table.get("a"), int | None)
        row = manager.list([1, 2])
        assert_type(row, managers.ListProxy[int])
        row.append(3)
        assert_type(row[0], int)
        space = manager.Namespace()
        space.anything = 1
        with manager.Lock():
            pass
        manager.Queue(3).put(1)
        manager.Event().set()
        manager.Value("i", 0).value = 3
    with OwnManager(address=("127.0.0.1", 0), authkey=b"key") as own:
        print(own.address)
        own.connect()
        own.shutdown()
    with SharedMemoryManager() as memory:
        assert_type(memory.SharedMemory(128), shared_memory.SharedMemory)
        memory.ShareableList([1, 2])


def connections() -> None:
    with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
        print(listener.address, listener.last_accepted)
        with listener.accept() as served:
            served.send_bytes(b"bytes")
    with Client("/tmp/socket", family="AF_UNIX", authkey=b"key") as client:
        client.recv()
    ends: list[Connection] = []
    print(ends)


def segments() -> None:
    segment = shared_memory.SharedMemory(create=True, size=100)
    if segment.buf is not None:
        segment.buf[0] = 1
    assert_type(segment.name, str)
    assert_type(segment.size, int)
    segment.close()
    segment.unlink()
    row = shared_memory.ShareableList([1, 2, 3])
    assert_type(row[0], int)
    assert_type(row.count(2), int)
    row.shm.unlink()
