"""The server of a home: it runs in the root of a node's family, in threads.

It starts deputies, and processes for parents on other nodes, and holds the tickets of references.
Each connection begins with one request; `serve` lists them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import closing

from .. import connection, context, popen_forkserver, process, util
from .._errors import ProcessError
from .._procession import members
from .._threads import Thread
from . import deputy, pipes, place, silence, wire
from .placed import PlacedPopen

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


#: How many clients are known of deputies that have ended: the error about a lock comes later.
_KEPT = 1000

#: A ticket after which no others come.
_LAST = b""


def _begin(target: Any, *args: Any) -> None:
    Thread(target, "ClusterHome", args).start()


class Home:
    """The server of this process's family.

    `node` is the node's name, `host` the address at which other nodes reach this one. `on_end` is
    called when the connection to the driver ends (None: this is the driver). `options` are those of
    the context.
    """

    def __init__(
        self,
        node: str,
        host: str,
        key: bytes,
        on_end: Callable[[], object] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        spawning = context._concrete_contexts["forkserver"]
        self._listener = wire.listen(host, key)
        self._on_end = on_end
        #: The pids of deputies that have ended, the oldest first.
        self._ended: dict[int, None] = {}
        self._tickets: dict[bytes, Any] = {}
        #: Set when the queue of tickets has been read up to a mark.
        self._marks: dict[bytes, threading.Event] = {}
        #: Set once the driver is connected.
        self.followed = threading.Event()
        address = self._listener.address
        self.place = place.Place(node, address, key, spawning.SimpleQueue(), os.getpid())
        self.place.options = options or {}
        place.settle(self.place)
        _begin(self._hold_tickets)
        _begin(wire.serve, self._listener, self._admit)

    def close(self) -> None:
        """Serve no more."""
        self._listener.close()
        self.place.redeem(_LAST)

    def _hold_tickets(self) -> None:
        while True:
            try:
                ticket, obj = self.place.tickets.get()
            except BaseException as error:  # of the program's code
                util.sub_warning("a ticket cannot be read: %s", error)
                continue
            if ticket == _LAST:
                return
            if ticket == pipes.CARRY:
                address, of_end, *ends = obj
                _begin(pipes.join, address, self.place.key, of_end, *ends)
                del ends
            elif ticket == pipes.FETCH:
                pipes.give(self._tickets.pop(obj[0], None), obj[1])
            elif obj is None:
                self._tickets.pop(ticket, None)
            elif ticket in self._marks:
                self._marks.pop(ticket).set()
            else:
                self._tickets[ticket] = obj
            del obj

    def _admit(self, conn: Any) -> None:
        with closing(conn):
            try:
                self.serve(conn, *wire.recv(conn))
            except (EOFError, OSError) as error:
                util.info("the connection of a peer has ended: %s", error)

    def serve(self, conn: Any, what: str, *arguments: Any) -> None:
        """Serve one connection to its end."""
        if what == "deputy":
            _answer(conn, lambda: self._deputy(*arguments))
        elif what == "lives":
            _answer(conn, lambda: _lives(*arguments))
        elif what == "parent":
            _Parent(conn, self.place).serve()
        elif what == "driver":
            self._follow(conn, *arguments)
        elif what == "pipe":
            self._carry(conn, *arguments)

    def _carry(self, conn: Any, ticket: bytes) -> None:
        """Join the end of a pipe that a ticket stands for to another node's."""
        if ticket not in self._tickets:
            # It was issued before it was sent, but the queue may not have been read so far.
            mark, read = os.urandom(12), threading.Event()
            self._marks[mark] = read
            self.place.tickets.put((mark, True))
            read.wait()
        end = self._tickets.pop(ticket, None)
        if end is None:
            return wire.send(
                conn, OSError("this end of a pipe has been taken, or its home has left it")
            )
        with end:
            wire.send(conn, None)
            return pipes.carry(end, conn)

    def _follow(self, conn: Any, nodes: list[place.Node], options: dict[str, Any]) -> None:
        """Live as long as the driver."""
        self.place.nodes, self.place.options = nodes, options
        self.place.follow_options()
        self.followed.set()
        try:
            wire.limit(conn)
            wire.send(conn, (None, None))
            wire.recv(conn)  # nothing more is sent: this waits for the end
        except (EOFError, OSError) as error:
            util.info("the driver has gone: %s", error)
        finally:
            if self._on_end is not None:
                self._on_end()

    def _deputy(self, client: tuple[str, int, str]) -> tuple[str, int]:
        """Start a deputy for a process, and return the deputy's address.

        `client` has the name, pid and node of that process.
        """
        reader, writer = connection.Pipe(duplex=False)
        with reader:
            made = _Deputy(target=deputy.main, args=(self.place, client[0], writer), daemon=True)
            with writer:
                child = popen_forkserver.Popen(made)
            self._ended.pop(child.pid, None)  # that of an earlier deputy with this pid
            self.place.clients[child.pid] = client
            _begin(self._follow_deputy, child)
            connection.wait([reader, child.sentinel])
            if not reader.poll():
                raise ProcessError(f"a deputy on node {self.place.node} ended with {child.wait()}")
            return reader.recv()

    def _follow_deputy(self, child: popen_forkserver.Popen) -> None:
        """Wait for a deputy's end. Its client is known until as many others as are kept have ended."""
        child.wait()
        self._ended[child.pid] = None
        for pid in list(self._ended)[:-_KEPT]:
            if self._ended.pop(pid, self) is None:
                self.place.clients.pop(pid, None)


