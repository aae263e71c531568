"""Descriptors for processes that are not known yet.

A thread sends each to the peer with the right number and key.

This is used when an object that holds a descriptor is pickled for a process that is already
running. A process that is being started gets its descriptors from its parent.
"""

from __future__ import annotations

import os
import threading

from . import process, util
from ._threads import Thread
from .context import reduction

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DupFd", "stop"]


class DupFd:
    """A picklable duplicate of a descriptor; `detach` works once, in any process of the family."""

    def __init__(self, fd: int) -> None:
        duplicate = os.dup(fd)

        def send(conn: Any, pid: int) -> None:
            reduction.send_handle(conn, duplicate, pid)

        def close() -> None:
            os.close(duplicate)

        self._id = _resource_sharer.register(send, close)

    def detach(self) -> int:
        """Return the descriptor in this process.

        Raises OSError or EOFError when the sender is gone or the descriptor was already taken.
        """
        with _ResourceSharer.get_connection(self._id) as conn:
            return reduction.recv_handle(conn)


class _ResourceSharer:
    """The resources waiting to be taken, and the thread that sends them.

    The thread starts with the first registration.
    """

    def __init__(self) -> None:
        self._key = 0
        self._cache: dict[int, tuple[Any, Any]] = {}
        # Reentrant: a signal handler may take it in the thread that holds it.
        self._lock = util.free_in_child(threading.RLock())
        self._listener: Any = None
        self._address: Any = None
        self._thread: threading.Thread | None = None
        util.register_after_fork(self, _ResourceSharer._afterfork)

    def register(self, send: Any, close: Any) -> tuple[Any, int]:
        """Keep a resource until it is taken, by `send(connection, pid)` and then `close()`.

        Return the identifier that takes it.
        """
        with self._lock:
            if self._address is None:
                self._start()
            self._key += 1
            self._cache[self._key] = (send, close)
            return self._address, self._key

    @staticmethod
    def get_connection(ident: tuple[Any, int]) -> Any:
        """Return the connection over which the resource is sent."""
        from .connection import Client

        address, key = ident
        conn = Client(address, authkey=process.current_process().authkey)
        conn.send((key, os.getpid()))
        return conn

    def stop(self, timeout: float | None = None) -> None:
        """End the thread, waiting up to `timeout` seconds, and drop what was not taken."""
        from .connection import Client

        with self._lock:
            if self._address is None:
                return
            with Client(self._address, authkey=process.current_process().authkey) as conn:
                conn.send(None)
            assert self._thread is not None
            self._thread.join(timeout)
            if self._thread.is_alive():
                util.sub_warning("_ResourceSharer thread did not stop when asked")
            self._forget()

    def _forget(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._listener = self._address = self._thread = None
        for _send, close in self._cache.values():
            close()
        self._cache.clear()

    def _afterfork(self) -> None:
        self._forget()

    def _start(self) -> None:
        from .connection import Listener

        util.debug("starting listener and thread for sending handles")
        self._listener = Listener(authkey=process.current_process().authkey, backlog=128)
        self._address = self._listener.address
        self._thread = Thread(self._serve, "ResourceSharer", (self._listener,))
        self._thread.start()

    def _serve(self, listener: Any) -> None:
        import signal
        import sys

        # Signals are for the program's own threads.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            try:
                with listener.accept() as conn:
                    request = conn.recv()
                    if request is None:
                        return
                    key, pid = request
                    send, close = self._cache.pop(key)
                    try:
                        send(conn, pid)
                    finally:
                        close()
            except Exception:
                if util.is_exiting():
                    return
                sys.excepthook(*sys.exc_info())


_resource_sharer = _ResourceSharer()
stop = _resource_sharer.stop
