"""Managers: proxies and their reference counts, custom types, remote managers.

The shared types are in test_types.py.
"""

import os
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
        with pytest.raises(AssertionError, match="Manager has shut down"):
            manager.list()
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
    """Return a function that runs programs in fresh interpreters, as a user would."""

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
    """The messages are pickled tuples."""
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
