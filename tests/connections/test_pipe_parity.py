"""Pipes where the standard library's behave in a way that programs may rely on, and what they cost."""

import copy
import importlib
import multiprocessing.connection
import multiprocessing.reduction
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time

import pytest

import procession
from procession import connection, reduction
from tests.connections.pipes import FRAME, alarm_soon, read_exactly, unread


class TestClosedMeanwhile:
    """The end of a pipe is closed while `send` runs, and another file gets the number."""

    @pytest.mark.parametrize("size", [10, 100_000, 1_000_000])
    def test_by_a_reducer(self, package, tmp_path, size):
        reader, writer = package.Pipe(duplex=False)
        path = tmp_path / "victim"
        opened = []

        class Closing:
            def __reduce__(self):
                writer.close()
                opened.append(os.open(path, os.O_RDWR | os.O_CREAT))
                return bytes, (b"x" * size,)

        with pytest.raises((TypeError, OSError)):
            writer.send(Closing())
        assert path.stat().st_size == 0
        os.close(*opened)
        reader.close()

    def test_by_a_signal_handler_while_send_waits(self, tmp_path):
        reader, writer = connection.Pipe(duplex=False)
        path = tmp_path / "victim"
        opened = []

        def close(*_):
            writer.close()
            opened.append(os.open(path, os.O_RDWR | os.O_CREAT))

        fill(writer)
        before = signal.signal(signal.SIGALRM, close)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(OSError, match="handle is closed"):
                writer.send_bytes(b"x" * 60_000)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert path.stat().st_size == 0
        os.close(*opened)
        reader.close()


def fill(writer):
    """Send messages of about a page until no more fit; return their number."""
    poller = select.poll()
    poller.register(getattr(writer, "_descriptor", None) or writer.fileno(), select.POLLOUT)
    count = 0
    while poller.poll(0):
        writer.send_bytes(b"q" * 4092)
        count += 1
    return count


class TestDescriptorGivenAwayLater:
    """Messages that fit into the descriptor are there for any later reader."""

    @pytest.mark.parametrize(
        ("duplex", "size"), [(True, 65_536), (True, 100_000), (True, 150_000), (False, 60_000)]
    )
    def test_bytes(self, package, duplex, size):
        reader, writer = package.Pipe(duplex)
        writer.send_bytes(b"x" * size)
        descriptor = reader.fileno()
        assert FRAME.unpack(read_exactly(descriptor, 4)) == (size,)
        assert read_exactly(descriptor, size) == b"x" * size
        reader.close()
        writer.close()

    @pytest.mark.parametrize("body", [b"k" * 100_000, "k" * 100_000, ["k" * 70_000]])
    def test_objects(self, package, body):
        reader, writer = package.Pipe()
        writer.send(body)
        stranger = multiprocessing.connection.Connection(os.dup(reader.fileno()))
        assert stranger.recv() == body
        for end in (reader, writer, stranger):
            end.close()

    def test_arrays(self, package):
        numpy = pytest.importorskip("numpy")
        reader, writer = package.Pipe()
        for body in (numpy.arange(10_000.0), {"a": numpy.arange(5_000.0)}):
            writer.send(body)
            size = len(pickle.dumps(body))
            descriptor = reader.fileno()
            (length,) = FRAME.unpack(read_exactly(descriptor, 4))
            assert length == pytest.approx(size, abs=100)
            assert repr(pickle.loads(read_exactly(descriptor, length))) == repr(body)
            reader.close()
            writer.close()
            reader, writer = package.Pipe()
        reader.close()
        writer.close()

    def test_a_handle_sent_to_another_process(self, package, both):
        mine, theirs = both.Pipe()
        child = both.Process(target=receive_by_handle, args=(package.__name__, theirs))
        child.start()
        reader, writer = both.Pipe()
        writer.send(b"k" * 100_000)
        package.reduction.send_handle(mine, reader.fileno(), child.pid)
        assert mine.recv() == 100_000
        child.join()
        for end in (mine, theirs, reader, writer):
            end.close()


def receive_by_handle(name, control):
    package = importlib.import_module(name)
    with package.connection.Connection(package.reduction.recv_handle(control)) as conn:
        control.send(len(conn.recv()))


class TestErrors:
    @pytest.mark.parametrize("method", ["recv", "recv_bytes"])
    def test_the_other_end_was_closed_with_messages_unread(self, package, method):
        one, other = package.Pipe()
        one.send("unread")
        other.close()
        with pytest.raises(ConnectionResetError):
            getattr(one, method)()
        one.close()


