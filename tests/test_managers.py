"""Managers: every shared type, proxies and their reference counts, custom types, remote managers."""

import array
import collections.abc
import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

import procession
from procession import connection, managers
from procession.context import AuthenticationError, ProcessError

KEY = b"abracadabra"


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

    def test_what_cannot_travel(self, manager):
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


def change(things, lock, number):
    listed, mapped, value, space, results = things
    for _ in range(20):
        with lock:
            value.value += 1
    listed.append(number)
    mapped[number] = os.getpid()
    space.last = number
    results.put(listed[:].count(number))


class TestStartMethods:
    def test_proxies_as_arguments(self, ctx):
        with ctx.Manager() as manager:
            things = (
                manager.list(),
                manager.dict(),
                manager.Value("i", 0),
                manager.Namespace(),
                manager.Queue(),
            )
            lock = manager.Lock()
            children = [ctx.Process(target=change, args=(things, lock, n)) for n in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            assert [child.exitcode for child in children] == [0, 0, 0]
            listed, mapped, value, space, results = things
            assert sorted(listed) == [0, 1, 2]
            assert sorted(mapped.values()) == sorted(child.pid for child in children)
            assert value.value == 60 and space.last in (0, 1, 2)
            assert [results.get() for _ in children] == [1, 1, 1]

    def test_names_and_end(self, ctx):
        manager = ctx.Manager()
        child = manager._process
        assert child.name.startswith("SyncManager-") and child.is_alive()
        assert os.path.exists(manager.address)
        shared = manager.list([1])
        manager.shutdown()
        assert not child.is_alive() and child.exitcode == 0
        assert "failed" in str(shared)
        with pytest.raises((OSError, EOFError)):
            shared.append(1)

    def test_custom_types(self, ctx):
        manager = CustomManager(ctx=ctx)
        manager.start()
        try:
            counter = manager.Counter(5)
            assert counter.add(3) == 8 and str(counter) == "Counter(8)"
            assert not hasattr(counter, "_secret")
            hidden = manager.Hidden(5)
            assert hidden._secret() == "secret"
            assert not hasattr(hidden, "add")
            with pytest.raises(managers.RemoteError, match="is not in exposed"):
                hidden._callmethod("add", (1,))
            assert list(manager.squares(4)) == [0, 1, 4, 9]
            child = counter.child()
            assert child.add(1) == 9 and child is not counter
            with pytest.raises(ZeroDivisionError):
                counter.fail()
        finally:
            manager.shutdown()


class Counter:
    def __init__(self, value):
        self.value = value

    def add(self, n):
        self.value += n
        return self.value

    def child(self):
        return Counter(self.value)

    def fail(self):
        return 1 / 0

    def _secret(self):
        return "secret"

    def __repr__(self):
        return f"Counter({self.value})"


def squares(n):
    return (i * i for i in range(n))


class SquaresProxy(managers.BaseProxy):
    _exposed_ = ["__next__"]

    def __iter__(self):
        return self

    def __next__(self):
        return self._callmethod("__next__")


class CustomManager(managers.BaseManager):
    pass


CustomManager.register("Counter", Counter, method_to_typeid={"child": "Child"})
CustomManager.register("Child", create_method=False)
CustomManager.register("Hidden", Counter, exposed=("_secret",))
CustomManager.register("squares", squares, proxytype=SquaresProxy)


def fail_to_start():
    sys.exit(3)


def set_environment(name, value):
    os.environ[name] = value


class EnvironmentManager(managers.BaseManager):
    pass


EnvironmentManager.register("getenv", os.getenv, exposed=("upper",))


class TestLife:
    def test_states(self, ctx):
        manager = managers.SyncManager(ctx=ctx)
        with pytest.raises(AssertionError, match="server not yet started"):
            manager.list()
        manager.start()
        for again in (manager.start, manager.get_server):
            with pytest.raises(ProcessError, match="Already started server"):
                again()
        manager.shutdown()
        for again in (manager.start, manager.get_server, manager.__enter__):
            with pytest.raises(ProcessError, match="Manager has shut down"):
                again()
        manager.join()

    def test_initializer(self, ctx):
        manager = EnvironmentManager(ctx=ctx)
        with pytest.raises(TypeError, match="must be a callable"):
            manager.start(1)
        manager.start(set_environment, ("PROCESSION_TEST", "yes"))
        assert manager.getenv("PROCESSION_TEST").upper() == "YES"
        manager.shutdown()

    def test_a_server_that_does_not_come_up(self, ctx):
        manager = managers.BaseManager(ctx=ctx)
        with pytest.raises(EOFError, match="exit code 3"):
            manager.start(fail_to_start)

    def test_a_server_that_is_killed(self):
        manager = procession.get_context("fork").Manager()
        shared = manager.list([1])
        assert shared[0] == 1
        os.kill(manager._process.pid, signal.SIGKILL)
        manager._process.join()
        with pytest.raises((EOFError, OSError)):
            shared[0]
        del shared
        manager.shutdown()

    def test_a_client_that_is_killed(self, manager):
        shared = manager.list()
        child = procession.get_context("fork").Process(target=append_for_ever, args=(shared,))
        child.start()
        while len(shared) < 10:
            pass
        child.kill()
        child.join()
        length = len(shared)
        shared.append(1)
        assert len(shared) == length + 1

    def test_keys_must_be_bytes(self):
        with pytest.raises(TypeError):
            managers.BaseManager(authkey="text").get_server()

    def test_a_manager_leaves_with_its_program(self, program):
        code = """
            import os, procession, signal, sys
            if __name__ == '__main__':
                manager = procession.get_context('fork').Manager()
                print(manager._process.pid, flush=True)
                input()
                os.kill(os.getpid(), signal.SIGKILL)
        """
        with program(code) as parent:
            server = os.pidfd_open(int(parent.stdout.readline()))
            parent.communicate("now\n")
            assert parent.returncode == -signal.SIGKILL
            assert connection.wait([server], 30)
            os.close(server)


def append_for_ever(shared):
    while True:
        shared.append(os.getpid())


class TestAddresses:
    @pytest.mark.parametrize("address", [("localhost", 0), "\0procession-manager-{pid}"])
    def test_where_to_listen(self, address):
        if isinstance(address, str):
            address = address.format(pid=os.getpid())
        with managers.SyncManager(
            address=address, authkey=KEY, ctx=procession.get_context("fork")
        ) as manager:
            shared = manager.list([1])
            client = managers.SyncManager(address=manager.address, authkey=KEY)
            client.connect()
            other = client.list([2])
            assert shared[0] + other[0] == 3
            wrong = managers.SyncManager(address=manager.address, authkey=b"wrong")
            with pytest.raises(AuthenticationError):
                wrong.connect()

    def test_xmlrpc(self):
        manager = CustomManager(serializer="xmlrpclib", ctx=procession.get_context("fork"))
        manager.start()
        counter = manager.Counter(5)
        assert counter.add(2) == 7
        del counter
        manager.shutdown()

    def test_silent_and_rude_peers(self):
        with managers.SyncManager(
            address=("localhost", 0), authkey=KEY, ctx=procession.get_context("fork")
        ) as manager:
            silent = [socket.create_connection(manager.address) for _ in range(20)]
            for garbage in (b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4abcd"):
                with socket.create_connection(manager.address) as rude:
                    rude.send(garbage)
                    rude.settimeout(30)
                    try:
                        while rude.recv(1000):
                            pass
                    except ConnectionResetError:
                        pass
            shared = manager.list([1])
            assert shared[0] == 1
            for peer in silent:
                peer.close()


@pytest.fixture
def program(tmp_path):
    """Runs programs of their own, as somebody would type them."""

    def run(code, *args):
        path = tmp_path / f"{os.urandom(4).hex()}.py"
        path.write_text(textwrap.dedent(code))
        command = [sys.executable, str(path), *map(str, args)]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


def test_message_shapes():
    """What goes over the wire, byte for byte meaning: pickled tuples."""
    listener = connection.Listener(family="AF_UNIX", authkey=KEY)
    seen = []

    def serve():
        with listener.accept() as conn:
            seen.append(conn.recv())
            conn.send(("#RETURN", ("id", ("get",))))

    thread = threading.Thread(target=serve)
    thread.start()
    client = connection.Client(listener.address, authkey=KEY)
    assert managers.dispatch(client, None, "create", ("typeid", 1), {"a": 2}) == ("id", ("get",))
    thread.join()
    listener.close()
    assert seen == [(None, "create", ("typeid", 1), {"a": 2})]


def test_method_names():
    class Thing:
        x = 1

        def method(self):
            pass

        def _private(self):
            pass

    assert "method" in managers.all_methods(Thing()) and "__init__" in managers.all_methods(Thing())
    assert managers.public_methods(Thing()) == ["method"]
    one = managers.MakeProxyType("One", ("method",))
    assert one is managers.MakeProxyType("One", ["method"]) and one._exposed_ == ("method",)


def iterate(mapping, items, results):
    # Proxies that came here in an argument know no manager.
    results.put((mapping.keys(), list(reversed(mapping)), sorted(items), {"a"} | items))


def test_dicts_and_sets_are_iterated_over_where_there_is_no_manager():
    context = procession.get_context("fork")
    with context.Manager() as manager:
        mapping, items = manager.dict(x=1, y=2), manager.set("ab")
        assert isinstance(mapping, collections.abc.MutableMapping)
        assert isinstance(items, collections.abc.MutableSet)
        assert isinstance(manager.list(), collections.abc.MutableSequence)
        results = context.Queue()
        process = context.Process(target=iterate, args=(mapping, items, results))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert results.get() == (["x", "y"], ["y", "x"], ["a", "b"], {"a", "b"})
