"""Connections, listeners, the handshake."""

import array
import gc
import os
import socket
import struct
import threading

import pytest

from procession import connection
from procession._connections import listening
from procession.context import AuthenticationError, BufferTooShort

KEY = b"peekaboo"


@pytest.fixture(params=["duplex", "simplex", "tcp", "unix"])
def joined(request):
    """Two connections, reading end first."""
    if request.param in ("duplex", "simplex"):
        pair = connection.Pipe(request.param == "duplex")
        yield pair
    else:
        family = {"tcp": "AF_INET", "unix": "AF_UNIX"}[request.param]
        with connection.Listener(family=family) as listener:
            client = connection.Client(listener.address)
            pair = listener.accept(), client
            yield pair
    for one in pair:
        one.close()


class TestMessages:
    def test_objects_and_bytes_keep_their_order(self, joined):
        reader, writer = joined
        writer.send({"a": [1, 2, None]})
        writer.send_bytes(b"")
        writer.send_bytes(b"0123456789", 2)
        writer.send_bytes(b"0123456789", 2, 3)
        writer.send_bytes(array.array("i", [1, 2, 3]), 4)
        assert reader.recv() == {"a": [1, 2, None]}
        assert reader.recv_bytes() == b""
        assert reader.recv_bytes() == b"23456789"
        assert reader.recv_bytes(3) == b"234"
        assert array.array("i", reader.recv_bytes()) == array.array("i", [2, 3])

    @pytest.mark.parametrize("size", [16384, 16385, 65536, 65537, 1 << 20, 100_000_000])
    def test_large_messages_arrive_whole(self, joined, size):
        reader, writer = joined
        payload = os.urandom(1 << 16) * (size >> 16) + os.urandom(size & 0xFFFF)
        sender = threading.Thread(target=writer.send_bytes, args=(payload,))
        sender.start()
        assert reader.recv_bytes() == payload
        sender.join()

    def test_framing_is_a_big_endian_length(self):
        reader, writer = connection.Pipe()
        writer.send_bytes(b"abc")
        assert os.read(reader.fileno(), 100) == b"\0\0\0\3abc"
        os.write(reader.fileno(), struct.pack("!iQ", -1, 2) + b"xy")
        assert writer.recv_bytes() == b"xy"

    def test_recv_bytes_into(self, joined):
        reader, writer = joined
        target = array.array("i", [0] * 5)
        writer.send_bytes(array.array("i", [7, 8]))
        assert reader.recv_bytes_into(target, 8) == 8
        assert list(target) == [0, 0, 7, 8, 0]
        writer.send_bytes(b"x" * 30)
        with pytest.raises(BufferTooShort) as caught:
            reader.recv_bytes_into(target)
        assert caught.value.args == (b"x" * 30,)
        writer.send_bytes(b"")
        assert reader.recv_bytes_into(bytearray()) == 0
        with pytest.raises(ValueError, match="negative offset"):
            reader.recv_bytes_into(target, -1)
        with pytest.raises(ValueError, match="offset too large"):
            reader.recv_bytes_into(target, 21)

    def test_wrong_slices_are_refused(self):
        _, writer = connection.Pipe(False)
        for arguments, text in [
            ((-1,), "offset is negative"),
            ((5,), "buffer length < offset"),
            ((0, -1), "size is negative"),
            ((1, 4), r"buffer length < offset \+ size"),
        ]:
            with pytest.raises(ValueError, match=text):
                writer.send_bytes(b"1234", *arguments)

    def test_end_of_file(self, joined):
        reader, writer = joined
        writer.send(1)
        writer.close()
        assert reader.poll(None)
        assert reader.recv() == 1
        assert reader.poll(None)
        with pytest.raises(EOFError):
            reader.recv()

    def test_half_a_message_is_an_error_not_an_end(self):
        reader, writer = connection.Pipe()
        os.write(writer.fileno(), struct.pack("!i", 10) + b"12345")
        writer.close()
        with pytest.raises(OSError, match="got end of file during message"):
            reader.recv_bytes()

    def test_a_length_without_a_message_is_an_error(self):
        reader, writer = connection.Pipe()
        os.write(writer.fileno(), struct.pack("!i", 10))
        writer.close()
        with pytest.raises(OSError, match="got end of file during message"):
            reader.recv_bytes()

    def test_too_long_and_nonsensical_lengths(self):
        reader, writer = connection.Pipe()
        writer.send_bytes(b"12345")
        with pytest.raises(OSError, match="bad message length"):
            reader.recv_bytes(4)
        assert not reader.readable and not reader.closed
        with pytest.raises(OSError, match="write-only"):
            reader.recv_bytes()
        os.write(reader.fileno(), struct.pack("!i", -5))
        with pytest.raises(OSError, match="bad message length"):
            writer.recv_bytes()

    def test_an_announced_length_takes_no_memory(self):
        reader, writer = connection.Pipe()
        os.write(writer.fileno(), struct.pack("!iQ", -1, 1 << 62) + b"x" * 1000)
        writer.close()
        with pytest.raises(OSError, match="got end of file during message"):
            reader.recv_bytes()

    def test_directions(self):
        reader, writer = connection.Pipe(duplex=False)
        assert (reader.readable, reader.writable, writer.readable, writer.writable) == (
            True,
            False,
            False,
            True,
        )
        with pytest.raises(OSError, match="connection is read-only"):
            reader.send(1)
        with pytest.raises(OSError, match="connection is write-only"):
            writer.recv()
        with pytest.raises(OSError, match="connection is write-only"):
            writer.poll()

    def test_closed(self):
        reader, writer = connection.Pipe()
        with reader:
            descriptor = reader.fileno()
        reader.close()
        assert reader.closed
        with pytest.raises(OSError, match="handle is closed"):
            reader.fileno()
        with pytest.raises(OSError):
            os.fstat(descriptor)
        with pytest.raises(BrokenPipeError):
            writer.send(1)

    def test_a_collected_connection_is_closed_once(self):
        """In a cycle its own finalizer may close it first, and then its owner's finalizer again."""
        keep = []

        class Owner:
            def __init__(self, conn):
                self.conn = conn
                conn.owner = self

            def __del__(self):
                keep.append(self.conn)

        for conn in connection.Pipe():
            Owner(conn)
        del conn
        gc.collect()
        assert [conn.closed for conn in keep] == [True, True]

    def test_wrong_handles(self):
        with pytest.raises(ValueError, match="invalid handle"):
            connection.Connection(-1)
        with pytest.raises(ValueError, match="at least one"):
            connection.Connection(0, False, False)
        with pytest.raises(AttributeError):
            connection.Connection("zero")


