"""Pipes whose messages go through shared memory, beside a descriptor that shows what it always did.

What a pipe does whatever carries its messages is tested in test_connection.py.
"""

import asyncio
import os
import pickle
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

BELL = b"\xff\xff\xff\xfe"


@pytest.fixture(params=["duplex", "simplex"])
def duplex(request):
    return request.param == "duplex"


@pytest.fixture
def pair(duplex):
    """A pipe: the reading end first."""
    reader, writer = connection.Pipe(duplex)
    yield reader, writer
    reader.close()
    writer.close()


def is_readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


def echo(conn, other):
    other.close()
    while (message := conn.recv()) is not None:
        conn.send(message)
        del message  # it may be an end of a pipe


@pytest.fixture
def partner(ctx):
    """The end of a pipe whose other end echoes in a child."""
    mine, theirs = ctx.Pipe()
    # Only a child of fork has both ends.
    other = mine if ctx.get_start_method() == "fork" else ctx.Pipe()[0]
    child = ctx.Process(target=echo, args=(theirs, other))
    child.start()
    theirs.close()
    yield mine
    if not mine.closed:
        mine.send(None)
        mine.close()
    child.join()
    assert child.exitcode == 0


class TestDescriptor:
    """What code that looks at the descriptor sees."""

    def test_it_is_readable_while_there_are_messages(self, pair):
        reader, writer = pair
        writer.send(1)
        writer.send(2)
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        assert poller.poll(0)
        assert reader.recv() == 1
        assert poller.poll(0)
        assert reader.recv() == 2
        assert not poller.poll(0)
        writer.send(3)
        assert poller.poll(0)
        assert reader.recv() == 3
        assert not poller.poll(0)

    @pytest.mark.parametrize("looked", [0, 1, 2, 3])
    def test_bytes_are_those_of_the_framing(self, pair, looked):
        """The descriptor is requested before each of three messages, and after the last."""
        reader, writer = pair
        for number in range(3):
            if number == looked:
                reader.fileno()
            writer.send_bytes(b"ab%d" % number)
        wanted = b"".join(b"\0\0\0\3ab%d" % number for number in range(3))
        assert os.read(reader.fileno(), 100) == wanted
        assert not is_readable(reader.fileno())

    @pytest.mark.parametrize("end", ["reader", "writer"])
    def test_order_is_kept_when_the_lane_is_left(self, pair, end):
        reader, writer = pair
        for number in range(10):
            writer.send(number)
            if number == 4:
                (reader if end == "reader" else writer).fileno()
        assert [reader.recv() for _ in range(10)] == list(range(10))
        assert not reader.poll()
        assert not is_readable(reader.fileno())

    def test_messages_too_large_to_move_stay_in_the_lane(self, pair):
        reader, writer = pair
        for letter in b"abc":
            writer.send_bytes(bytes([letter]) * 30_000)
        assert is_readable(reader.fileno())
        assert [reader.recv_bytes()[:1] for _ in range(3)] == [b"a", b"b", b"c"]
        assert not is_readable(reader.fileno())

    def test_what_polls_left_behind_is_gone_when_the_descriptor_is_requested(self, pair):
        reader, writer = pair
        for number in range(5):
            writer.send(number)
            assert reader.poll(None)
            assert reader.recv() == number
        assert not is_readable(reader.fileno())

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

    def test_messages_sent_before_it_is_registered(self, partner):
        partner.send("early")
        assert partner.poll(20)
        with selectors.DefaultSelector() as selector:
            selector.register(partner, selectors.EVENT_READ)
            assert selector.select(20)
            assert partner.recv() == "early"
            assert not selector.select(0)

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
        theirs.close()

    def test_a_replaced_method_is_called(self, pair):
        reader, writer = pair
        sent = []
        plain = writer._send_bytes

        def spy(buf):
            sent.append(bytes(buf))
            plain(buf)

        writer.send(1)
        writer._send_bytes = spy
        writer.send(2)
        assert [reader.recv(), reader.recv()] == [1, 2]
        assert [pickle.loads(one) for one in sent] == [2]


