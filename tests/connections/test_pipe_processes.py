"""Pipes with several processes and threads at their ends, signals, and forks in the middle."""

import itertools
import multiprocessing
import os
import pickle
import signal
import threading

import pytest

import procession
from procession.connection import wait
from tests.connections.pipes import FRAME, alarm_soon, read_exactly, unread


class TestProcesses:
    def test_round_trips(self, partner):
        for number in range(300):
            partner.send(number)
            assert partner.recv() == number
        # All that was sent was handed over or read.
        assert unread(partner) == b""

    def test_messages_of_all_kinds_both_ways(self, partner):
        lock = procession.Lock()
        for body in (
            1,
            "text",
            b"x" * 20_000,
            b"x" * 200_000,
            ["y" * 100_000] * 3,
            {1: bytearray(70_000)},
        ):
            partner.send(body)
            assert partner.recv() == body
        partner.send([lock, b"x" * 10])
        received, _ = partner.recv()
        with lock:
            assert not received.acquire(block=False)

    def test_large_arrays_both_ways(self, partner):
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
        returned.send(b"x" * 100_000)
        returned.close()
        assert reader.recv() == "there and back"
        assert len(reader.recv()) == 100_000
        with pytest.raises(EOFError):
            reader.recv()
        reader.close()

    def test_pipes_sent_through_queues_share_memory(self, ctx):
        queue = ctx.Queue()
        mine, theirs = ctx.Pipe()
        child = ctx.Process(target=echo_at_end_from, args=(queue,))
        child.start()
        queue.put(theirs)
        for size in (1, 100_000):
            mine.send(b"x" * size)
            assert mine.recv() == b"x" * size
        mine.send(None)
        child.join()
        theirs.close()
        mine.close()

    def test_several_senders_and_receivers(self, both):
        count = 200
        reader, writer = both.Pipe(duplex=False)
        results, sending, reading = both.SimpleQueue(), both.Lock(), both.Lock()
        senders = [
            both.Process(target=send_numbers, args=(writer, sending, n, count)) for n in range(3)
        ]
        readers = [both.Process(target=collect, args=(reader, reading, results)) for _ in range(2)]
        for child in senders + readers:
            child.start()
        for child in senders:
            child.join()
        for _ in readers:
            writer.send(None)
        got = [results.get() for _ in readers]
        for child in readers:
            child.join()
        assert sorted(got[0] + got[1]) == sorted(itertools.product(range(3), range(count)))
        for one, number in itertools.product(got, range(3)):
            own = [n for sender, n in one if sender == number]
            assert own == sorted(own)
        reader.close()
        writer.close()

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    @pytest.mark.parametrize("package", [multiprocessing, procession], ids=["standard", "ours"])
    def test_the_descriptor_is_requested_while_two_processes_send(self, package, method):
        """A third process requests it, and the rest is read as any program reads a pipe."""
        ctx = package.get_context(method)
        count = 2_000
        reader, writer = ctx.Pipe(duplex=False)
        sending, asking = ctx.Lock(), ctx.Event()
        senders = [
            ctx.Process(target=send_numbers, args=(writer, sending, n, count)) for n in range(2)
        ]
        asker = ctx.Process(target=ask_for_descriptor, args=(reader, asking))
        for child in (*senders, asker):
            child.start()
        writer.close()
        got = [reader.recv() for _ in range(500)]
        asking.set()
        asker.join()
        got += [reader.recv() for _ in range(500)]
        descriptor = reader.fileno()
        while head := read_exactly(descriptor, 4):
            got.append(pickle.loads(read_exactly(descriptor, *FRAME.unpack(head))))
        for number in range(2):
            assert [n for sender, n in got if sender == number] == list(range(count))
        for child in senders:
            child.join()
        reader.close()

    def test_waiting_for_several(self, ctx):
        pipes = [ctx.Pipe(duplex=False) for _ in range(5)]
        lock = ctx.Lock()
        children = [
            ctx.Process(target=send_numbers, args=(writer, lock, n, 50))
            for n, (_, writer) in enumerate(pipes)
        ]
        for child in children:
            child.start()
        for _, writer in pipes:
            writer.close()
        left, got = [reader for reader, _ in pipes], []
        while left:
            for reader in wait(left):
                try:
                    got.append(reader.recv())
                except EOFError:
                    left.remove(reader)
        assert sorted(got) == sorted(itertools.product(range(5), range(50)))
        for child in children:
            child.join()

    def test_polls_beside_receivers(self, partner):
        """A poller sees only what no receiver was handed."""
        stop, seen = threading.Event(), []

        def poll():
            while not stop.is_set():
                seen.append(partner.poll(0.001) or wait([partner], 0) != [])

        poller = threading.Thread(target=poll)
        poller.start()
        for number in range(200):
            partner.send(number)
            assert partner.recv() == number
        stop.set()
        poller.join()
        assert not partner.poll()

    def test_threads_at_both_ends(self, pair):
        reader, writer = pair
        count, got = 300, []
        lock = threading.Lock()

        def receive():
            while True:
                with lock:
                    message = reader.recv()
                    if message is None:
                        return
                    got.append(message)

        receivers = [threading.Thread(target=receive) for _ in range(3)]
        for thread in receivers:
            thread.start()
        for number in range(count):
            writer.send(number)
        for _ in receivers:
            writer.send(None)
        for thread in receivers:
            thread.join()
        assert got == list(range(count))

    def test_vector_of_environments(self, both):
        """As gymnasium's `AsyncVectorEnv` uses pipes: a child each, polls, then receives."""
        pipes = [both.Pipe() for _ in range(3)]
        children = [both.Process(target=environment, args=(there, here)) for here, there in pipes]
        for child, (_, there) in zip(children, pipes, strict=True):
            child.start()
            there.close()
        ours = [here for here, _ in pipes]
        for here in ours:
            here.send(("reset", None))
        assert [here.recv() for here in ours] == [(("observation", 0), True)] * 3
        for step in range(1, 50):
            for here in ours:
                here.send(("step", step))
            assert all(here.poll(20) for here in ours)
            assert [here.recv() for here in ours] == [(("observation", step), True)] * 3
        for here in ours:
            here.send(("close", None))
        assert [here.recv() for here in ours] == [(None, True)] * 3
        for child, here in zip(children, ours, strict=True):
            child.join()
            here.close()


