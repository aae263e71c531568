"""A plain `multiprocessing` at the other end.

It is that of this Python, and of the oldest and the newest on this machine.

The handshake's digest is a bare MD5 before 3.12, and named in the messages since.
`PROCESSION_TEST_PYTHONS` (paths, separated by colons) names further interpreters.
"""

from __future__ import annotations

import ast
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from procession import AuthenticationError, connection, managers

KEY = b"abracadabra"
FAMILIES = ["tcp", "unix", "abstract"]
LARGE = 100_000_000


def interpreters() -> list:
    """Return the running interpreter, the oldest and newest from 3.8 on, and those requested."""
    candidates = [*map(str, pathlib.Path.home().glob(".pyenv/versions/3.*/bin/python3"))]
    candidates += filter(None, (shutil.which(f"python3.{minor}") for minor in range(8, 20)))
    found = dict(filter(None, map(version, candidates)))
    paths = [path for number, path in sorted(found.items()) if number >= (3, 8)]
    asked_for = filter(None, os.environ.get("PROCESSION_TEST_PYTHONS", "").split(os.pathsep))
    chosen = [sys.executable, *paths[:1], *paths[-1:], *asked_for]
    versions = dict(reversed([*map(version, chosen)]))
    return [pytest.param(path, id="{}.{}".format(*number)) for number, path in versions.items()]


