"""Single messages in pipes: bytes, pickles, bounds, and how many system calls one takes."""

import pathlib
import pickle
import select
import threading

import pytest

import procession


class TestMessages:
    def test_an_array_is_a_whole_pickle_for_recv_bytes(self, pair):
        numpy = pytest.importorskip("numpy")
        reader, writer = pair
        array = numpy.arange(10_000)
        sender = threading.Thread(target=writer.send, args=(array,))
        sender.start()
        assert (pickle.loads(reader.recv_bytes()) == array).all()
        sender.join()

    @pytest.mark.parametrize("size", [2, 100_000])
    def test_bytes_that_are_a_pickle(self, pair, size):
        reader, writer = pair
        writer.send_bytes(pickle.dumps([b"x" * size]))
        assert reader.recv() == [b"x" * size]

    @pytest.mark.parametrize("size", [5, 100_000])
    def test_maxlength(self, pair, size):
        reader, writer = pair
        writer.send_bytes(b"x" * size)
        assert reader.recv_bytes(size) == b"x" * size
        writer.send_bytes(b"x" * size)
        with pytest.raises(OSError, match="bad message length"):
            reader.recv_bytes(size - 1)
        with pytest.raises(OSError, match=r"handle is closed|write-only"):
            reader.recv_bytes()

    @pytest.mark.parametrize("size", [5, 100_000])
    def test_recv_bytes_into(self, pair, size):
        reader, writer = pair
        writer.send_bytes(b"x" * size)
        buffer = bytearray(size + 2)
        assert reader.recv_bytes_into(buffer, 1) == size
        assert buffer == b"\0" + b"x" * size + b"\0"

    def test_what_send_bytes_refuses(self, package):
        reader, writer = package.Pipe()
        view = memoryview(bytes(12))
        refused = [
            ((view[::2],), (BufferError, TypeError)),
            ((view.cast("B", (3, 4))[::2],), (TypeError, NotImplementedError)),
            (("text",), TypeError),
            ((view, -1), ValueError),
            ((view, 13), ValueError),
            ((view, 3, -1), ValueError),
            ((view, 3, 10), ValueError),
        ]
        for arguments, error in refused:
            with pytest.raises(error):
                writer.send_bytes(*arguments)
        writer.send_bytes(view.cast("i"), 4, 8)
        assert reader.recv_bytes() == bytes(8)
        reader.close()
        writer.close()

    def test_a_message_that_cannot_be_pickled(self, pair):
        reader, writer = pair
        with pytest.raises((TypeError, pickle.PicklingError)):
            writer.send(n for n in ())
        writer.send("fine")
        assert reader.recv() == "fine"

    def test_a_reducer_that_uses_the_pipe(self, pair):
        reader, writer = pair
        writer.send(Sending(writer))
        assert reader.recv() == "within"
        assert reader.recv() == "made"


class Sending:
    """Sends another message while it is pickled."""

    def __init__(self, writer):
        self.writer = writer

    def __reduce__(self):
        self.writer.send("within")
        return str, ("made",)


def calls():
    """Return how many reads and writes this process made."""
    text = pathlib.Path("/proc/self/io").read_text()
    counts = dict(line.split(": ") for line in text.splitlines())
    return int(counts["syscr"]), int(counts["syscw"])


@pytest.mark.parametrize(("size", "written"), [(1, 5), (400_000, 4)])
def test_a_message_is_one_write(pair, alone, size, written):
    reader, writer = pair

    def body():
        writer.send_bytes(b"warm")
        reader.recv_bytes()
        before = calls()
        for _ in range(20):
            writer.send_bytes(b"x" * size)
            assert len(unread_of(reader)) == written
            reader.recv_bytes()
        after = calls()
        assert after[1] - before[1] == 20
        # At most two each: a large message in the socket would need more. Few reads are of `calls`
        # itself.
        assert after[0] - before[0] <= 20 * 2 + 10

    alone(body)


@pytest.mark.parametrize(("size", "written"), [(65_532, 65_536), (65_533, 4)])
def test_a_message_whose_frame_just_fits_the_kernels_pipe(size, written):
    """One byte more, and its sender would wait for a reader: then only its name is in the pipe."""
    reader, writer = procession.Pipe(duplex=False)
    writer.send_bytes(b"x" * size)
    assert len(unread_of(reader)) == written
    assert reader.recv_bytes() == b"x" * size
    reader.close()
    writer.close()


@pytest.mark.parametrize("send", ["send_bytes", "send"])
@pytest.mark.parametrize("duplex", [True, False])
def test_large_messages_in_turn_and_at_once(duplex, send, ctx):
    """Some find a receiver that spins, some wait for it, and some are in the descriptor."""
    reader, writer = ctx.Pipe(duplex)
    sizes = [60_000 + 37 * number % 10_000 for number in range(3_000)]
    sender = ctx.Process(target=send_sizes, args=(writer, send, sizes))
    sender.start()
    writer.close()
    receive = {"send_bytes": reader.recv_bytes, "send": reader.recv}[send]
    for number, size in enumerate(sizes):
        assert receive() == bytes([number % 256]) * size
        if number % 500 == 0:
            # Time for the sender to fill the descriptor, and to learn that waiting does not pay.
            select.select([sender.sentinel], [], [], 0.05)
    sender.join()
    assert sender.exitcode == 0
    reader.close()


def send_sizes(writer, send, sizes):
    for number, size in enumerate(sizes):
        getattr(writer, send)(bytes([number % 256]) * size)


def unread_of(conn):
    """Return how many bytes are in the descriptor, as a sequence of that length."""
    import array
    import fcntl
    import termios

    number = array.array("i", [0])
    fcntl.ioctl(conn._descriptor, termios.FIONREAD, number)
    return range(number[0])