class TestEnds:
    def test_what_was_sent_is_received_before_the_end(self, pair):
        reader, writer = pair
        for number in range(3):
            writer.send(number)
        writer.close()
        assert [reader.recv() for _ in range(3)] == [0, 1, 2]
        assert reader.poll()
        with pytest.raises(EOFError):
            reader.recv()

    def test_no_reader_is_left(self, pair):
        reader, writer = pair
        writer.send(1)
        reader.close()
        with pytest.raises(BrokenPipeError):
            writer.send(2)
        with pytest.raises(BrokenPipeError):
            writer.send(3)

    def test_a_sender_that_waits_for_room_learns_of_it(self, pair):
        reader, writer = pair
        threading.Timer(0.1, reader.close).start()
        with pytest.raises(BrokenPipeError):
            while True:
                writer.send(b"x" * 10_000)

    def test_a_killed_sender(self, ctx, duplex):
        reader, writer = ctx.Pipe(duplex)
        sent = ctx.Event()
        child = ctx.Process(target=send_and_sleep, args=(writer, sent))
        child.start()
        writer.close()
        sent.wait()
        child.kill()
        assert [reader.recv(), reader.recv()] == [0, 1]
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
        assert [reader.recv(), reader.recv()] == [0, 1]
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
        child = ctx.Process(target=receive_one_and_sleep, args=(reader, theirs))
        child.start()
        reader.close()
        writer.send(1)
        assert mine.recv() == 1
        child.kill()
        child.join()
        with pytest.raises(BrokenPipeError):
            while True:
                writer.send(b"x" * 10_000)
        writer.close()


def send_and_sleep(writer, sent):
    writer.send(0)
    writer.send(1)
    sent.set()
    signal.pause()


def receive_one_and_sleep(reader, report):
    report.send(reader.recv())
    signal.pause()


class TestProcesses:
    def test_round_trips(self, partner):
        for number in range(200):
            partner.send(number)
            assert partner.recv() == number

    def test_large_messages_both_ways(self, partner):
        numpy = pytest.importorskip("numpy")
        array = numpy.arange(300_000.0)
        for _ in range(5):
            partner.send(array)
            got = partner.recv()
            assert (got == array).all()
            got[0] = 1  # it is the receiver's own

    def test_pipes_sent_through_pipes(self, partner):
        reader, writer = procession.Pipe(duplex=False)
        partner.send(writer)
        returned = partner.recv()
        writer.close()
        returned.send("there and back")
        returned.close()
        assert reader.recv() == "there and back"
        with pytest.raises(EOFError):
            reader.recv()
        reader.close()

    def test_a_pickle_for_anyone_uses_the_descriptor(self, pair):
        reader, writer = pair
        writer.send("before")
        copy = pickle.loads(reduction.ForkingPickler.dumps(reader))
        writer.send("after")
        assert [copy.recv(), reader.recv()] == ["before", "after"]
        copy.close()

    def test_several_readers_and_writers(self, ctx):
        count = 300
        reader, writer = ctx.Pipe(duplex=False)
        results, lock = ctx.SimpleQueue(), ctx.Lock()
        writers = [ctx.Process(target=send_numbers, args=(writer, lock, count)) for _ in range(3)]
        reading = ctx.Lock()
        readers = [
            ctx.Process(target=sum_numbers, args=(reader, reading, results)) for _ in range(2)
        ]
        for child in writers + readers:
            child.start()
        for child in writers:
            child.join()
        for _ in readers:
            writer.send(None)
        for child in readers:
            child.join()
        assert results.get() + results.get() == 3 * sum(range(count))
        reader.close()
        writer.close()

    def test_waiting_for_several(self, ctx):
        pipes = [ctx.Pipe(duplex=False) for _ in range(5)]
        children = [ctx.Process(target=send_numbers, args=(w, ctx.Lock(), 50)) for _, w in pipes]
        for child in children:
            child.start()
        for _, writer in pipes:
            writer.close()
        left, total = [reader for reader, _ in pipes], 0
        while left:
            for reader in wait(left):
                try:
                    total += reader.recv()
                except EOFError:
                    left.remove(reader)
        assert total == 5 * sum(range(50))
        for child in children:
            child.join()

    def test_a_fork_in_the_middle(self, duplex):
        reader, writer = procession.Pipe(duplex)
        writer.send(1)
        child = os.fork()
        if child == 0:
            try:
                writer.send(reader.recv() + 1)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        writer.send(3)
        assert [reader.recv(), reader.recv()] == [2, 3]
        reader.close()
        writer.close()


