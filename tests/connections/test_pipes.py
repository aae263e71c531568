"""Pipes between processes of a family, whose messages may go through shared memory.

What a pipe does whatever carries its messages is tested in test_connection.py, too.
"""

import asyncio
import os
import pickle
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading

import pytest

import procession
from procession import connection, reduction
from procession.connection import wait
from tests.connections.pipes import FRAME, alarm_soon, read_exactly


def is_readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


class TestDescriptor:
    """What code that looks at the descriptor sees."""

    def test_it_is_readable_while_there_are_messages(self, pair):
        reader, writer = pair
        poller = select.poll()
        poller.register(reader._descriptor, select.POLLIN)
        for size in (1, 400_000):
            writer.send(b"x" * size)
            writer.send(2)
            assert poller.poll(0)
            assert reader.recv() == b"x" * size
            assert poller.poll(0)
            assert reader.recv() == 2
            assert not poller.poll(0)

    @pytest.mark.parametrize("asked", [0, 1, 2, 3])
    def test_bytes_are_those_of_the_framing(self, pair, asked):
        """The descriptor is requested before each of three messages, and after the last."""
        reader, writer = pair
        for number in range(3):
            if number == asked:
                reader.fileno()
            writer.send_bytes(b"ab%d" % number)
        wanted = b"".join(b"\0\0\0\3ab%d" % number for number in range(3))
        assert os.read(reader.fileno(), 100) == wanted
        assert not is_readable(reader.fileno())

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_all_messages_are_in_it_once_it_was_requested(self, pair, end):
        reader, writer = pair
        (reader if end == "reader" else writer).fileno()
        body = os.urandom(150_000)
        sender = threading.Thread(target=writer.send_bytes, args=(body,))
        sender.start()
        assert read_exactly(reader._descriptor, 4) == FRAME.pack(len(body))
        assert read_exactly(reader._descriptor, len(body)) == body
        sender.join()

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_order_is_kept_when_it_is_requested(self, pair, end):
        reader, writer = pair
        for number in range(10):
            writer.send((number, b"x" * (70_000 if number % 3 == 0 and number < 4 else 10)))
            if number == 4:
                (reader if end == "reader" else writer).fileno()
        assert [reader.recv()[0] for _ in range(10)] == list(range(10))
        assert not reader.poll()

    def test_selectors_in_the_middle(self, partner):
        partner.send("before")
        assert partner.recv() == "before"
        with selectors.DefaultSelector() as selector:
            selector.register(partner, selectors.EVENT_READ)
            for number in range(20):
                partner.send(number)
                assert selector.select(20)
                assert partner.recv() == number
            assert not selector.select(0)
        partner.send("after")
        assert partner.recv() == "after"

    def test_asyncio(self, partner):
        async def play():
            loop = asyncio.get_running_loop()
            got = asyncio.Queue()
            loop.add_reader(partner.fileno(), lambda: got.put_nowait(partner.recv()))
            for number in range(20):
                partner.send(number)
                assert await asyncio.wait_for(got.get(), 20) == number
            loop.remove_reader(partner.fileno())

        partner.send("first")
        assert partner.recv() == "first"
        asyncio.run(play())

    def test_a_program_of_another_family(self):
        text = """
import os, sys
fd = int(sys.argv[1])
from multiprocessing.connection import Connection
conn = Connection(fd)
while (message := conn.recv()) is not None:
    conn.send(message * 2)
"""
        mine, theirs = connection.Pipe()
        mine.send(1)  # before the descriptor is passed on
        with theirs:
            command = [sys.executable, "-c", text, str(theirs.fileno())]
            stranger = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        assert mine.recv() == 2
        mine.send("ab")
        assert mine.recv() == "abab"
        mine.send(b"x" * 300_000)
        assert mine.recv() == b"x" * 600_000
        mine.send(None)
        assert stranger.wait(20) == 0
        with pytest.raises(EOFError):
            mine.recv()
        mine.close()

    def test_handles_between_messages(self):
        mine, theirs = connection.Pipe()
        reader, writer = os.pipe()
        mine.send("before")
        assert theirs.recv() == "before"
        mine.send("a handle follows")
        reduction.send_handle(mine, writer, os.getpid())
        mine.send("after")
        assert theirs.recv() == "a handle follows"
        received = reduction.recv_handle(theirs)
        assert theirs.recv() == "after"
        os.write(received, b"x")
        assert os.read(reader, 1) == b"x"
        for fd in (reader, writer, received):
            os.close(fd)
        mine.close()

    def test_a_default_timeout_of_sockets_leaves_connections_as_they_are(self):
        mine, theirs = connection.Pipe()
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(0.01)
        try:
            reduction.send_handle(mine, 0, os.getpid())
            os.close(reduction.recv_handle(theirs))
        finally:
            socket.setdefaulttimeout(before)
        assert os.get_blocking(mine.fileno())
        assert os.get_blocking(theirs.fileno())
        mine.close()
        theirs.close()
        theirs.close()

    def test_a_pickle_for_anyone_makes_the_pipe_plain(self, pair):
        reader, writer = pair
        writer.send("before")
        copy = pickle.loads(reduction.ForkingPickler.dumps(reader))
        writer.send("after")
        assert [copy.recv(), reader.recv()] == ["before", "after"]
        sender = threading.Thread(target=writer.send, args=(b"x" * 300_000,))
        sender.start()
        assert copy.recv() == b"x" * 300_000
        sender.join()
        copy.close()

    def test_a_frame_that_names_no_message(self, pair):
        reader, writer = pair
        writer.send(b"x" * 400_000)
        (header,) = FRAME.unpack(os.read(reader._descriptor, 4))
        assert header < -1
        os.write(writer._descriptor, FRAME.pack(header - 1) + FRAME.pack(header))
        with pytest.raises(OSError, match="bad message length"):
            reader.recv()
        with pytest.raises(OSError, match=r"handle is closed|write-only"):
            reader.recv()


