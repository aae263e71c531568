"""Listeners and clients that prove to each other that they know the key.

Peers with a wrong key, silent ones and ones that send anything else are refused, and hold up
no other.
"""

import os
import socket
import struct
import threading

import pytest

from procession import connection
from procession._connections import listening
from procession.context import AuthenticationError

KEY = b"peekaboo"


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


def test_an_abstract_address():
    name = f"\0procession-test-{os.getpid()}-{os.urandom(4).hex()}"
    with connection.Listener(name, authkey=KEY) as listener, Accepted(listener) as accepted:
        connection.Client(name, authkey=KEY).send("hello")
        assert accepted.next().recv() == "hello"


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
