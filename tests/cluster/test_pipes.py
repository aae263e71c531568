"""Pipes between nodes: both ends go anywhere, and learn of each other's end."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import struct
import threading

import pytest

import procession
from procession import connection
from procession._cluster import pipes, popen, silence, wire
from tests.pool.tasks import KillsWhoLoadsIt

from ..waiting import LONG, until, until_ended
from .loopback import Elsewhere, Loopback


@pytest.fixture
def nodes():
    """The driver's node, where no process is started, and two others."""
    cluster = Loopback(2)
    yield cluster
    cluster.close()


@pytest.fixture
def ctx(nodes):
    context = procession.get_context("ray")
    yield context
    for child in procession.active_children():
        child.kill()
        child.join()


@pytest.fixture
def both(ctx):
    """A process on each of the other nodes, which calls functions."""
    workers = [Elsewhere(ctx), Elsewhere(ctx)]
    yield workers
    for worker in workers:
        worker.close()


def _echo(conn):
    with conn:
        try:
            while True:
                conn.send(conn.recv())
        except EOFError:
            pass


def _send_all(conn, items):
    with conn:
        for item in items:
            conn.send(item)


def _receive_all(conn):
    items = []
    with conn:
        try:
            while True:
                items.append(conn.recv())
        except EOFError:
            return items


ITEMS = [1, "two", [None], b"", b"x" * 500_000, list(range(1000))]


def test_both_ways(ctx):
    here, there = ctx.Pipe()
    child = ctx.Process(target=_echo, args=(there,))
    child.start()
    there.close()
    for item in ITEMS:
        here.send(item)
        assert here.poll(LONG)
        assert here.recv() == item
    assert not here.poll(0)
    here.close()
    child.join(LONG)
    assert child.exitcode == 0


def test_one_way_to_another_node_and_from_it(ctx, both):
    reader, writer = ctx.Pipe(duplex=False)
    both[0].begin(_receive_all, reader)
    reader.close()
    _send_all(writer, ITEMS)
    assert both[0].end() == ITEMS
    reader, writer = ctx.Pipe(duplex=False)
    both[0].begin(_send_all, writer, ITEMS)
    writer.close()
    assert _receive_all(reader) == ITEMS
    both[0].end()
    with pytest.raises(OSError, match=r"read-only|write-only"):
        both[0](lambda conn: conn.send(1), ctx.Pipe(duplex=False)[0])


def test_between_two_other_nodes(ctx, both):
    one, other = ctx.Pipe()
    both[1].begin(_echo, other)
    other.close()
    both[0].begin(lambda conn: [conn.send(4), conn.recv(), conn.close()][1], one)
    one.close()
    assert both[0].end() == 4
    both[1].end()


def _make_a_pipe(queue):
    reader, writer = procession.get_context("ray").Pipe(duplex=False)
    queue.put(reader)
    with reader, writer:
        writer.send("from its maker")
        writer.send(os.getpid())


def test_an_end_in_a_queue_and_home_again(ctx, both):
    queue = ctx.Queue()
    both[0].begin(_make_a_pipe, queue)
    reader = queue.get(timeout=LONG)
    both[1].begin(_receive_all, reader)  # a third node
    reader.close()
    assert both[1].end()[0] == "from its maker"
    both[0].end()
    reader, writer = ctx.Pipe(duplex=False)
    both[0](lambda queue, writer: queue.put(writer), queue, writer)
    writer.close()
    with queue.get(timeout=LONG) as again:
        again.send("home")
    assert _receive_all(reader) == ["home"]


def test_an_end_in_a_task_and_its_result(ctx):
    with ctx.Pool(2) as pool:
        reader, writer = ctx.Pipe(duplex=False)
        sending = pool.apply_async(_send_all, (writer, ITEMS))
        writer.close()
        assert _receive_all(reader) == ITEMS
        sending.get(LONG)
        with pool.apply(_give_a_reader) as given:
            assert given.recv() == "in a result"
            with pytest.raises(EOFError):
                given.recv()


def _give_a_reader():
    reader, writer = procession.get_context("ray").Pipe(duplex=False)
    with writer:
        writer.send("in a result")
    return reader


