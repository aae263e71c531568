"""Connections between threads, over queues."""

from __future__ import annotations

from queue import Queue

__all__ = ["Client", "Listener", "Pipe"]

families = [None]


class Listener:
    """Accepts connections of clients that have its `address`, which is a queue."""

    def __init__(self, address=None, family=None, backlog=1):
        self._backlog_queue = Queue(backlog)

    def accept(self):
        """Wait for a client; return the connection to it."""
        return Connection(*self._backlog_queue.get())

    def close(self):
        """Stop listening."""
        self._backlog_queue = None

    @property
    def address(self):
        """The address for `Client`."""
        return self._backlog_queue

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, exc_tb):
        self.close()


def Client(address):
    """Connect to the listener at `address`; return the connection."""
    inward, outward = Queue(), Queue()
    address.put((outward, inward))
    return Connection(inward, outward)


def Pipe(duplex=True):
    """Return two connections, each the other's peer."""
    one, other = Queue(), Queue()
    return Connection(one, other), Connection(other, one)


class Connection:
    """One end of a connection: objects pass as they are, by reference."""

    def __init__(self, _in, _out):
        self._out = _out
        self._in = _in
        self.send = self.send_bytes = _out.put
        self.recv = self.recv_bytes = _in.get

    def poll(self, timeout=0.0):
        """Return whether there is something to receive, waiting up to `timeout` seconds."""
        with self._in.not_empty:
            return bool(self._in.not_empty.wait_for(self._in._qsize, timeout))

    def close(self):
        """Do nothing: the queues are freed with their last user."""

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, exc_tb):
        self.close()
