"""Connections: messages, their ends and limits, `wait`, and the addresses of listeners.

The proof of the key is tested in test_handshake.py.
"""

import array
import gc
import os
import socket
import struct
import sys
import threading

import pytest

from procession import connection
from procession.context import BufferTooShort

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


@pytest.mark.parametrize("function", ["close", "_close"])
def test_an_interrupt_as_close_begins_leaves_the_descriptor_to_be_closed(function):
    def interrupt(frame, event, arg):
        if frame.f_code.co_name == function:
            sys.settrace(None)
            raise KeyboardInterrupt

    reader, writer = connection.Pipe(duplex=False)
    with reader, writer:
        sys.settrace(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                writer.close()
        finally:
            sys.settrace(None)
        assert not writer.closed
        os.fstat(writer.fileno())
        writer.close()
        assert writer.closed
        with pytest.raises(EOFError):
            reader.recv()