def version(path) -> tuple[tuple[int, int], str] | None:
    """Return (major, minor) and the path, if there is an interpreter."""
    command = [path, "-c", "import sys; print(tuple(sys.version_info[:2]))"]
    asked = subprocess.run(
        command, env=bare_environment(), capture_output=True, text=True, check=False
    )
    return None if asked.returncode else (ast.literal_eval(asked.stdout), path)


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@contextlib.contextmanager
def plain(python, program, *args):
    """Run `program` in a process of `python` that knows nothing of procession; it must succeed."""
    command = [python, "-c", program, *map(repr, args)]
    with subprocess.Popen(
        command, env=bare_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.fixture(params=FAMILIES)
def address(request, tmp_path):
    """A free address of a family."""
    return {
        "tcp": ("127.0.0.1", 0),
        "unix": str(tmp_path / "socket"),
        "abstract": f"\0procession-{os.getpid()}-{os.urandom(4).hex()}",
    }[request.param]


def spelt(address):
    """Return an abstract address as text.

    Python before 3.8 does not take the bytes that a socket returns.
    """
    return os.fsdecode(address) if isinstance(address, bytes) else address


def pytest_generate_tests(metafunc):
    if "python" in metafunc.fixturenames:
        metafunc.parametrize("python", interpreters())


START = """
import ast, sys
from multiprocessing import AuthenticationError, connection, managers
arguments = [ast.literal_eval(text) for text in sys.argv[1:]]
"""

CLIENT = (
    START
    + """
address, key, size = arguments
try:
    peer = connection.Client(address, authkey=key)
except AuthenticationError:
    print("refused")
else:
    peer.send(("hello", [1, 2.5, None], {"key": b"value"}))
    peer.send_bytes(b"x" * size)
    print(ascii((peer.recv(), len(peer.recv_bytes()))))
"""
)

LISTENER = (
    START
    + """
address, key, size = arguments
with connection.Listener(address, authkey=key) as listener:
    print(ascii(listener.address), flush=True)
    try:
        listener.accept()
    except AuthenticationError:
        print("refused", flush=True)
    with listener.accept() as peer:
        peer.send(peer.recv())
        peer.send_bytes(peer.recv_bytes())
"""
)


def size_for(python):
    return LARGE if python == sys.executable else 1 << 20


class TestConnections:
    def test_plain_client(self, python, address):
        size = size_for(python)
        with connection.Listener(address, authkey=KEY) as listener:
            with plain(python, CLIENT, spelt(listener.address), b"wrong", 0) as client:
                with pytest.raises(AuthenticationError):
                    listener.accept()
                assert client.stdout.read() == "refused\n"
            with plain(python, CLIENT, spelt(listener.address), KEY, size) as client:
                with listener.accept() as peer:
                    assert peer.recv() == ("hello", [1, 2.5, None], {"key": b"value"})
                    data = peer.recv_bytes()
                    assert data == b"x" * size
                    peer.send("bye")
                    peer.send_bytes(data)
                assert ast.literal_eval(client.stdout.read()) == ("bye", size)

    def test_plain_listener(self, python, address):
        data = os.urandom(1 << 10) * (size_for(python) >> 10)
        with plain(python, LISTENER, address, KEY, 0) as server:
            address = ast.literal_eval(server.stdout.readline())
            with pytest.raises(AuthenticationError):
                connection.Client(address, authkey=b"wrong")
            assert server.stdout.readline() == "refused\n"
            with connection.Client(address, authkey=KEY) as peer:
                peer.send((1, "two"))
                peer.send_bytes(data)
                assert peer.recv() == (1, "two")
                assert peer.recv_bytes() == data

    @pytest.mark.parametrize("digest", ["md5", "sha256", "sha384", "sha3_256", "sha3_384"])
    def test_a_plain_peer_chooses_the_digest(self, python, digest):
        program = START + (
            "peer = connection.Client(arguments[0])\n"
            "connection.answer_challenge(peer, arguments[1])\n"
            "connection.deliver_challenge(peer, arguments[1], *arguments[2:])\n"
            "peer.send('proved')\n"
        )
        older = version(python)[0] < (3, 12)
        digests = [] if older else [digest]
        if older and digest != "md5":
            pytest.skip("before 3.12 there is only MD5")
        with (
            connection.Listener(family="AF_UNIX", authkey=KEY) as listener,
            plain(python, program, listener.address, KEY, *digests),
            listener.accept() as peer,
        ):
            assert peer.recv() == "proved"


SERVER = (
    START
    + """
address, key = arguments
server = managers.SyncManager(address, key).get_server()
print(ascii(server.address), flush=True)
server.serve_forever()
"""
)

USER = (
    START
    + """
address, key = arguments
wrong = managers.SyncManager(address, b"wrong")
try:
    wrong.connect()
except AuthenticationError:
    print("refused")
manager = managers.SyncManager(address, key)
manager.connect()
"""
)

USE = """
import gc, queue, threading

def use(manager):
    "Everything in turn; returns what is left to be compared."
    listed, mapped = manager.list([1, 2]), manager.dict(a=1)
    listed.append(b"x" * 1000000)
    listed.extend([None, 2.5])
    assert len(listed) == 5 and len(listed[2]) == 1000000 and listed[-1] == 2.5
    mapped.update(b=2)
    assert sorted(mapped.items()) == [("a", 1), ("b", 2)]
    try:
        mapped["nothing"]
    except KeyError:
        pass
    else:
        assert False
    items = manager.Queue(1)
    items.put("item")
    try:
        items.put("another", timeout=0.01)
    except queue.Full:
        pass
    else:
        assert False
    assert items.get() == "item"
    lock, others = manager.RLock(), []
    with lock, lock:
        thread = threading.Thread(target=lambda: others.append(lock.acquire(False)))
        thread.start()
        thread.join()
    space, value = manager.Namespace(x=1), manager.Value("i", 5)
    space.x += 1
    value.value += 1
    event = manager.Event()
    event.set()
    before = manager._number_of_objects()
    del items
    gc.collect()  # before 3.13 an error that came over the wire keeps the proxy
    assert manager._number_of_objects() == before - 1
    return space.x, value.value, others, event.wait(0), str(listed[:2])
"""
USED = (2, 6, [False], True, "[1, 2]")


class TestManagers:
    def test_plain_server(self, python, address):
        with plain(python, SERVER, address, KEY) as server:
            address = ast.literal_eval(server.stdout.readline())
            with pytest.raises(AuthenticationError):
                managers.SyncManager(address, b"wrong").connect()
            manager = managers.SyncManager(address, KEY)
            manager.connect()
            space: dict = {}
            exec(USE, space)
            assert space["use"](manager) == USED
            # A manager that started its server itself does this.
            with connection.Client(address, authkey=KEY) as peer:
                managers.dispatch(peer, None, "shutdown")

    def test_plain_user(self, python, address):
        with managers.SyncManager(address, KEY) as manager:
            program = USER + USE + "print(ascii(use(manager)))"
            with plain(python, program, spelt(manager.address), KEY) as user:
                refused, used = user.stdout.read().splitlines()
            assert refused == "refused" and ast.literal_eval(used) == USED

    def test_both_use_the_same_objects(self, python):
        class Tables(managers.BaseManager):
            pass

        table: dict = {}
        Tables.register("table", lambda: table, exposed=("get", "update", "__repr__"))
        program = START + (
            "class Tables(managers.BaseManager): pass\n"
            "Tables.register('table')\n"
            "manager = Tables(*arguments)\n"
            "manager.connect()\n"
            "table = manager.table()\n"
            "table.update({'theirs': table.get('ours') + 1})\n"
        )
        with Tables(("127.0.0.1", 0), KEY) as manager:
            ours = manager.table()
            ours.update({"ours": 1})
            with plain(python, program, spelt(manager.address), KEY):
                pass
            assert ours.get("theirs") == 2
