"""The actor's process: it makes the object, and calls its methods one after the other."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from .._pool.errors import MaybeEncodingError, _pack_exception
from .._procession import members
from .board import RAISED, VALUE, VALUE_APART, Board, Queue

__all__: list[str] = []

#: The types of values that travel within a request or reply: they run no code when unpickled.
PLAIN = frozenset({bool, bytes, float, int, str, type(None)})

#: The key of the actor that this process is; the process, as it may fork, and the thread that serves.
_serving: tuple[bytes, int, int] | None = None


def is_serving(key: bytes) -> bool:
    """Return whether the calling thread is an actor's own."""
    own = _serving
    return own is not None and own == (key, os.getpid(), threading.get_ident())


def serve(
    states: tuple[Any, ...], key: bytes, incarnation: int, make: Any, args: Any, kwds: Any
) -> None:
    """Run the actor: the target of its process."""
    # Ctrl-C goes to every process of a terminal. It is for the caller to decide what it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _serving
    _serving = key, os.getpid(), threading.get_ident()
    try:
        board = Board.attach(states)
    except ValueError:
        return  # the owner is gone
    try:
        actor = make(*args, **kwds)
    except Exception as error:
        board.orders.put(("failed", incarnation, _pack_exception(error)))
        raise SystemExit(1) from None
    board.orders.put(("made", incarnation, None))
    del make, args, kwds
    clients = _Clients(board.requests)
    while True:
        wanted, line, number, method, args, kwds, news = board.requests.get()
        if wanted != incarnation:
            continue  # its caller knows, or will know, that the incarnation has ended
        if method is None:
            return  # closed
        if news is not None:
            clients.introduce(line, *news)
        clients.received += 1
        _answer(clients.known[line], actor, number, method, args, kwds)
        args = kwds = None  # what the call was given must not live until the next one


def _answer(client: _Client, actor: Any, number: int, method: str, args: Any, kwds: Any) -> None:
    try:
        if args is None:
            args, kwds = client.arguments.get()
        value = getattr(actor, method)(*args, **kwds)
    except (SystemExit, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # such as the CancelledError of asyncio
        client.replies.put((number, RAISED, _pack_exception(error)))
        return
    try:
        if type(value) in PLAIN:
            client.replies.put((number, VALUE, value))
        else:
            client.values.put(value)
            client.replies.put((number, VALUE_APART, None))
    except Exception as error:
        failure = MaybeEncodingError(error, None)
        failure.value = f"an object of type {type(value).__module__}.{type(value).__qualname__}"
        client.replies.put((number, RAISED, _pack_exception(failure)))


class _Client:
    """The queues of one line of a calling process."""

    def __init__(self, pid: int, replies: Queue, arguments: Queue, values: Queue) -> None:
        self.pid, self.replies, self.arguments, self.values = pid, replies, arguments, values


class _Clients:
    """The lines that have introduced themselves, by number."""

    _FEW = 16

    def __init__(self, requests: Queue) -> None:
        self.known: dict[int, _Client] = {}
        #: Number of requests received.
        self.received = 0
        self._requests = requests
        #: So many may be known before those of dead processes are looked for.
        self._most = self._FEW
        #: Lines of dead processes, and the number of requests among which the last of theirs are.
        self._dead: dict[int, _Client] = {}
        self._dead_until = 0

    def introduce(self, line: int, dropped: tuple[int, ...], *queues: Any) -> None:
        """Note the queues of a line, if any are given, and forget the lines that its process has dropped."""
        self._forget(dropped)
        if not queues:
            return
        if self._dead and self.received > self._dead_until:
            dead, self._dead = self._dead, {}
            # A number may have come again, with the number of its process.
            self._forget([key for key, client in dead.items() if self.known.get(key) is client])
            self._most = 2 * len(self.known) + self._FEW
        elif not self._dead and len(self.known) >= self._most:
            living = {member["pid"] for member in members()}
            self._dead = {key: one for key, one in self.known.items() if one.pid not in living}
            # What a process has sent before its end is done all the same.
            self._dead_until = self.received + self._requests.qsize()
            self._most = 2 * len(self.known) + self._FEW
        self.known[line] = _Client(*queues)

    def _forget(self, lines: Any) -> None:
        for line in lines:
            self.known.pop(line, None)