class TestOverrides:
    """Whatever a program replaces is called, and the pipe is plain."""

    def test_a_method_of_the_instance(self, pair):
        reader, writer = pair
        sent = []
        plain = writer._send_bytes

        def spy(buf):
            sent.append(bytes(buf))
            plain(buf)

        writer.send(1)
        writer._send_bytes = spy
        writer.send(2)
        writer.send_bytes(pickle.dumps(3))
        assert [reader.recv(), reader.recv(), reader.recv()] == [1, 2, 3]
        assert [pickle.loads(one) for one in sent] == [2, 3]
        del writer._send_bytes
        writer.send(4)
        assert reader.recv() == 4

    @pytest.mark.parametrize("name", ["_send", "_send_bytes", "_recv_bytes", "_check_writable"])
    def test_a_method_of_the_class(self, pair, monkeypatch, name):
        reader, writer = pair
        calls = []
        plain = getattr(connection.Connection, name)

        def spy(self, *args):
            calls.append(name)
            return plain(self, *args)

        writer.send("before")
        monkeypatch.setattr(connection.Connection, name, spy)
        writer.send("after")
        assert [reader.recv(), reader.recv()] == ["before", "after"]
        assert calls == ([name] * 2 if name == "_recv_bytes" else [name])
        monkeypatch.undo()
        writer.send("again")
        assert reader.recv() == "again"
        assert len(calls) <= 2

    def test_the_functions_of_the_pickler(self, pair, monkeypatch):
        reader, writer = pair
        pickler = reduction.ForkingPickler
        monkeypatch.setattr(pickler, "dumps", classmethod(lambda _, obj: pickle.dumps([obj])))
        writer.send("x")
        assert reader.recv() == ["x"]
        monkeypatch.undo()
        monkeypatch.setattr(pickler, "loads", lambda data: ("loaded", pickle.loads(data)))
        writer.send("y")
        assert reader.recv() == ("loaded", "y")
        monkeypatch.undo()
        writer.send("z")
        assert reader.recv() == "z"

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_a_subclass(self, duplex, size):
        class Counting(connection.Connection):
            sent = received = 0

            def _send_bytes(self, buf):
                self.sent += len(buf)
                super()._send_bytes(buf)

            def _recv_bytes(self, maxsize=None):
                data = super()._recv_bytes(maxsize)
                self.received += len(data)
                return data

        ends = connection.Pipe(duplex)
        reader, writer = (
            Counting(os.dup(end.fileno()), end.readable, end.writable) for end in ends
        )
        body = b"x" * size
        sender = threading.Thread(target=writer.send, args=(body,))
        sender.start()
        assert reader.recv() == body
        sender.join()
        assert reader.received == writer.sent > size
        for end in (*ends, reader, writer):
            end.close()

    def test_another_class_for_an_end(self, pair):
        class Shouting(connection.Connection):
            def _send_bytes(self, buf):
                super()._send_bytes(pickle.dumps("SHOUTED"))

        reader, writer = pair
        writer.send("said")
        writer.__class__ = Shouting
        writer.send("said")
        assert [reader.recv(), reader.recv()] == ["said", "SHOUTED"]

    def test_a_descriptor_of_another_file(self, pair):
        """What comes from another file does not name messages of the pipe."""
        reader, writer = pair
        writer.send(b"x" * 400_000)
        inner, outer = os.pipe()
        os.write(outer, os.read(reader._descriptor, 4))
        before, reader._handle = reader._handle, inner
        os.close(before)
        os.close(outer)
        with pytest.raises(OSError, match="bad message length"):
            reader.recv()


