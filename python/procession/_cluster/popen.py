"""Starting and following a process on another node.

The parent has one connection to each node's home on which it starts processes. A thread receives
there what the home tells about them.
"""

from __future__ import annotations

import itertools
import math
import os
import queue
import signal
import threading
import time

from .. import _stdio, connection, context, popen_fork, process, spawn, util
from .._errors import NodeLost
from .._procession import refresh_main
from .._threads import Event, RLock
from . import place, silence, wire
from .shipping import with_keys

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds within which a node must start a process. Its first one waits until the node's fork server
#: has imported the main module.
START = 300.0

#: The addresses of nodes that are lost to this process, and the time until which that counts. After
#: a broken connection a node is tried again; one that refused a connection is not.
lost: dict[Any, float] = {}


def is_lost(node: place.Node) -> bool:
    """Return whether no process is to be started on a node."""
    return time.monotonic() < lost.get(node.address, 0.0)


class Unreached(NodeLost):
    """A node could not be connected to: nothing was sent."""


class _Line:
    """The connection of this process to the home where it starts processes."""

    _all: dict[Any, _Line] = {}
    # For each address one that is held while a connection is made.
    _making: dict[Any, Any] = {}
    _mutex = RLock()

    def __init__(self, node: place.Node, key: bytes) -> None:
        self.node = node
        self.error: NodeLost | None = None
        self._numbers = itertools.count()
        self._children: dict[int, RemotePopen] = {}
        # Sent by a thread of its own: a signal handler can neither interrupt a message nor send one
        # in the middle of another.
        self._outgoing: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        try:
            self._conn = wire.connect(node.address, key)
            wire.send(self._conn, ("parent",))
        except (EOFError, OSError) as error:
            lost[node.address] = math.inf
            raise Unreached(*self._lost(error).args) from error
        silence.watch(self._conn)
        for work in self._receive, self._send_all:
            threading.Thread(target=work, daemon=True).start()

    @classmethod
    def to(cls, node: place.Node, key: bytes) -> _Line:
        """Return this process's line to a node, which may be a new one."""
        with cls._mutex:
            making = cls._making.setdefault(node.address, RLock())
        with making:
            line = cls._all.get(node.address)
            if line is None or line.error is not None:
                line = cls._all[node.address] = cls(node, key)
            return line

    @classmethod
    def _after_fork(cls) -> None:
        # A copy of the parent's connection must not hide the parent's end.
        cls._mutex, cls._making = RLock(), {}
        for line in cls._all.values():
            line._conn.close()
        cls._all = {}

    def _lost(self, cause: BaseException) -> NodeLost:
        return NodeLost(
            f"node {self.node.name} does not answer at {self.node.address}: {cause or type(cause).__name__}",
            self.node.name,
        )

    def enter(self, child: RemotePopen) -> int:
        """Return the number by which the home knows a child."""
        number = next(self._numbers)
        self._children[number] = child
        if self.error is not None:
            raise self.error
        return number

    def leave(self, number: int) -> None:
        """Forget a child."""
        self._children.pop(number, None)

    def send(self, *message: Any) -> None:
        """Send the home a message. Raises NodeLost if the connection is known to have broken."""
        data = wire.dumps(message)
        if self.error is not None:
            raise self.error
        self._outgoing.put(data)

    def _send_all(self) -> None:
        try:
            while True:
                self._conn.send_bytes(self._outgoing.get())
        except OSError as error:
            util.info("%s", self._lost(error))
            wire.shut(self._conn)  # so that `_receive` ends, too

    def _receive(self) -> None:
        while True:
            try:
                what, number, value = wire.recv(self._conn)
            except Exception as error:
                # Also for what cannot be unpickled: no child may wait for a message that was lost.
                self.error = self._lost(error)
                break
            child = self._children.get(number)
            if child is not None:
                child._told(what, value)
            if what != "started":
                self.leave(number)
        util.info("%s", self.error)
        silence.leave(self._conn)
        wire.shut(self._conn)
        lost[self.node.address] = time.monotonic() + wire.silence()
        for child in list(self._children.values()):
            child._told("lost", self.error)


