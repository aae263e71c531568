"""Pipes: round trips, and messages in one direction."""

from __future__ import annotations

from rows import row

from .timing import clock


def answer(mine, other):
    """Send each message back, until None."""
    other.close()
    for request in iter(mine.recv, None):
        mine.send(request)


@row("round trip over a pipe", "us", 25)
def pipe_round_trip(library, count=3_000):
    """Return microseconds from a `send` to the `recv` of its echo."""
    mine, theirs = library.Pipe()
    process = library.Process(target=answer, args=(theirs, mine))
    process.start()
    theirs.close()
    for warm in (True, False):
        begin = clock()
        for number in range(300 if warm else count):
            mine.send(number)
            mine.recv()
        seconds = clock() - begin
    mine.send(None)
    process.join()
    return seconds / count * 1e6


@row("round trip over a pipe, on one core", "us", 2.5, one_core=True)
def pipe_one_core(library):
    return pipe_round_trip(library, 2_000)


def transmit(writer, name, message, count):
    send = getattr(writer, name)
    for _ in range(count):
        send(message)


def one_way(library, send, receive, message, count, duplex=False):
    """Return messages per second from one process to another."""
    reader, writer = library.Pipe(duplex)
    process = library.Process(target=transmit, args=(writer, send, message, count + 1))
    process.start()
    receive = getattr(reader, receive)
    receive()
    begin = clock()
    for _ in range(count):
        receive()
    seconds = clock() - begin
    process.join()
    return count / seconds


@row("pipe, send_bytes of 8 bytes", "/s", 2)
def pipe_small(library):
    return one_way(library, "send_bytes", "recv_bytes", bytes(8), 100_000)


@row("pipe, send_bytes of 64 KB", "/s", 5)
def pipe_bytes(library):
    return one_way(library, "send_bytes", "recv_bytes", bytes(1 << 16), 10_000)


@row("pipe of both directions, tuples with 100 KB", "/s")
def pipe_tuples(library):
    return one_way(library, "send", "recv", (1, bytes(100_000)), 5_000, duplex=True)


@row("pipe of both directions, strings of 100 KB", "/s")
def pipe_strings(library):
    return one_way(library, "send", "recv", "x" * 100_000, 5_000, duplex=True)


@row("pipe, arrays of 1 MB", "/s", 15)
def pipe_arrays(library):
    import numpy

    return one_way(library, "send", "recv", numpy.ones(1 << 17), 500)