class TestWait:
    def test_only_the_ready_ones(self):
        pairs = [connection.Pipe(False) for _ in range(4)]
        readers = [reader for reader, _ in pairs]
        assert connection.wait(readers, 0) == []
        assert connection.wait(readers, -1) == []
        assert connection.wait(readers, 0.01) == []
        pairs[1][1].send(1)
        pairs[3][1].close()
        assert set(connection.wait(readers)) == {readers[1], readers[3]}

    def test_sockets_descriptors_and_connections_together(self):
        one, other = socket.socketpair()
        reader, writer = os.pipe()
        theirs, mine = connection.Pipe()
        with one, other, theirs, mine:
            one.send(b"x")
            os.write(writer, b"y")
            mine.send(1)
            assert set(connection.wait([other, reader, theirs, one], 5)) == {other, reader, theirs}
        os.close(reader)
        os.close(writer)

    def test_a_very_long_timeout(self):
        reader, writer = connection.Pipe()
        writer.send(1)
        assert reader.poll(1e12)

    def test_wrong_descriptor(self):
        with pytest.raises(ValueError):
            connection.wait([-1], 0)


class TestAddresses:
    def test_address_type(self):
        assert connection.address_type(("localhost", 1)) == "AF_INET"
        assert connection.address_type("/tmp/x") == "AF_UNIX"
        assert connection.address_type("\0abstract") == "AF_UNIX"
        assert connection.address_type(b"\0abstract") == "AF_UNIX"
        assert connection.address_type(r"\\.\pipe\x") == "AF_PIPE"
        with pytest.raises((TypeError, ValueError), match="unrecognized"):
            connection.address_type(1)

    def test_arbitrary_address(self):
        assert connection.arbitrary_address("AF_INET") == ("localhost", 0)
        assert connection.arbitrary_address("AF_UNIX") != connection.arbitrary_address("AF_UNIX")
        with pytest.raises(ValueError, match="unrecognized family"):
            connection.arbitrary_address("AF_FOO")

    def test_windows_pipes_are_refused(self):
        with pytest.raises(ValueError, match="Family AF_PIPE is not recognized"):
            connection.Listener(r"\\.\test")
        with pytest.raises(ValueError, match="Family AF_PIPE is not recognized"):
            connection.Client(r"\\.\test")

    def test_a_socket_file_goes_with_its_listener(self):
        with connection.Listener() as listener:
            assert os.path.exists(listener.address)
            address = listener.address
        assert not os.path.exists(address)
        with pytest.raises(OSError, match="listener is closed"):
            listener.accept()

    def test_abstract_address(self):
        name = f"\0procession-test-{os.getpid()}-{os.urandom(4).hex()}"
        with connection.Listener(name, authkey=KEY) as listener, Accepted(listener) as accepted:
            connection.Client(name, authkey=KEY).send("hello")
            assert accepted.next().recv() == "hello"

    def test_an_address_in_use(self):
        with connection.Listener(family="AF_UNIX") as listener, pytest.raises(OSError):
            connection.Listener(listener.address)

    def test_keys_are_bytes(self):
        with pytest.raises(TypeError, match="byte string"):
            connection.Listener(authkey="text")
        with pytest.raises(TypeError, match="byte string"):
            connection.Client(("localhost", 1), authkey="text")
        with pytest.raises(ValueError, match="must be bytes"):
            connection.deliver_challenge(None, "text")
        with pytest.raises(ValueError, match="must be bytes"):
            connection.answer_challenge(None, "text")


