"""What the tests of pipes share."""

import os
import signal
import socket
import struct

#: A frame's header.
FRAME = struct.Struct("!i")


def echo(conn, other):
    """Send each message back, until None."""
    other.close()
    while (message := conn.recv()) is not None:
        conn.send(message)
        del message  # it may be an end of a pipe
    conn.close()


def read_exactly(descriptor, size):
    """Return `size` bytes of a descriptor, or fewer at its end."""
    data = b""
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def unread(conn):
    """Return what is in the socket of a duplex pipe's end, and leave it there."""
    with socket.socket(fileno=os.dup(conn._descriptor)) as sock:
        try:
            return sock.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


class alarm_soon:
    """Raise ZeroDivisionError in the main thread after a while."""

    def __init__(self, seconds):
        self.seconds = max(seconds, 0.001)

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *error):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)
