"""Pipes between nodes.

An end that is sent to another node stays at its home, in the root of its family, which holds it by a
ticket. The receiver makes a pipe of its own node, keeps one end and gives the other to its root; it
goes on once that has redeemed the ticket. The two roots carry the messages between the end that
stayed and that one, over a connection of their own. If a process that was started with an end, or a
worker with an end in its task, dies before that, the sender redeems the ticket itself.

So every process has the engine's pipe, of its own node: it waits for it and learns of its peer's end
as on one machine, and no data is lost when a process ends right after it has sent some.

What is sent through a pipe may arrive on any node, so every process of a cluster pickles it for all
of them: shared objects as references, ends of pipes by tickets. At their home these are the objects
themselves.

When an end is closed, or the process that had it has died, its root ends its direction of the
connection. The other root then closes what stands for that end there. A machine that does not answer
any more counts as gone after `wire.silence()` seconds.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import threading
from contextlib import closing

from .. import connection, reduction, util
from .._errors import NodeLost
from .._threads import Thread
from . import place, silence, wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: In the queue of tickets: an end that the root is to join to one of another home.
CARRY = b"carry"
#: In the queue of tickets: asks the root for the end that it holds by a ticket.
FETCH = b"fetch"


class _Sealed:
    """An end that is passed on as it came."""

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def __reduce__(self) -> Any:
        return _arrive, self._fields


def _reduce(conn: Any) -> Any:
    if not wire.mode.abroad:
        return connection.reduce_connection(conn)
    if wire.mode.again:
        raise ValueError(
            "an end of a pipe can be taken once: neither a task that may be tried again (retries) nor "
            "the function of many tasks can have one; use a queue"
        )
    here = place.here()
    if here is None:
        raise ValueError(
            "this end of a pipe cannot be sent to another node: its process was not started by the context 'ray'"
        )
    wire.note_reference(conn)
    return _arrive, (here.address, here.issue(conn), conn.readable, conn.writable)


def _arrive(address: tuple[str, int], ticket: bytes, readable: bool, writable: bool) -> Any:
    if place.is_courier:
        return _Sealed(address, ticket, readable, writable)
    here = place.here()
    if here is None:
        raise ValueError(
            "this process was not started by the context 'ray', and cannot use objects of its nodes"
        )
    if address == here.address:
        end = _fetched(here, ticket)
        if end is not None:
            return end
    if readable and writable:
        own, other = connection.Pipe()
    elif readable:
        own, other = connection.Pipe(duplex=False)
    else:
        other, own = connection.Pipe(duplex=False)
    # Until the root has joined the ends, this process must not go on: were it killed, nobody would
    # join them, and the end that stayed would be open for ever.
    joined, tell = connection.Pipe(duplex=False)
    with joined:
        with other, tell:
            wire.at_home(here.tickets.put, (CARRY, (address, ticket, other, tell)))
        try:
            joined.recv_bytes()
        except (EOFError, OSError) as error:
            util.info("an end of a pipe of another node is closed: %s", error)
    return own


def _fetched(here: place.Place, ticket: bytes) -> Any:
    """Return the end that the root of this family holds by a ticket; None if it has been taken."""
    reader, writer = connection.Pipe(duplex=False)
    with reader:
        with writer:
            wire.at_home(here.tickets.put, (FETCH, (ticket, writer)))
        return reader.recv()


def give(end: Any, receiver: Any) -> None:
    """Send a process of this family an end, or None; close both."""
    try:
        with receiver:
            wire.at_home(_send_at_home, receiver, end)
    except (OSError, ValueError) as error:
        util.info(
            "an end of a pipe was not taken, its receiver has ended or was interrupted: %s", error
        )
    finally:
        if end is not None:
            end.close()


_send_at_home = connection.Connection.send


@functools.wraps(_send_at_home)
def _send_anywhere(self: Any, obj: Any) -> None:
    if place.here() is None or wire.mode.abroad:
        return _send_at_home(self, obj)
    try:
        return wire.without_references(_send_at_home, self, obj)
    except wire.Refers:
        pass
    # As bytes: what has been sent as an object of the family, the roots would have to unpickle.
    return self.send_bytes(wire.anywhere(reduction.ForkingPickler.dumps, obj))


def register() -> None:
    """Have pickles for other nodes carry ends of pipes, and pipes carry such pickles."""
    reduction.register(connection.Connection, _reduce)
    connection.Connection.send = _send_anywhere  # type: ignore[method-assign]


register()


def join(address: tuple[str, int], key: bytes, ticket: bytes, end: Any, tell: Any) -> None:
    """Join an end of this family to the one that a ticket stands for; return when either is closed.

    `tell` is told when they are joined. If the other one cannot be reached, it is closed, and the
    peer of `end` finds that closed.
    """
    with end:
        try:
            with tell:
                conn = wire.connect(address, key)
                wire.send(conn, ("pipe", ticket))
                error = wire.recv_answer(conn)
                if error is not None:
                    conn.close()
                    raise error
                tell.send_bytes(b"joined")
            with closing(conn):
                carry(end, conn)
        except (EOFError, OSError, NodeLost) as error:
            util.info("an end of a pipe of another node cannot be used: %s", error)


def carry(end: Any, conn: Any) -> None:
    """Carry messages between an end and the root of another node, until either end is closed."""
    threading.current_thread().name = "PipeFromNode"
    silence.watch(conn)
    stop, stopped = os.pipe()
    outgoing = Thread(_send, "PipeToNode", (end, conn, stop))
    try:
        outgoing.start()
        _receive(end, conn)
    finally:
        os.close(stopped)
        outgoing.join()
        os.close(stop)
        silence.leave(conn)


def _send(end: Any, conn: Any, stop: int) -> None:
    """Send what arrives at the end, until its peer is closed or `stop` is."""
    try:
        if not end.readable:
            ends = select.poll()
            ends.register(stop, select.POLLIN)
            ends.register(end._descriptor, 0)  # for an error: the reader is closed
            ends.poll()
            return
        while stop not in connection.wait([end, stop]):
            conn.send_bytes(end.recv_bytes())
    except (EOFError, OSError) as error:
        util.debug("an end of a pipe is closed: %s", error)
    finally:
        _half_close(conn)


def _receive(end: Any, conn: Any) -> None:
    """Give the end what the other node sends, to the end of that."""
    is_open = end.writable
    try:
        while True:
            data = conn.recv_bytes()
            if is_open:
                try:
                    end.send_bytes(data)
                except OSError:
                    is_open = False  # its peer is closed, of which `_send` tells the other node
            del data
    except (EOFError, OSError) as error:
        util.debug("the end of a pipe on another node is closed: %s", error)


def _half_close(conn: Any) -> None:
    try:
        with reduction._socket_of(conn, socket.AF_INET) as copy:
            copy.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it has ended
