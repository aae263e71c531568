"""What is in the messages of pipes: shared objects and ends, to other nodes and within one."""

from __future__ import annotations

import pytest

import procession
import procession.shared_memory
from procession import connection

from ..waiting import LONG, until


def _use_received(conn):
    """Take a lock, a queue and an end out of a pipe, use each, and send them back."""
    lock, queue, end = conn.recv()
    with lock:
        queue.put("from elsewhere")
    end.send("through the end")
    conn.send((lock, end))


def test_shared_objects_in_a_pipe(ctx, elsewhere):
    here, there = ctx.Pipe()
    elsewhere.begin(_use_received, there)
    there.close()
    lock, queue, (reader, writer) = ctx.Lock(), ctx.Queue(), ctx.Pipe(duplex=False)
    here.send((lock, queue, writer))
    writer.close()
    assert queue.get(timeout=LONG) == "from elsewhere"
    assert reader.recv() == "through the end"
    again, end = here.recv()
    assert type(again) is type(lock)  # the object itself, at home
    with again:
        assert not lock.acquire(False)
    end.send("by two nodes")
    assert reader.recv() == "by two nodes"
    end.close()
    with pytest.raises(EOFError):
        reader.recv()
    assert elsewhere.end() is None


def _answer_with_name(conn):
    memory, end, lock = conn.recv()
    with lock:
        end.send(bytes(memory.buf[:2]))
    memory.close()


def test_what_stays_on_a_node_in_a_pipe_of_it(loopback):
    """Processes of one node send each other all that they do without a cluster."""
    here, there = connection.Pipe()
    reader, writer = connection.Pipe(duplex=False)
    child = procession.get_context("forkserver").Process(target=_answer_with_name, args=(there,))
    child.start()
    memory = procession.shared_memory.SharedMemory(create=True, size=2)
    try:
        memory.buf[:2] = b"ok"
        here.send((memory, writer, procession.Lock()))
        writer.close()
        assert reader.recv() == b"ok"
        child.join(LONG)
        assert child.exitcode == 0
    finally:
        memory.close()
        memory.unlink()
    until(lambda: not loopback.home._tickets)