def send_numbers(writer, lock, count):
    for number in range(count):
        with lock:
            writer.send(number)


def sum_numbers(reader, lock, results):
    total = 0
    while True:
        with lock:
            number = reader.recv()
        if number is None:
            break
        total += number
    results.put(total)


class TestSignals:
    @pytest.mark.parametrize("after", [0.0, 0.2])
    def test_a_waiting_receiver(self, pair, after):
        reader, _writer = pair
        with pytest.raises(ZeroDivisionError), alarm_soon(after):
            reader.recv()

    def test_a_sender_that_waits_for_room(self, pair):
        _reader, writer = pair
        with pytest.raises(ZeroDivisionError), alarm_soon(0.2):
            while True:
                writer.send(b"x" * 10_000)

    def test_a_handler_that_returns_does_not_end_the_wait(self, pair):
        reader, writer = pair
        before = signal.signal(signal.SIGALRM, lambda *_: writer.send("from the handler"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert reader.recv() == "from the handler"
        finally:
            signal.signal(signal.SIGALRM, before)


class alarm_soon:
    """Raise ZeroDivisionError in the main thread after a while."""

    def __init__(self, seconds):
        self.seconds = max(seconds, 0.001)

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *error):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class TestMessages:
    def test_an_array_is_a_whole_pickle_for_recv_bytes(self, pair):
        numpy = pytest.importorskip("numpy")
        reader, writer = pair
        array = numpy.arange(10_000)
        writer.send(array)
        assert (pickle.loads(reader.recv_bytes()) == array).all()

    def test_bytes_that_are_a_pickle(self, pair):
        reader, writer = pair
        writer.send_bytes(pickle.dumps([1, 2]))
        assert reader.recv() == [1, 2]

    def test_maxlength(self, pair):
        reader, writer = pair
        writer.send_bytes(b"12345")
        with pytest.raises(OSError, match="bad message length"):
            reader.recv_bytes(4)
        with pytest.raises(OSError, match=r"handle is closed|write-only"):
            reader.recv_bytes()

    def test_buffers_of_other_kinds(self, pair):
        reader, writer = pair
        writer.send_bytes(bytearray(b"abc"))
        writer.send_bytes(memoryview(b"abc"))
        with pytest.raises(TypeError):
            writer.send_bytes(memoryview(b"abcdef")[::2])
        assert [reader.recv_bytes(), reader.recv_bytes()] == [b"abc", b"abc"]

    def test_a_message_that_cannot_be_pickled(self, pair):
        reader, writer = pair
        with pytest.raises((TypeError, pickle.PicklingError)):
            writer.send(n for n in ())
        writer.send("fine")
        assert reader.recv() == "fine"


def test_round_trips_write_nothing_to_the_socket(ctx):
    """Between processes that do not wait long for each other, only memory carries messages."""
    mine, theirs = ctx.Pipe()
    other = mine if ctx.get_start_method() == "fork" else ctx.Pipe()[0]
    child = ctx.Process(target=echo, args=(theirs, other))
    child.start()
    theirs.close()
    for number in range(50):
        mine.send(number)
        assert mine.recv() == number
    mine.send(None)
    child.join()
    # What is unread in the socket is at most the bell of the first message, and what followed a wait
    # of more than ten milliseconds.
    unread = socket.socket(fileno=os.dup(mine._descriptor)).recv(10_000)
    assert unread == BELL * (len(unread) // 4)
    mine.close()