def echo_at_end_from(queue):
    conn = queue.get()
    while (message := conn.recv()) is not None:
        conn.send(message)
    conn.close()


def send_numbers(writer, lock, name, count):
    for number in range(count):
        with lock:
            writer.send((name, number))


def collect(reader, lock, results):
    got = []
    while True:
        with lock:
            message = reader.recv()
        if message is None:
            break
        got.append(message)
    results.put(got)


def ask_for_descriptor(reader, asking):
    asking.wait()
    reader.fileno()


def environment(pipe, parent_pipe):
    parent_pipe.close()
    while True:
        command, data = pipe.recv()
        if command == "close":
            pipe.send((None, True))
            return
        pipe.send((("observation", data or 0), True))


class TestForks:
    def test_a_fork_in_the_middle(self, pair):
        reader, writer = pair
        for message in (1, b"x" * 100_000):
            writer.send(message)
            child = os.fork()
            if child == 0:
                try:
                    writer.send([reader.recv()])
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
            writer.send(3)
            assert [reader.recv(), reader.recv()] == [[message], 3]

    def test_a_fork_while_a_thread_receives(self, pair):
        """The child has no such thread, and receives for itself."""
        reader, writer = pair
        for number in range(20):
            got = []
            thread = threading.Thread(target=lambda got=got: got.append(reader.recv()))
            thread.start()
            child = os.fork()
            if child == 0:
                os._exit(3)
            assert os.waitpid(child, 0)[1] == 3 << 8
            writer.send(number)
            thread.join()
            assert got == [number]

    def test_a_child_receives_beside_a_thread_of_its_parent(self, pair):
        reader, writer = pair
        report, reported = os.pipe()
        got = []
        thread = threading.Thread(target=lambda: got.append(reader.recv()))
        thread.start()
        child = os.fork()
        if child == 0:
            try:
                os.write(reported, bytes([reader.recv()]))
                os._exit(0)
            finally:
                os._exit(1)
        writer.send(1)
        writer.send(2)
        thread.join()
        assert os.waitpid(child, 0)[1] == 0
        assert sorted([*got, *os.read(report, 10)]) == [1, 2]
        os.close(report)
        os.close(reported)