def _wait_for_ever(conn, told):
    told.put(os.getpid())
    threading.Event().wait()
    conn.close()


def test_a_default_timeout_of_the_programs_sockets(ctx, both):
    """It is not that of the connections between nodes, which wait for as long as it takes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        here, there = ctx.Pipe()
        both[0].begin(_echo, there)
        there.close()
        for item in ITEMS:
            here.send(item)
            assert here.recv() == item
        here.close()
        assert both[0].end() is None
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.parametrize("dies", ["process", "node"])
def test_the_holder_of_an_end_dies(nodes, ctx, dies):
    told = ctx.Queue()
    here, there = ctx.Pipe()
    child = ctx.Process(target=_wait_for_ever, args=(there, told))
    child.start()
    there.close()
    pid = told.get(timeout=LONG)
    if dies == "process":
        os.kill(pid, signal.SIGKILL)
    else:
        nodes.agents[["node1", "node2"].index(child._popen.node.name)].kill()
    assert connection.wait([here], LONG) == [here]
    with pytest.raises(EOFError):
        here.recv()
    with pytest.raises(OSError):
        here.send(1)
    child.join(LONG)
    until_ended([pid])


@pytest.mark.parametrize("of", ["process", "pool", "executor"])
def test_the_holder_dies_before_it_has_the_end(ctx, of):
    """What was sent to it is given back: nobody else can take it."""
    here, there = ctx.Pipe()
    if of == "process":
        child = ctx.Process(target=print, args=(KillsWhoLoadsIt(), there))
        child.start()
        child.join(LONG)
        assert child.exitcode == -signal.SIGKILL
    elif of == "pool":
        with ctx.Pool(1) as pool, pytest.raises(procession.WorkerDied):
            pool.apply(print, (KillsWhoLoadsIt(), there))
    else:
        with procession.ProcessPoolExecutor(1, ctx) as executor:
            future = executor.submit(print, KillsWhoLoadsIt(), there)
            assert isinstance(future.exception(LONG), procession.WorkerDied)
    there.close()
    with pytest.raises(EOFError):
        here.recv()


def test_the_last_copy_counts(ctx, both):
    """As on one machine: an end is open as long as one process has it."""
    reader, writer = ctx.Pipe(duplex=False)
    both[0](lambda conn: conn.close(), writer)
    writer.send("still open")
    assert reader.recv() == "still open"
    writer.close()
    with pytest.raises(EOFError):
        reader.recv()


def _send_until_refused(conn, told):
    told.put("begun")
    with conn:
        try:
            while True:
                conn.send(bytes(1000))
        except OSError:
            return "refused"


def test_a_writer_learns_that_its_reader_is_closed(ctx, both):
    told = ctx.Queue()
    reader, writer = ctx.Pipe(duplex=False)
    both[0].begin(_send_until_refused, writer, told)
    writer.close()
    told.get(timeout=LONG)
    reader.recv()
    reader.close()
    assert both[0].end() == "refused"
    reader, writer = ctx.Pipe(duplex=False)
    both[0].begin(lambda conn: [conn.recv(), conn.close()], reader)
    reader.close()
    writer.send(1)
    both[0].end()
    until(lambda: not _takes(writer))


def _takes(conn):
    try:
        conn.send(bytes(1000))
        return True
    except OSError:
        return False


def _exit_after(conn, count):
    for number in range(count):
        conn.send((number, bytes(100)))
    os._exit(0)


def test_what_was_sent_before_an_exit_arrives(ctx):
    here, there = ctx.Pipe()
    child = ctx.Process(target=_exit_after, args=(there, 3000))
    child.start()
    there.close()
    here.send("never read by it")
    assert [number for number, _ in _receive_all(here)] == list(range(3000))
    child.join(LONG)


def test_both_send_much_at_once(ctx):
    here, there = ctx.Pipe()
    child = ctx.Process(target=_exchange, args=(there,))
    child.start()
    there.close()
    assert _exchange(here) == 200
    child.join(LONG)
    assert child.exitcode == 0


def _exchange(conn):
    sender = threading.Thread(target=lambda: [conn.send(bytes(100_000)) for _ in range(200)])
    sender.start()
    received = sum(len(conn.recv()) == 100_000 for _ in range(200))
    sender.join()
    return received


def test_a_reader_waits_for_its_descriptor(ctx, both):
    reader, writer = ctx.Pipe(duplex=False)
    both[0].begin(lambda conn: bool(connection.wait([conn], LONG)) and conn.recv(), reader)
    reader.close()
    writer.send("something")
    assert both[0].end() == "something"
    writer.close()


def test_an_end_that_was_taken_is_closed_for_the_next(ctx, both):
    reader, writer = ctx.Pipe(duplex=False)
    data = bytes(wire.dumps(reader))
    reader.close()
    first = pickle.loads(data)
    writer.send(1)
    assert first.recv() == 1
    second = pickle.loads(data)
    with pytest.raises(EOFError):
        second.recv()
    writer.close()
    first.close()


def _cut_off(conn):
    """Drop all that arrives at a connection, acknowledgements too, as a cut cable does."""
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    with socket.fromfd(conn.fileno(), socket.AF_INET, socket.SOCK_STREAM) as copy:
        program = struct.pack("HP", 1, ctypes.addressof(drop))
        copy.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


_SO_ATTACH_FILTER = 26


def _connection_of_the_pipe():
    """Return what its root has in this process, which is not the one that starts processes."""
    others = {line._conn for line in popen._Line._all.values()}
    until(lambda: silence._watch._conns - others)
    (conn,) = silence._watch._conns - others
    return conn


@pytest.mark.parametrize("sends", [True, False])
def test_a_cut_network_closes_the_end(ctx, nodes, sends):
    before = wire.silence()
    wire.set_silence(1)
    try:
        told = ctx.Queue()
        here, there = ctx.Pipe()
        child = ctx.Process(target=_wait_for_ever, args=(there, told))
        child.start()
        there.close()
        told.get(timeout=LONG)
        _cut_off(_connection_of_the_pipe())
        if sends:
            here.send("never acknowledged")
        with pytest.raises(EOFError):
            here.recv()
        assert child.is_alive()  # its own connection is whole
    finally:
        wire.set_silence(before)


def test_a_signal_to_a_cut_off_node_does_not_hide_that_it_is_lost(ctx, nodes):
    """What was sent and not acknowledged keeps the kernel from asking whether the node lives."""
    before = wire.silence()
    wire.set_silence(1)
    try:
        told = ctx.Queue()
        child = ctx.Process(target=_wait_for_ever, args=(ctx.Event(), told))
        child.start()
        told.get(timeout=LONG)
        (line,) = (line for line in popen._Line._all.values() if line.error is None)
        _cut_off(line._conn)
        child.terminate()
        child.join(LONG)
        assert child.exitcode == -signal.SIGKILL
    finally:
        wire.set_silence(before)


def test_a_reader_that_does_not_read_is_not_silent(ctx, nodes):
    """Its machine acknowledges what fills the buffers, and then that they are full."""
    before = wire.silence()
    wire.set_silence(1)
    try:
        told, go_on = ctx.Queue(), ctx.Event()
        here, there = ctx.Pipe()
        child = ctx.Process(target=_read_late, args=(there, told, go_on))
        child.start()
        there.close()
        told.get(timeout=LONG)
        sender = threading.Thread(target=_send_all, args=(here, [bytes(1 << 20)] * 100))
        sender.start()
        sender.join(4)  # not synchronisation: longer than the silence that is allowed
        assert sender.is_alive()
        go_on.set()
        assert told.get(timeout=LONG) == 100
        sender.join()
        child.join(LONG)
    finally:
        wire.set_silence(before)


def _read_late(conn, told, go_on):
    told.put("here")
    go_on.wait()
    told.put(len(_receive_all(conn)))


def test_an_end_whose_receiver_has_ended_is_closed():
    reader, writer = procession.Pipe(duplex=False)
    end, other = procession.Pipe()
    reader.close()
    pipes.give(end, writer)
    assert (end.closed, writer.closed) == (True, True)
    with other, pytest.raises(EOFError):
        other.recv()