os.register_at_fork(after_in_child=_Line._after_fork)


class RemotePopen(popen_fork.Popen):
    """A running or ended child on another node.

    A child whose node is lost counts as killed.
    """

    method = "ray"

    def __init__(
        self, process_obj: process.BaseProcess, node: place.Node, here: place.Place
    ) -> None:
        _stdio.keep_lines_whole(in_child=False)
        util._name_log_records()
        util._flush_std_streams()
        self.node = node
        self.returncode: int | None = None
        self.pid = 0
        self._error: Exception | None = None
        #: What the child may not have come to take: notes of its pickle, and where they are settled.
        self._give_back: tuple[place.Place | None, list[Any]] = None, []
        self._told_start = Event()
        # Held where the sentinel is written to or closed.
        self._sentinel_mutex = RLock()
        self._line: Any = None
        self._number = -1
        self.sentinel = os.eventfd(0)
        try:
            self._line = _Line.to(node, here.key)
            self._number = self._line.enter(self)
            self._start(process_obj, here)
        except BaseException:
            if self._line is not None:
                self._line.leave(self._number)
            self.close()
            raise

    def _start(self, process_obj: process.BaseProcess, here: place.Place) -> None:
        settings = with_keys(spawn.get_preparation_data(process_obj._name))
        refresh_main()  # a new receiver, which has what it imports
        before = context.get_spawning_popen()
        try:
            context.set_spawning_popen(self)
            data, notes = wire.noting_dumps(process_obj)
            self._give_back = here, notes
        finally:
            context._spawning.popen = before  # no signal handler runs before this
            context.set_spawning_popen(before)
        ends = process_obj.daemon or process_obj._die_with_parent
        self._line.send("start", self._number, settings, data, ends, here.address)
        try:
            if not self._told_start.wait(START):
                raise NodeLost(
                    f"node {self.node.name} has not started {process_obj.name} within {START:g} s",
                    self.node.name,
                )
        except BaseException:
            # Nobody will know the child.
            self._signal_if_there(signal.SIGKILL)
            raise
        if self._error is not None:
            raise self._error

    def _told(self, what: str, value: Any) -> None:
        """Take note of what the home tells, in the thread of the line."""
        if what == "started":
            self.pid = value
        elif what == "failed" or (what == "lost" and not self._told_start.is_set()):
            self._error = value
        else:
            with self._sentinel_mutex:
                self.returncode = value if what == "ended" else -signal.SIGKILL
                if self.sentinel >= 0:
                    os.eventfd_write(self.sentinel, 1)
        if what != "started":
            here, notes = self._give_back
            if here is not None:
                here.settle_notes(notes)
        self._told_start.set()

    def duplicate_for_child(self, fd: int) -> int:
        """Raise NotImplementedError: a descriptor cannot be sent to another node."""
        raise NotImplementedError(
            "a descriptor cannot be sent to another node: use a Queue, or a Listener and Client"
        )

    DupFd = duplicate_for_child

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the child to end, at most `timeout` seconds; return the exit code or None."""
        if self.returncode is None and timeout != 0:
            connection.wait([self.sentinel], timeout)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            self._signal_if_there(sig)

    def _signal_if_there(self, sig: int) -> None:
        try:
            self._line.send("signal", self._number, sig)
        except NodeLost as error:
            util.info("the signal finds no process: %s", error)

    def __del__(self) -> None:
        if hasattr(self, "_sentinel_mutex"):
            self.close()

    def close(self) -> None:
        """Release the sentinel."""
        with self._sentinel_mutex:
            if self.sentinel >= 0:
                os.close(self.sentinel)
                self.sentinel = -1
