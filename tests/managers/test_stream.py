"""The stream of objects over a manager's socket: messages that are cut, left or lied about."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import threading

import pytest

import procession
from procession import connection, managers, reduction
from procession._procession import ObjectStream
from tests.waiting import LONG, is_asleep, until

KEY = b"abracadabra"
OBJECTS = [
    None,
    (),
    "x" * 100,
    list(range(5000)),
    b"x" * 5000,
    bytearray(1 << 17),
    "y" * (1 << 23),
]
#: Its pickle has more parts than the kernel takes at once.
MANY = [f"{number:065536}" for number in range(600)]


@pytest.fixture
def pair():
    """A socket, and the connection at its other end."""
    one, other = socket.socketpair()
    with one, connection.Connection(other.detach()) as conn:
        yield one, conn


def framed(obj):
    data = pickle.dumps(obj)
    return struct.pack("!i", len(data)) + data


def send_in_parts(peer, data, size):
    for start in range(0, len(data), size):
        peer.sendall(data[start : start + size])
    peer.shutdown(socket.SHUT_WR)


class TestMessages:
    @pytest.mark.parametrize("size", [1, 3, 1000, 1 << 20])
    def test_cut_anywhere_and_joined(self, pair, size):
        peer, conn = pair
        objects = OBJECTS[:5] if size < 1000 else OBJECTS
        data = b"".join(map(framed, objects)) + struct.pack("!iQ", -1, 4) + pickle.dumps(0, 0)[:4]
        thread = threading.Thread(target=send_in_parts, args=(peer, data, size))
        thread.start()
        stream = ObjectStream(conn)
        assert [stream.recv() for _ in objects] == objects
        assert stream.recv() == 0
        for _ in range(2):
            with pytest.raises(EOFError):
                stream.recv()
        thread.join()

    @pytest.mark.parametrize("obj", [*OBJECTS, MANY], ids=lambda obj: type(obj).__name__)
    def test_are_those_of_a_connection(self, pair, obj):
        peer, conn = pair
        stream = ObjectStream(conn)
        with connection.Connection(peer.detach()) as other:
            sender = threading.Thread(target=stream.send, args=(obj,))
            sender.start()
            assert other.recv() == obj
            sender.join()
            assert stream.is_due
            sender = threading.Thread(target=other.send, args=(obj,))
            sender.start()
            assert stream.recv() == obj
            sender.join()
            assert not stream.is_due

    def test_one_within_another(self, pair):
        """The memory of a message that is being unpickled serves no other one."""
        peer, conn = pair
        inner, outer = socket.socketpair()
        with inner, connection.Connection(outer.detach()) as other:
            Nested.stream = ObjectStream(other)
            messages = [b"%d" % number * 10_000 for number in range(3)]
            inner.sendall(framed(messages[1]))
            peer.sendall(framed([messages[0], Nested(), messages[2]]))
            stream = ObjectStream(conn)
            assert stream.recv() == messages

    def test_of_a_pipe(self):
        """Messages that go through shared memory arrive, too."""
        one, other = connection.Pipe()
        with one, other:
            stream, large = ObjectStream(other), b"x" * (1 << 20)
            one.send(large)
            assert stream.recv() == large
            stream.send(large)
            assert one.recv() == large

    def test_what_cannot_be_unpickled_is_followed_by_the_next(self, pair):
        peer, conn = pair
        bad = b"\x80\x04" + b"x" * 5000
        peer.sendall(struct.pack("!i", len(bad)) + bad + framed(1) + framed(2))
        stream = ObjectStream(conn)
        with pytest.raises(pickle.UnpicklingError):
            stream.recv()
        assert [stream.recv() for _ in range(2)] == [1, 2]

    def test_what_cannot_be_pickled_is_not_sent(self, pair):
        peer, conn = pair
        stream = ObjectStream(conn)
        with pytest.raises(TypeError, match="pickle"):
            stream.send(threading.Lock())
        assert not stream.is_due
        stream.send(1)
        assert peer.recv(100) == framed(1)


class Nested:
    def __reduce__(self):
        return receive, ()


def receive():
    return Nested.stream.recv()


class TestOnlyTheMessageIsRead:
    """Whatever else uses the descriptor finds what comes after the message."""

    @pytest.mark.parametrize("obj", [1, b"x" * (1 << 17)], ids=["short", "long"])
    def test_by_others(self, pair, obj):
        peer, conn = pair
        stream = ObjectStream(conn)
        thread = threading.Thread(target=peer.sendall, args=(framed(obj) + framed("next"),))
        thread.start()
        assert stream.recv() == obj
        assert conn.poll(LONG)
        assert connection.wait([conn]) == [conn]
        assert select.select([conn], [], [])[0] == [conn]
        assert conn.recv() == "next"
        assert not conn.poll()
        thread.join()

    def test_by_a_child(self, pair, ctx):
        peer, conn = pair
        stream = ObjectStream(conn)
        peer.sendall(framed("parent's") + framed("child's"))
        assert stream.recv() == "parent's"
        process = ctx.Process(target=answer, args=(conn,))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert peer.recv(100) == framed("child's")

    def test_descriptors(self, pair):
        peer, conn = pair
        stream = ObjectStream(conn)
        peer.sendall(framed("a descriptor follows"))
        with connection.Connection(os.dup(peer.fileno())) as other:
            reduction.send_handle(other, 0, os.getpid())
        assert stream.recv() == "a descriptor follows"
        received = reduction.recv_handle(conn)
        assert os.path.sameopenfile(0, received)
        os.close(received)


def answer(conn):
    conn.send(ObjectStream(conn).recv())


class TestErrors:
    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"\0\0", "end of file during message"),
            (b"\0\0\0\5abc", "end of file during message"),
            (struct.pack("!iQ", -1, 1 << 62) + b"abc", "end of file during message"),
            (struct.pack("!i", -2), "bad message length"),
            (struct.pack("!iQ", -1, 1 << 63), "bad message length"),
        ],
    )
    def test_bad_messages(self, pair, data, error):
        peer, conn = pair
        send_in_parts(peer, data, len(data))
        stream = ObjectStream(conn)
        with pytest.raises(OSError, match=error):
            stream.recv()
        assert not conn.readable
        with pytest.raises(OSError, match="write-only"):
            stream.recv()

    def test_of_the_kernel(self, pair):
        peer, conn = pair
        stream = ObjectStream(conn)
        peer.close()
        with pytest.raises(BrokenPipeError):
            stream.send(1)
        stream.close()
        assert conn.closed
        for call in (stream.recv, lambda: stream.send(1)):
            with pytest.raises(OSError, match="handle is closed"):
                call()

    def test_closed_while_another_thread_reads(self, pair):
        """The thread does not read what comes from another file of the same number."""
        _peer, conn = pair
        stream, caught = ObjectStream(conn), []

        def receive():
            try:
                stream.recv()
            except OSError as error:
                caught.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        until(lambda: is_asleep(thread))
        number = conn._descriptor
        writer, reader = socket.socketpair()
        with writer, reader:
            conn.close()
            os.dup2(reader.fileno(), number)
            writer.sendall(framed("for another"))
            thread.join(LONG)
            assert "handle is closed" in str(caught[0])
            assert os.read(number, 100) == framed("for another")
            os.close(number)

    @pytest.mark.parametrize("begun", [False, True])
    def test_of_a_signal_handler(self, pair, begun):
        class TimeIsUp(Exception):
            pass

        def handle(*_):
            raise TimeIsUp

        def interrupt():
            until(lambda: is_asleep(main) and not select.select([conn._descriptor], [], [], 0)[0])
            signal.pthread_kill(main.ident, signal.SIGUSR1)

        peer, conn = pair
        stream, main = ObjectStream(conn), threading.main_thread()
        data = framed("x" * 5000)
        if begun:
            peer.sendall(data[:10])
        before = signal.signal(signal.SIGUSR1, handle)
        thread = threading.Thread(target=interrupt)
        try:
            with pytest.raises(TimeIsUp):
                thread.start()
                stream.recv()
        finally:
            signal.signal(signal.SIGUSR1, before)
            thread.join()
        peer.sendall(data)
        if begun:
            with pytest.raises(OSError, match="write-only"):
                stream.recv()
        else:
            assert stream.recv() == "x" * 5000


class TestMemory:
    def test_without_any(self, run_program):
        """Memory is taken for what the message needs, and its lack is an error."""
        run = run_program(
            """if True:
            import os, resource, socket, struct
            from procession import connection
            from procession._procession import ObjectStream

            peer, other = socket.socketpair()
            if not os.fork():
                other.close()
                peer.sendall(struct.pack("!i", 90 << 20) + b"N." + bytes((90 << 20) - 2))
                peer.sendall(struct.pack("!iQ", -1, 1 << 40))
                try:
                    while True:
                        peer.sendall(bytes(1 << 20))
                except ConnectionError:
                    os._exit(0)
            peer.close()
            stream = ObjectStream(connection.Connection(other.detach()))
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            limit = used + (110 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            assert stream.recv() is None
            try:
                stream.recv()
            except MemoryError as error:
                print(error)
            stream.close()
            os.wait()
            """
        )
        assert run.stdout == f"no memory for a message of {1 << 40} bytes\n", run.stderr
        assert run.returncode == 0

    def test_kept_by_many(self, run_program):
        """Connections that received a large message keep no memory each."""
        run = run_program(
            """if True:
            import pickle, resource, socket, struct, threading
            from procession import connection
            from procession._procession import ObjectStream

            def resident():
                with open("/proc/self/statm") as file:
                    return int(file.read().split()[1]) * resource.getpagesize() >> 20

            data = struct.pack("!i", 4 << 20) + b"N." + bytes((4 << 20) - 2)
            kept, before = [], resident()
            for _ in range(30):
                peer, other = socket.socketpair()
                thread = threading.Thread(target=peer.sendall, args=(data,))
                thread.start()
                kept.append((peer, ObjectStream(connection.Connection(other.detach()))))
                assert kept[-1][1].recv() is None
                thread.join()
            print(resident() - before)
            """
        )
        assert int(run.stdout) < 20, run.stderr


class TestReplacedMethods:
    """A program may replace the methods of connections at any time."""

    def test_of_the_class(self, pair, monkeypatch):
        peer, conn = pair
        stream, seen = ObjectStream(conn), []
        send, receive = connection.Connection._send_bytes, connection.Connection._recv_bytes
        stream.send(0)
        peer.recv(100)
        monkeypatch.setattr(
            connection.Connection, "_send_bytes", lambda *args: (seen.append("send"), send(*args))
        )
        monkeypatch.setattr(
            connection.Connection,
            "_recv_bytes",
            lambda *args: (seen.append("recv"), receive(*args))[1],
        )
        with pytest.raises(TypeError, match="pickle"):
            stream.send(threading.Lock())
        peer.sendall(framed("x" * 5000) + struct.pack("!i", 1) + b"x")
        assert stream.is_due
        assert stream.recv() == "x" * 5000
        assert not stream.is_due
        stream.send(1)
        assert stream.is_due
        assert peer.recv(100) == framed(1)
        with pytest.raises(pickle.UnpicklingError):
            stream.recv()
        assert not stream.is_due
        assert seen == ["recv", "send", "recv"]

    def test_of_the_pickler(self, pair, monkeypatch):
        peer, conn = pair
        stream = ObjectStream(conn)
        monkeypatch.setattr(
            reduction.ForkingPickler, "dumps", staticmethod(lambda obj, protocol=None: b"replaced")
        )
        stream.send(1)
        assert peer.recv(100) == struct.pack("!i", 8) + b"replaced"


class TestAServer:
    @pytest.fixture(params=["pickle", "xmlrpclib"])
    def client(self, request):
        """A connection to a manager's server that serves its calls."""
        with managers.BaseManager(
            ("127.0.0.1", 0), KEY, request.param, ctx=procession.get_context("fork")
        ) as manager:
            client = managers.listener_client[request.param][1]
            conn = client(manager.address, authkey=KEY)
            conn.send((None, "accept_connection", ("client",), {}))
            assert conn.recv()[0] == "#RETURN"
            yield conn

    @pytest.mark.parametrize(
        "data", [struct.pack("!i", -5), struct.pack("!i", 100) + b"abc"], ids=["bad", "cut"]
    )
    def test_answers_once_to_a_message_without_an_end(self, client, data):
        os.write(client.fileno(), data)
        with socket.socket(fileno=os.dup(client.fileno())) as half:
            half.shutdown(socket.SHUT_WR)
        kind, text = client.recv()
        assert kind == "#TRACEBACK"
        assert "message" in text
        with pytest.raises((EOFError, ConnectionError)):
            client.recv()

    def test_leaves_what_follows_a_request_to_its_function(self):
        class Server(managers.Server):
            public = [*managers.Server.public, "sum_up"]

            def sum_up(self, conn, count):
                return sum(conn.recv() for _ in range(count))

        class Manager(managers.BaseManager):
            _Server = Server

        with Manager(("127.0.0.1", 0), KEY, ctx=procession.get_context("fork")) as manager:
            conn = connection.Client(manager.address, authkey=KEY)
            conn.send((None, "accept_connection", ("client",), {}))
            conn.recv()
            data = pickle.dumps((None, "sum_up", (3,), {}))
            numbers = b"".join(map(framed, [1, 2, 3]))
            os.write(conn.fileno(), struct.pack("!i", len(data)) + data + numbers)
            assert conn.recv() == ("#RETURN", 6)
            conn.close()