class TestEnds:
    def test_what_was_sent_is_received_before_the_end(self, pair):
        reader, writer = pair
        for number in range(3):
            writer.send([number, b"x" * 90_000 * (number % 2)])
        writer.close()
        assert [reader.recv()[0] for _ in range(3)] == [0, 1, 2]
        assert reader.poll()
        with pytest.raises(EOFError):
            reader.recv()

    @pytest.mark.parametrize("size", [10, 300_000])
    def test_no_reader_is_left(self, pair, size):
        reader, writer = pair
        writer.send(1)
        reader.close()
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                writer.send(b"x" * size)

    def test_a_sender_that_waits_for_room_learns_of_it(self, pair):
        reader, writer = pair
        timer = threading.Timer(0.1, reader.close)
        timer.start()
        with pytest.raises(BrokenPipeError):
            while True:
                writer.send(b"x" * 10_000)
        timer.join()

    def test_a_killed_sender(self, ctx, duplex):
        reader, writer = ctx.Pipe(duplex)
        sent = ctx.Event()
        child = ctx.Process(target=send_and_sleep, args=(writer, sent))
        child.start()
        writer.close()
        sent.wait()
        child.kill()
        assert [reader.recv(), len(reader.recv())] == [0, 100_000]
        with pytest.raises(EOFError):
            reader.recv()
        child.join()
        reader.close()

    @pytest.mark.parametrize("how", ["recv", "poll", "wait"])
    def test_a_sender_that_is_killed_while_the_receiver_waits(self, ctx, duplex, how):
        reader, writer = ctx.Pipe(duplex)
        child = ctx.Process(target=send_and_sleep, args=(writer, ctx.Event()))
        child.start()
        writer.close()
        assert [reader.recv(), len(reader.recv())] == [0, 100_000]
        timer = threading.Timer(0.2, os.kill, (child.pid, signal.SIGKILL))
        timer.start()
        if how == "poll":
            assert reader.poll(None)
        elif how == "wait":
            assert wait([reader]) == [reader]
        with pytest.raises(EOFError):
            reader.recv()
        child.join()
        timer.join()
        reader.close()

    def test_a_killed_receiver(self, ctx, duplex):
        reader, writer = ctx.Pipe(duplex)
        mine, theirs = ctx.Pipe()
        child = ctx.Process(target=receive_for_ever, args=(reader, theirs))
        child.start()
        reader.close()
        writer.send(1)
        assert mine.recv() == 1
        child.kill()
        child.join()
        # All know that it is dead: as at any pipe, the first message fails.
        with pytest.raises(BrokenPipeError):
            writer.send(2)
        writer.close()
        mine.close()


def send_and_sleep(writer, sent):
    writer.send(0)
    writer.send(b"x" * 100_000)
    sent.set()
    signal.pause()


def receive_for_ever(reader, report):
    while True:
        report.send(reader.recv())


class TestCapacity:
    """A pipe takes as much as the standard library's without a reader."""

    @pytest.mark.parametrize(
        "sizes",
        [[20] * 150 + [30_000], [1] * 200, [0] * 200, [16_384], [60_000], [9_000] * 6],
        ids=["small and large", "tiny", "empty", "joined", "one page less", "several"],
    )
    @pytest.mark.parametrize("duplex", [True, False])
    def test_bytes_without_a_reader(self, package, duplex, sizes):
        reader, writer = package.Pipe(duplex)
        with alarm_soon(20):
            for size in sizes:
                writer.send_bytes(b"x" * size)
        assert [len(reader.recv_bytes()) for _ in sizes] == sizes
        reader.close()
        writer.close()

    def test_large_messages_beyond_all_slots(self, pair):
        """Those for which there is no room in memory wait at the descriptor, like any other."""
        reader, writer = pair
        bodies = [bytes([number]) * 70_000 for number in range(100)]
        sender = threading.Thread(target=lambda: [writer.send_bytes(body) for body in bodies])
        sender.start()
        for body in bodies:
            assert reader.recv_bytes() == body
        sender.join()

    def test_memory_is_used_up(self, alone):
        def body():
            reader, writer = connection.Pipe()
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            message = b"x" * 3_000_000
            sender = threading.Thread(target=writer.send, args=(message,))
            sender.start()
            assert reader.recv() == message
            sender.join()
            one, other = connection.Pipe()
            one.send(1)
            assert other.recv() == 1

        alone(body)

    def test_no_descriptor_is_left(self, alone):
        """Nothing but `Pipe()` itself needs one."""

        def body():
            mine, theirs = procession.Pipe()
            reader, writer = os.pipe()
            limit = max(reader, writer) + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            with pytest.raises(OSError, match="Too many open files"):
                procession.Pipe()
            for size in (1, 400_000):
                mine.send([b"x" * size])
                assert theirs.poll()
                assert wait([theirs], 0) == [theirs]
                assert theirs.recv() == [b"x" * size]

        alone(body)
