"""Descriptors for processes that are not known yet.

A thread sends each to the peer with the right number and key.

This is used when an object that holds a descriptor is pickled for a process that is already
running. A process that is being started gets its descriptors from its parent.
"""

from __future__ import annotations

import itertools
import os

from . import process, util
from ._threads import RLock, Thread, report
from .connection import Client, Listener
from .context import reduction

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["DupFd", "stop"]


class DupFd:
    """A picklable duplicate of a descriptor; `detach` works once, in any process of the family."""

    def __init__(self, fd: int) -> None:
        duplicate = os.dup(fd)
        self._id = _resource_sharer.register(
            lambda conn, pid: reduction.send_handle(conn, duplicate, pid),
            lambda: os.close(duplicate),
        )

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

    #: The listener and the thread that serves it, while they run.
    _service: tuple[Any, Thread] | None = None

    def __init__(self) -> None:
        # Reentrant: a signal handler may take it in the thread that holds it.
        self._lock = util.free_in_child(RLock())
        self._keys = itertools.count(1)
        self._cache: dict[int, tuple[Any, Any]] = {}
        util.register_after_fork(self, _ResourceSharer._forget)

    # What programs read to see whether the thread runs.
    @property
    def _listener(self) -> Any:
        return self._service and self._service[0]

    @property
    def _thread(self) -> Thread | None:
        return self._service and self._service[1]

    @property
    def _address(self) -> Any:
        return self._service and self._service[0].address

    def register(self, send: Any, close: Any) -> tuple[Any, int]:
        """Keep a resource until it is taken, by `send(connection, pid)` and then `close()`.

        Return the identifier that takes it.
        """
        with self._lock:
            listener, _thread = self._service or self._start()
            key = next(self._keys)
            self._cache[key] = send, close
            return listener.address, key

    @staticmethod
    def get_connection(ident: tuple[Any, int]) -> Any:
        """Return the connection over which the resource is sent."""
        address, key = ident
        return _asking(address, (key, os.getpid()))

    def stop(self, timeout: float | None = None) -> None:
        """End the thread, waiting up to `timeout` seconds, and drop what was not taken."""
        with self._lock:
            if self._service is not None:
                listener, thread = self._service
                _asking(listener.address, None).close()
                thread.join(timeout)
                if thread.is_alive():
                    util.sub_warning("_ResourceSharer thread did not stop when asked")
                self._forget()

    def _forget(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            service[0].close()
        while self._cache:
            _key, (_send, close) = self._cache.popitem()
            close()

    def _start(self) -> tuple[Any, Thread]:
        util.debug("starting listener and thread for sending handles")
        listener = Listener(authkey=process.current_process().authkey, backlog=128)
        thread = Thread(self._serve, "ResourceSharer", (listener,))
        self._service = listener, thread
        thread.start()
        return self._service

    def _serve(self, listener: Any) -> None:
        import signal

        # Signals are for the program's own threads.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while self._serve_one(listener):
            pass

    def _serve_one(self, listener: Any) -> bool:
        """Send a resource to the next peer. Return False if the peer asks the thread to end."""
        try:
            with listener.accept() as conn:
                request = conn.recv()
                if request is not None:
                    self._hand_over(conn, *request)
                return request is not None
        except BaseException as error:
            if util.is_exiting():
                return False
            report(error)
            return True

    def _hand_over(self, conn: Any, key: int, pid: int) -> None:
        send, close = self._cache.pop(key)
        try:
            send(conn, pid)
        finally:
            close()


def _asking(address: Any, request: Any) -> Any:
    """Connect to a process's resource sharer and send it a request; return the connection."""
    conn = Client(address, authkey=process.current_process().authkey)
    conn.send(request)
    return conn


_resource_sharer = _ResourceSharer()
stop = _resource_sharer.stop
