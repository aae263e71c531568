"""What a manager shares: every type, and shared things within shared things.

Faults of managers are tested in test_faults.py.
"""

from __future__ import annotations

import array
import queue
import threading

import pytest

import procession
from procession import managers


@pytest.fixture
def manager():
    with procession.get_context("fork").Manager() as manager:
        yield manager


class TestSharedTypes:
    def test_list(self, manager):
        shared = manager.list(range(5))
        shared.append(9)
        shared.extend([7, 8])
        shared += [1]
        assert shared[:] == [0, 1, 2, 3, 4, 9, 7, 8, 1]
        assert len(shared) == 9 and 9 in shared and shared.index(9) == 5 and shared.count(1) == 2
        shared.sort()
        shared.reverse()
        assert shared.pop() == 0 and shared[0] == 9
        shared[0] = "x"
        del shared[1]
        shared.remove(7)
        shared.insert(1, "y")
        assert shared.copy() == ["x", "y", 4, 3, 2, 1, 1]
        assert list(reversed(shared)) == shared[::-1]
        assert shared + [0] == [*shared, 0]  # noqa: RUF005
        assert shared * 2 == 2 * shared == shared[:] * 2
        shared *= 2
        assert len(shared) == 14 and isinstance(shared, managers.ListProxy)
        shared.clear()
        assert str(shared) == "[]" and repr(shared).startswith(
            "<ListProxy object, typeid 'list' at 0x"
        )
        with pytest.raises(IndexError):
            shared[3]

    def test_dict(self, manager):
        shared = manager.dict(a=1, b=2)
        shared["c"] = 3
        shared.update({"d": 4})
        assert sorted(shared.items()) == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
        assert sorted(shared.keys()) == list("abcd") and sorted(shared.values()) == [1, 2, 3, 4]
        assert list(shared) == list("abcd") and list(reversed(shared)) == list("dcba")
        assert "a" in shared and "z" not in shared and len(shared) == 4
        assert shared.pop("a") == 1 and shared.get("a") is None and shared.setdefault("a", 5) == 5
        assert shared.popitem() == ("a", 5)
        del shared["d"]
        assert shared | {"x": 1} == {"b": 2, "c": 3, "x": 1} and {"b": 0} | shared == {
            "b": 2,
            "c": 3,
        }
        shared |= {"y": 2}
        assert isinstance(shared, managers.DictProxy) and shared.copy() == {"b": 2, "c": 3, "y": 2}
        assert shared.fromkeys(["k"], 1) == {"k": 1}
        shared.clear()
        assert str(shared) == "{}"
        with pytest.raises(KeyError, match="nothing"):
            shared["nothing"]

    def test_set(self, manager):
        shared = manager.set({1, 2, 3})
        shared.add(4)
        shared.discard(1)
        shared.remove(2)
        assert (
            shared.copy() == {3, 4}
            and 3 in shared
            and len(shared) == 2
            and sorted(shared) == [3, 4]
        )
        assert (
            shared | {5} == {3, 4, 5}
            and shared & {3} == {3}
            and shared - {3} == {4}
            and shared ^ {3} == {4}
        )
        assert {5} | shared == {3, 4, 5} and {3, 5} - shared == {5}
        shared |= {7, 8}
        shared &= {3, 7, 8}
        shared -= {8}
        shared ^= {3}
        assert isinstance(shared, managers.SetProxy) and str(shared) == "{7}"
        assert (
            shared.issubset({7, 8})
            and shared < {7, 8}
            and shared.isdisjoint({1})
            and shared.pop() == 7
        )
        with pytest.raises(KeyError):
            shared.pop()

    def test_namespace_value_array(self, manager):
        space = manager.Namespace(x=1)
        space.y = [2]
        space._private = 3
        assert (space.x, space.y, str(space)) == (1, [2], "Namespace(x=1, y=[2])")
        del space.x
        with pytest.raises(AttributeError):
            space.x  # noqa: B018
        value = manager.Value("i", 5)
        value.value += 1
        assert value.get() == 6 and str(value) == "Value('i', 6)"
        numbers = manager.Array("d", [1, 2, 3])
        numbers[1] = 5
        assert numbers[:] == array.array("d", [1, 5, 3]) and len(numbers) == 3

    def test_queues(self, manager):
        for shared in (manager.Queue(2), manager.JoinableQueue(2)):
            shared.put(1)
            shared.put(2)
            with pytest.raises(queue.Full):
                shared.put_nowait(3)
            assert (shared.get(), shared.get(timeout=1), shared.empty()) == (1, 2, True)
            shared.task_done()
            shared.task_done()
            shared.join()
            with pytest.raises(queue.Empty):
                shared.get(timeout=0.01)

    def test_locks(self, manager):
        lock = manager.Lock()
        assert (
            lock.acquire()
            and not lock.acquire(False)
            and not lock.acquire(True, 0.01)
            and lock.locked()
        )
        lock.release()
        with pytest.raises(RuntimeError):
            lock.release()
        rlock = manager.RLock()
        with rlock, rlock:
            other = []
            thread = threading.Thread(target=lambda: other.append(rlock.acquire(False)))
            thread.start()
            thread.join()
            assert other == [False]
        semaphore = manager.BoundedSemaphore(1)
        with semaphore:
            assert not semaphore.acquire(False)
        with pytest.raises(ValueError):
            semaphore.release()
        assert manager.Semaphore(2).acquire()

    def test_condition_event_barrier(self, manager):
        condition, event, barrier = manager.Condition(), manager.Event(), manager.Barrier(2)
        passed = []

        def other():
            event.wait()
            with condition:
                passed.append("notified")
                condition.notify_all()
            passed.append(barrier.wait())

        thread = threading.Thread(target=other)
        thread.start()
        with condition:
            assert not condition.wait_for(lambda: passed, 0.01)
            event.set()
            assert condition.wait_for(lambda: passed, 30)
        assert event.is_set() and barrier.parties == 2 and not barrier.broken
        passed.append(barrier.wait())
        thread.join()
        assert sorted(map(str, passed)) == ["0", "1", "notified"]
        event.clear()
        assert not event.wait(0.01)
        barrier.abort()
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()

    def test_pool(self, manager):
        with manager.Pool(2) as pool:
            assert pool.map(abs, [-1, -2, 3]) == [1, 2, 3]
            assert pool.apply(divmod, (7, 2)) == (3, 1)
            assert pool.apply_async(abs, (-5,)).get(30) == 5
            assert list(pool.imap(abs, [-1, -2])) == [1, 2]
            assert pool.starmap(divmod, [(7, 2)]) == [(3, 1)]

    def test_copies(self, manager):
        import copy

        shared = manager.list([1, [2]])
        assert copy.deepcopy(shared) == [1, [2]] and shared._getvalue() == [1, [2]]

    def test_what_cannot_be_pickled(self, manager):
        shared = manager.list()
        with pytest.raises(Exception, match=r"(?i)pickle"):
            shared.append(threading.Lock())
        with pytest.raises(managers.RemoteError, match="Unserializable message"):
            manager.Queue()._getvalue()
        shared.append(1)
        assert str(shared) == "[1]"


