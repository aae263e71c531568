"""The owner's part: it starts the actor's process, and starts it again after a death."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable
from queue import Empty, Full
from typing import Any

from .. import util
from .._pool.errors import _pack_exception
from .._procession import SharedBytes, attach_shared
from .._threads import Thread
from ..connection import wait
from ..context import BaseContext
from ..process import _describe_exitcode
from .board import DOWN, SHORT_SLICE, SLICE, STARTING, UP, Board, Ending
from .server import serve

__all__: list[str] = []

_numbers = itertools.count(1)

#: An actor is dead for good when its process has died so many times in a row before the object was made.
#: There is no pause between these starts.
_FAILURES = 20

#: Why an actor has ended that was closed.
_CLOSED = "was closed"


class Owner:
    """What the owner of an actor has of it. A thread runs it until the actor is dead for good."""

    def __init__(
        self,
        context: BaseContext,
        name: str,
        max_restarts: int | None,
        max_pending: int,
        make: Callable[..., Any],
        args: tuple[Any, ...],
        kwds: dict[str, Any],
    ) -> None:
        self.key = os.urandom(16)
        self.name = name
        self.board = Board.make(max_pending)
        self._context, self._max_restarts = context, max_restarts
        self._arguments: tuple[Any, ...] | None = (make, args, kwds)
        self._incarnation = 0
        self._process: Any = None
        #: Why the actor ends, or is to end; None: for no such reason.
        self._ordered: str | None = None
        self._is_closing = self._is_closed = False
        #: What the constructor raised, and in which incarnation.
        self._failure: tuple[int, tuple[bytes, str, str]] | None = None
        #: The number of processes in a row that died before the object was made.
        self._failures = 0
        #: Whether this process has no handle any more; then the number by which `_lease` finds out
        #: whether any other process has one.
        self._is_dropped = False
        self._lease: tuple[int, int] | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the actor's process. Raises what the start method raises."""
        self._start_process()
        self.board.write(0, UP, self._process.pid, None)

    def supervise(self, lease: SharedBytes) -> None:
        """Start the thread. All handles refer to `lease`."""
        number: Any = lease.__reduce__()[1]
        self._lease = number
        thread = Thread(self._run, "ActorOwner")
        # Before this process ends its children: they would be started again.
        self._at_exit = util.Finalize(None, _end_at_exit, (weakref.ref(self), thread), None, 20)
        thread.start()
        self._thread = thread

    def drop(self) -> None:
        """Note that this process has no handle any more."""
        self._is_dropped = True
        self.board.orders.put(("look", 0, None))

    def kill(self) -> None:
        """End an actor whose making was interrupted."""
        self.board.orders.put(("exit", 0, None))  # the thread may run already
        if self._process is not None and self._process._popen is not None:
            self._process.kill()
            self._process.join()

    def _start_process(self) -> None:
        assert self._arguments is not None
        process: Any = self._context.Process(
            target=serve,
            args=(self.board.states(), self.key, self._incarnation, *self._arguments),
        )
        process.name = self.name
        process.daemon = True
        process._config["nests"] = True  # it may have children nevertheless
        self._process = process
        process.start()

    def _run(self) -> None:
        orders = self.board.orders
        try:
            while True:
                ready = wait([self._process.sentinel, orders._readable_fd()], self._pause())
                while True:
                    try:
                        self._obey(*orders.get(False))
                    except Empty:
                        break
                if self._process.sentinel in ready:
                    if not self._go_on():
                        return
                elif self._is_dropped and not self._has_handles():
                    self._obey("close", os.getpid(), None)
                if self._is_closing and not self._is_closed:
                    self._close()
        except BaseException as error:
            self._process.kill()
            text = f"can no longer be watched by its owner ({type(error).__name__}: {error})"
            self._finish(Ending(text, 0))
            raise
        finally:
            self._at_exit.cancel()

    def _pause(self) -> float | None:
        """Return how many seconds to wait at most."""
        if self._is_closing and not self._is_closed:
            return SHORT_SLICE  # for room in the queue
        return SLICE if self._is_dropped and not self._is_closing else None

    def _obey(self, order: str, sender: int, value: Any) -> None:
        if order == "failed":
            self._failure = (sender, value)
        elif order == "made":
            self._failures = -1
        elif order == "close" and self._ordered is None:
            self._ordered, self._is_closing = _CLOSED, True
        elif order == "terminate":
            self._ordered = f"was terminated by process {sender}"
            self._process.kill()
        elif order == "exit":
            self._ordered = f"has ended with its owner, process {os.getpid()}"
            self._process.kill()

    def _has_handles(self) -> bool:
        """Return whether any process, or any message on its way, has a handle."""
        assert self._lease is not None
        try:
            attach_shared(*self._lease)
        except ValueError:
            return False
        return True

    def _close(self) -> None:
        """Ask the actor to end after the requests that it has got."""
        try:
            self.board.requests.put((self._incarnation, 0, None, None, None, None, None), False)
            self._is_closed = True
        except Full:
            pass

    def _go_on(self) -> bool:
        """Start the actor anew after its process has ended; return False if it ends for good."""
        process = self._process
        process.join()
        pid, exitcode = process.pid, process.exitcode
        if exitcode < 0:
            text = f"lost its process {pid}, killed by {_describe_exitcode(exitcode).lstrip('-')}"
        else:
            text = f"lost its process {pid}, which exited with code {exitcode}"
        # A process that is closed ends by itself, with code 0.
        is_lost = self._ordered == _CLOSED and exitcode != 0
        if self._ordered is not None and not is_lost:
            return self._finish(Ending(self._ordered, pid, exitcode))
        if self._failure is not None and self._failure[0] == self._incarnation:
            text = f"could not be made in process {pid}: its constructor raised an exception"
            return self._finish(Ending(text, pid, exitcode, True, self._failure[1]))
        if is_lost:
            return self._finish(Ending(f"{text}, while it was being closed", pid, exitcode))
        self._failures += 1
        if self._failures >= _FAILURES:
            text += f", as {_FAILURES} in a row did before the object was made"
            return self._finish(Ending(text, pid, exitcode))
        if self._max_restarts is not None and self._incarnation >= self._max_restarts:
            return self._finish(Ending(text, pid, exitcode))
        self._incarnation += 1
        ending = Ending(text, pid, exitcode, False)
        # Calls under way fail now, not only when another process has started.
        self.board.write(self._incarnation, STARTING, 0, ending)
        try:
            self._start_process()
        except Exception as error:
            text += ", and could not be started again"
            return self._finish(Ending(text, pid, exitcode, True, _pack_exception(error)))
        self.board.write(self._incarnation, UP, self._process.pid, ending)
        return True

    def _finish(self, ending: Ending) -> bool:
        self._arguments = None
        self.board.write(self._incarnation, DOWN, ending.pid, ending)
        return False


def _end_at_exit(ref: weakref.ref[Owner], thread: Thread) -> None:
    owner = ref()
    if owner is not None:
        owner.board.orders.put(("exit", 0, None))
        thread.join()


def numbered(make: Any) -> str:
    """Return the name of an actor that was given none."""
    return f"{getattr(make, '__name__', type(make).__name__)}-{next(_numbers)}"