class _Deputy(context.ForkServerProcess):
    """A deputy, which is no child to the program: it takes no number, and is not listed."""

    def _descend_from(self, parent: process.BaseProcess) -> None:
        self._parent_pid, self._parent_name = os.getpid(), parent.name
        self._identity = (*parent._identity, 0)
        self._config = dict(parent._config)


def _lives(pid: int) -> bool:
    """Return whether a process of this family lives."""
    return any(member["pid"] == pid for member in members())


def _answer(conn: Any, work: Callable[[], Any]) -> None:
    try:
        reply: Any = None, work()
    except Exception as error:
        reply = error, None
    wire.send(conn, reply)


class _Parent:
    """A process of another node that starts processes here, over one connection."""

    def __init__(self, conn: Any, here: place.Place) -> None:
        self._conn, self._place = conn, here
        self._sending = threading.Lock()
        self._children: dict[int, PlacedPopen] = {}

    def serve(self) -> None:
        """Start processes and send them signals, until the parent has gone.

        Then its daemonic children end. If the parent may live, and only the network is cut, all
        end, because to the parent they are dead.
        """
        is_cut = True
        silence.watch(self._conn)
        try:
            while True:
                what, number, *arguments = wire.recv(self._conn)
                if what == "start":
                    self._start(number, *arguments)
                else:
                    child = self._children.get(number)
                    if child is not None:  # it may have ended meanwhile
                        child._send_signal(*arguments)
        except (EOFError, OSError) as error:
            is_cut = not wire.has_ended(error)
        finally:
            silence.leave(self._conn)
            for child in list(self._children.values()):
                if child.ends_with_parent or is_cut:
                    child._send_signal(signal.SIGKILL)

    def _start(self, number: int, settings: Any, data: bytes, ends: bool, home: Any) -> None:
        try:
            child = PlacedPopen(self._place, settings, data, ends, home)
        except Exception as error:
            return self._tell("failed", number, error)
        self._children[number] = child
        self._tell("started", number, child.pid)
        return _begin(self._follow, number, child)

    def _follow(self, number: int, child: PlacedPopen) -> None:
        exitcode = child.wait()
        self._children.pop(number, None)
        child.close()
        try:
            self._tell("ended", number, exitcode)
        except OSError as error:
            util.debug("nobody learns how process %d ended: %s", child.pid, error)

    def _tell(self, what: str, number: int, value: Any) -> None:
        with self._sending:
            wire.send(self._conn, (what, number, value))