class TestNesting:
    def test_containers_in_containers(self, manager):
        outer, inner = manager.list(), manager.dict()
        outer.append(inner)
        inner["a"] = 1
        assert outer[0]["a"] == 1
        outer[0]["b"] = manager.list([5])
        assert inner["b"][0] == 5
        del inner
        assert outer[0].copy().keys() == {"a", "b"}

    def test_the_last_reference_from_outside_may_go(self, manager):
        outer = manager.list([manager.list([1]), manager.dict(q=manager.Queue())])
        outer[0].append(2)
        assert outer[0][:] == [1, 2]
        outer[1]["q"].put("x")
        assert outer[1]["q"].get() == "x"
        popped = outer.pop(0)
        assert popped[:] == [1, 2]

    def test_references_are_counted(self, manager):
        before = manager._number_of_objects()
        shared = [manager.list() for _ in range(3)]
        assert manager._number_of_objects() == before + 3
        assert manager._debug_info().count("refcount=1") == before + 3
        shared.pop()
        assert manager._number_of_objects() == before + 2
        del shared
        assert manager._number_of_objects() == before


def iterate(mapping, items, results):
    # Proxies that arrived in an argument know no manager.
    results.put((mapping.keys(), list(reversed(mapping)), sorted(items), {"a"} | items))


def test_dicts_and_sets_are_iterated_over_where_there_is_no_manager():
    context = procession.get_context("fork")
    with context.Manager() as manager:
        mapping, items = manager.dict(x=1, y=2), manager.set("ab")
        results = context.Queue()
        process = context.Process(target=iterate, args=(mapping, items, results))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert results.get() == (["x", "y"], ["y", "x"], ["a", "b"], {"a", "b"})