class Accepted:
    """Collect the results of a listener's accept() in a thread, in `into`'s list if given."""

    def __init__(self, listener, into=None):
        self.listener = listener
        self.results = into.results if into else []
        self.arrived = into.arrived if into else threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while True:
            try:
                result = self.listener.accept()
            except Exception as error:
                result = error
            with self.arrived:
                self.results.append(result)
                self.arrived.notify_all()
            if isinstance(result, OSError) and str(result) == "listener is closed":
                return

    def next(self, timeout=30):
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.results, timeout)
            return self.results.pop(0)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        """Wake the thread, which waits in accept().

        Closing does not wake it, a peer does (maybe in another thread).
        """
        address = self.listener.address
        real, self.listener._listener = self.listener._listener, None
        while self.thread.is_alive():
            connection.SocketClient(address).close()
            self.thread.join(0.1)
        self.listener._listener = real


class TestHandshake:
    @pytest.mark.parametrize("family", ["AF_INET", "AF_UNIX"])
    def test_right_and_wrong_key(self, family):
        with (
            connection.Listener(family=family, authkey=KEY) as listener,
            Accepted(listener) as accepted,
        ):
            with pytest.raises(AuthenticationError, match="digest sent was rejected"):
                connection.Client(listener.address, authkey=b"wrong")
            error = accepted.next()
            assert isinstance(error, AuthenticationError)
            assert "digest received was wrong" in str(error)
            client = connection.Client(listener.address, authkey=KEY)
            client.send("in")
            assert accepted.next().recv() == "in"

    def test_silent_and_slow_peers_keep_nobody_waiting(self):
        with (
            connection.Listener(family="AF_INET", authkey=KEY, backlog=16) as listener,
            Accepted(listener) as accepted,
        ):
            silent = [socket.create_connection(listener.address) for _ in range(5)]
            slow = socket.create_connection(listener.address)
            slow.send(b"\0\0")
            for _ in range(3):
                connection.Client(listener.address, authkey=KEY).send("in")
                assert accepted.next().recv() == "in"
            for peer in (*silent, slow):
                peer.close()
            assert {type(accepted.next()) for _ in range(6)} <= {EOFError, ConnectionResetError}

    def test_a_silent_peer_is_refused_in_the_end(self, monkeypatch):
        monkeypatch.setattr(listening, "CONNECTION_TIMEOUT", 0.05)
        with (
            connection.Listener(family="AF_INET", authkey=KEY) as listener,
            socket.create_connection(listener.address) as silent,
        ):
            with pytest.raises(AuthenticationError, match="did not finish its handshake"):
                listener.accept()
            silent.settimeout(30)
            while silent.recv(4096):
                pass

    def test_many_silent_peers_make_room(self):
        with (
            connection.Listener(family="AF_UNIX", authkey=KEY, backlog=4) as listener,
            Accepted(listener) as accepted,
        ):
            silent = []
            for _ in range(connection.Listener._MOST_PENDING + 20):
                peer = socket.socket(socket.AF_UNIX)
                peer.connect(listener.address)
                silent.append(peer)
            connection.Client(listener.address, authkey=KEY).send("in")
            assert accepted.next().recv() == "in"
            for peer in silent:
                peer.close()

    @pytest.mark.parametrize(
        "garbage",
        [
            struct.pack("!i", 257) + b"x" * 257,
            struct.pack("!iQ", -1, 1 << 60),
            struct.pack("!i", -7),
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack("!i", 0),
            struct.pack("!i", 10) + b"{sha256}xx",
            struct.pack("!i", 16) + b"x" * 16,
            struct.pack("!i", 40) + b"{sha256}" + b"y" * 32,
            struct.pack("!i", 40) + b"{crc32}z" + b"y" * 32,
        ],
    )
    def test_garbage_is_refused_at_once(self, garbage):
        with (
            connection.Listener(family="AF_INET", authkey=KEY) as listener,
            Accepted(listener) as accepted,
        ):
            with socket.create_connection(listener.address) as peer:
                peer.send(garbage)
                error = accepted.next()
                assert isinstance(error, (AuthenticationError, OSError)), error
                peer.settimeout(30)
                try:
                    while peer.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
            connection.Client(listener.address, authkey=KEY).send("in")
            assert accepted.next().recv() == "in"

    def test_nothing_is_unpickled_before_the_key_is_proved(self, tmp_path):
        import pickle

        witness = tmp_path / "witness"

        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(witness),)

        with (
            connection.Listener(family="AF_UNIX", authkey=KEY) as listener,
            Accepted(listener) as accepted,
        ):
            bomb = pickle.dumps(Bomb())
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(listener.address)
                peer.send(struct.pack("!i", len(bomb)) + bomb)
                assert isinstance(accepted.next(), AuthenticationError)
        assert not witness.exists()

    def test_two_threads_accept_from_one_listener(self):
        with (
            connection.Listener(family="AF_UNIX", authkey=KEY, backlog=16) as listener,
            Accepted(listener) as accepted,
            Accepted(listener, into=accepted),
        ):
            clients = [connection.Client(listener.address, authkey=KEY) for _ in range(20)]
            for client in clients:
                client.send("in")
            assert [accepted.next().recv() for _ in clients] == ["in"] * 20

    @pytest.mark.parametrize(
        "challenge",
        [
            b"is-twenty-bytes-long",
            b"{md5}" + b"a" * 40,
            b"{sha256}" + b"a" * 40,
            b"{sha3_384}" + b"a" * 40,
        ],
    )
    def test_responses(self, challenge):
        response = connection._create_response(KEY, challenge)
        connection._verify_challenge(KEY, challenge, response)
        with pytest.raises(AuthenticationError):
            connection._verify_challenge(b"other", challenge, response)
        with pytest.raises(AuthenticationError):
            connection._verify_challenge(KEY, challenge + b".", response)

    def test_scripted_peers(self):
        class Peer:
            def __init__(self, *messages):
                self.messages = list(messages)
                self.sent = []

            def recv_bytes(self, size):
                return self.messages.pop(0)

            def send_bytes(self, data):
                self.sent.append(data)

        bogus = Peer(b"something bogus")
        with pytest.raises(AuthenticationError):
            connection.deliver_challenge(bogus, KEY)
        assert bogus.sent[-1] == b"#FAILURE#"
        for messages in [(b"bogus",), (b"#CHALLENGE#",), (b"#CHALLENGE#" + b"1" * 20, b"bogus")]:
            with pytest.raises(AuthenticationError):
                connection.answer_challenge(Peer(*messages), KEY)


def test_xml_connections():
    with (
        connection.XmlListener(family="AF_UNIX", authkey=KEY) as listener,
        Accepted(listener) as accepted,
    ):
        client = connection.XmlClient(listener.address, authkey=KEY)
        client.send([1, "two", 3.5])
        server = accepted.next()
        assert server.recv() == [1, "two", 3.5]
        server.send({"a": True})
        assert client.recv() == {"a": True}