class TestCopies:
    """A copy, or a pickle by `pickle` itself, has the same descriptor."""

    @pytest.mark.parametrize("protocol", [None, 2, 3, 4, 5])
    def test_pickle(self, package, protocol):
        self.check(package, lambda conn: pickle.loads(pickle.dumps(conn, protocol)))

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_copy(self, package, copied):
        self.check(package, copied)

    def check(self, package, copied):
        reader, writer = package.Pipe(duplex=False)
        twin = copied(writer)
        assert (twin.fileno(), twin.readable, twin.writable) == (writer.fileno(), False, True)
        twin.send(b"x" * 100)
        writer.send(2)
        assert [reader.recv(), reader.recv()] == [b"x" * 100, 2]
        twin._handle = None
        assert twin.closed
        reader.close()
        writer.close()

    def test_attributes_are_copied(self):
        reader, writer = connection.Pipe()
        writer.label = "mine"
        twin = copy.copy(writer)
        assert twin.label == "mine"
        twin._handle = None
        reader.close()
        writer.close()


class Counted:
    """Counts how often it is reduced; has a buffer that pickle may leave out of the band."""

    calls = 0

    def __init__(self, size):
        self.buffer = bytearray(size)

    def __reduce_ex__(self, protocol):
        Counted.calls += 1
        buffer = pickle.PickleBuffer(self.buffer) if protocol >= 5 else bytes(self.buffer)
        return tuple, ((len(self.buffer), Counted.calls, buffer),)


class TestReducersRunOnce:
    @pytest.mark.parametrize("size", [1_000, 20_000, 100_000, 1_000_000])
    @pytest.mark.parametrize("duplex", [True, False])
    def test_without_a_receiver_that_spins(self, package, duplex, size):
        reader, writer = package.Pipe(duplex)
        Counted.calls = 0
        body = Counted(size)
        sender = threading.Thread(target=lambda: [writer.send(body) for _ in range(5)])
        sender.start()
        got = [reader.recv() for _ in range(5)]
        sender.join()
        assert Counted.calls == 5
        assert [one[:2] for one in got] == [(size, number) for number in range(1, 6)]
        assert all(bytes(one[2]) == bytes(size) for one in got)
        reader.close()
        writer.close()

    def test_in_round_trips(self, both):
        """The receiver spins whenever the machine lets it."""
        mine, theirs = both.Pipe()
        child = both.Process(target=answer, args=(theirs, 500))
        child.start()
        theirs.close()
        Counted.calls = 0
        for number in range(1, 501):
            mine.send(Counted(2_000))
            assert mine.recv() == number
        assert Counted.calls == 500
        child.join()
        mine.close()

    def test_a_reducer_requests_the_descriptor(self, partner):
        """The message goes through it, although it was pickled for a receiver that spins."""

        class Requesting(Counted):
            def __reduce_ex__(self, protocol):
                reduced = super().__reduce_ex__(protocol)
                partner.fileno()
                return reduced

        Counted.calls = 0
        partner.send(0)
        assert partner.recv() == 0
        partner.send(Requesting(5_000))
        size, calls, buffer = partner.recv()
        assert (size, calls, bytes(buffer)) == (5_000, 1, bytes(5_000))
        assert Counted.calls == 1


def answer(conn, count):
    for _ in range(count):
        conn.send(conn.recv()[1])


def test_a_pickle_with_its_buffers_for_any_program():
    body = [b"a" * 10, bytearray(b"b" * 20)]
    buffers = []
    outer = pickle.dumps(
        [pickle.PickleBuffer(bytearray(one)) for one in body],
        protocol=5,
        buffer_callback=buffers.append,
    )
    joined = connection.Connection.__init__.__globals__["_joined_pickle"](
        outer, [bytearray(one) for one in buffers]
    )
    assert pickle.loads(joined) == body
    assert b"procession" not in joined