class TestSignals:
    @pytest.mark.parametrize("after", [0.0, 0.2])
    def test_a_waiting_receiver(self, pair, after):
        reader, writer = pair
        with pytest.raises(ZeroDivisionError), alarm_soon(after):
            reader.recv()
        writer.send("still works")
        assert reader.recv() == "still works"

    @pytest.mark.parametrize("size", [10_000, 200_000])
    def test_a_sender_that_waits_for_room(self, pair, size):
        _reader, writer = pair
        with pytest.raises(ZeroDivisionError), alarm_soon(0.2):
            while True:
                writer.send(b"x" * size)

    def test_a_handler_that_returns_does_not_end_the_wait(self, pair):
        reader, writer = pair
        before = signal.signal(signal.SIGALRM, lambda *_: writer.send("from the handler"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert reader.recv() == "from the handler"
        finally:
            signal.signal(signal.SIGALRM, before)

    def test_no_message_is_lost_in_a_storm(self, partner):
        """A signal that finds a message handed over leaves it to the receiver."""
        signals = []
        before = signal.signal(signal.SIGALRM, lambda *_: signals.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
        try:
            for number in range(2_000):
                partner.send((number, b"x" * (100_000 if number % 50 == 0 else 1)))
                assert partner.recv()[0] == number
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert signals

    def test_interrupted_receives_leave_their_message(self, partner):
        """An exception from a handler comes instead of a message that was not received yet."""

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        before = signal.signal(signal.SIGALRM, stop)
        got, stops = [], 0
        try:
            for number in range(500):
                # Every tenth time nothing is there to be received, so the signal comes first; else either may.
                if sent := number % 10 != 0:
                    partner.send(number)
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.000_002 * (1 + number % 49))
                    message = partner.recv()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    got.append(message)
                except Stop:
                    stops += 1
                    if not sent:
                        partner.send(number)
                    # What comes before the mark had not been received.
                    partner.send("mark")
                    if (message := partner.recv()) != "mark":
                        assert partner.recv() == "mark"
                        assert message == number
                    else:
                        assert sent
                    got.append(number)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert got == list(range(500))
        assert stops >= 50


def test_a_killed_receiver_loses_one_message_at_most(ctx):
    """What it had not received goes to the next: in the descriptor, four bytes name each message."""
    reader, writer = ctx.Pipe(duplex=False)
    results, result = ctx.Pipe(duplex=False)
    numbers = itertools.count()
    for _ in range(5):
        child = ctx.Process(target=forward, args=(reader, result))
        child.start()
        for _ in range(4):
            writer.send((next(numbers), bytes(70_000)))
        assert results.poll(60)
        child.kill()
        child.join()
    writer.close()
    result.close()
    received = [*drain(results), *(number for number, _ in drain(reader))]
    assert received == sorted(set(received)), "twice, or out of order"
    assert len(received) >= 20 - 5


def forward(reader, writer):
    while True:
        writer.send(reader.recv()[0])


def drain(reader):
    while True:
        try:
            yield reader.recv()
        except EOFError:
            return