class TestForks:
    @pytest.mark.parametrize("size", [60_000, 409_200])
    def test_a_signal_handler_forks_while_send_waits(self, package, alone, size):
        """The child leaves `send` by an exception; the parent's message arrives."""

        def body():
            reader, writer = package.Pipe(duplex=False)
            children = []

            def fork(*_):
                if (child := os.fork()) == 0:
                    raise SystemExit
                children.append(child)
                os.waitpid(child, 0)
                receiver.start()

            got = []
            count = fill(writer)
            receiver = threading.Thread(
                target=lambda: got.extend(len(reader.recv_bytes()) for _ in range(count + 2))
            )
            signal.signal(signal.SIGALRM, fork)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                writer.send_bytes(b"x" * size)
            except SystemExit:
                os._exit(0)
            writer.send_bytes(b"end")
            receiver.join()
            assert len(children) == 1
            assert got == [4092] * count + [size, 3]

        alone(body)


class TestLanesStay:
    def test_after_a_long_message_through_the_descriptor(self):
        """There is no room in memory for it; later ones lie in memory again."""
        reader, writer = connection.Pipe()
        for _ in range(16):
            writer.send_bytes(b"y" * (1 << 20))
        sender = threading.Thread(target=writer.send_bytes, args=(b"z" * (1 << 20),))
        sender.start()
        while len(unread(reader)) < 1_000:
            pass  # until it is on its way through the descriptor
        assert [len(reader.recv_bytes()) for _ in range(17)] == [1 << 20] * 17
        sender.join()
        writer.send_bytes(b"x" * 400_000)
        assert len(unread(reader)) == 4
        assert len(reader.recv_bytes()) == 400_000
        reader.close()
        writer.close()

    def test_large_messages_are_named(self, pair):
        reader, writer = pair
        for send, body in (
            (writer.send_bytes, b"x" * 400_000),
            (writer.send, b"x" * 400_000),
            (writer.send, {"a": {1, 2}, "b": b"x" * 400_000}),
            (writer.send, procession.Lock()),
        ):
            send(body)
            (header,) = struct.unpack("!i", os.read(reader._descriptor, 4))
            assert header < -1
            os.write(writer._descriptor, struct.pack("!i", header))
            received = reader.recv_bytes() if send == writer.send_bytes else reader.recv()
            assert type(received) is type(body)

    def test_an_object_lives_in_the_message(self):
        reader, writer = connection.Pipe()
        writer.send([procession.Lock()])
        (lock,) = reader.recv()
        assert lock.acquire(block=False)
        assert reduction.ForkingPickler.dumps(lock)
        reader.close()
        writer.close()


class TestOtherThreads:
    @pytest.mark.parametrize("during", ["send_bytes", "send", "recv_bytes", "recv"])
    def test_they_run_during_a_long_copy(self, during):
        """The interpreter's lock is released, which no thread asks for here."""
        reader, writer = connection.Pipe()
        ticks, stop = [], threading.Event()

        def tick():
            while not stop.is_set():
                ticks.append(1)
                time.sleep(0)

        def ticks_in(function, *args):
            before = len(ticks)
            function(*args)
            return len(ticks) - before

        ticker = threading.Thread(target=tick)
        interval = sys.getswitchinterval()
        body = bytes(30_000_000)
        ticker.start()
        try:
            sys.setswitchinterval(1000)
            counts = dict.fromkeys(("send_bytes", "send", "recv_bytes", "recv"), 0)
            with alarm_soon(20):
                while not counts[during]:
                    for kind in ("_bytes", ""):
                        counts["send" + kind] += ticks_in(getattr(writer, "send" + kind), body)
                        counts["recv" + kind] += ticks_in(getattr(reader, "recv" + kind))
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            ticker.join()
        reader.close()
        writer.close()


class TestArguments:
    @pytest.mark.parametrize("most", [2**70, 2**63, 3, 16_384, True + 2, None])
    def test_maxlength(self, package, most):
        reader, writer = package.Pipe(duplex=False)
        for _ in range(2):
            writer.send_bytes(b"abc")
            assert reader.recv_bytes(most) == b"abc"
        reader.close()
        writer.close()

    def test_maxlength_is_a_float(self, package):
        reader, writer = package.Pipe(duplex=False)
        writer.send_bytes(b"abc")
        assert reader.recv_bytes(1e6) == b"abc"
        with pytest.raises(ValueError, match="negative maxlength"):
            reader.recv_bytes(-1)
        reader.close()
        writer.close()

    def test_wait_for_an_end_with_an_attribute_leaves_the_pipe_as_it_is(self):
        reader, writer = connection.Pipe()
        reader.label = "mine"
        assert connection.wait([reader], 0) == []
        writer.send_bytes(b"x" * 400_000)
        assert len(unread(reader)) == 4
        assert connection.wait([reader]) == [reader]
        reader.close()
        writer.close()
