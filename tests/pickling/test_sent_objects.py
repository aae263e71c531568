"""Shared objects and descriptors inside other objects.

These are queue items, tasks and results, containers, and user-defined objects.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import socket
import time
from typing import Any

import pytest

import procession


@dataclasses.dataclass
class Box:
    """A user-defined object around something shared."""

    content: Any


def shared_things(ctx):
    """Return one shared object of each kind, each inside something."""
    return {
        "lock": Box(ctx.Lock()),
        "rlock": [ctx.RLock()],
        "semaphore": (ctx.Semaphore(2),),
        "bounded": {"s": ctx.BoundedSemaphore(1)},
        "condition": Box([ctx.Condition()]),
        "event": Box(ctx.Event()),
        "barrier": Box(ctx.Barrier(1)),
        "queue": Box(ctx.Queue()),
        "joinable": Box(ctx.JoinableQueue()),
        "simple": Box(ctx.SimpleQueue()),
        "value": Box(ctx.Value("i", 5)),
        "raw value": Box(ctx.RawValue("i", 5)),
        "array": Box(ctx.Array("i", [1, 2])),
        "raw array": Box(ctx.RawArray("i", [1, 2])),
    }


def use_all(things):
    """Leave a trace in each that other processes see."""
    things["lock"].content.acquire()
    things["rlock"][0].acquire()
    things["rlock"][0].release()
    things["semaphore"][0].acquire()
    things["bounded"]["s"].acquire()
    with things["condition"].content[0] as held:
        assert held
    things["event"].content.set()
    things["barrier"].content.wait()
    for name in ("queue", "joinable", "simple"):
        things[name].content.put(Box(things["event"].content))
    things["value"].content.value += 1
    things["raw value"].content.value += 1
    things["array"].content[0] += 10
    things["raw array"].content[0] += 10
    return things


def check_all(things):
    assert not things["lock"].content.acquire(block=False)
    things["lock"].content.release()
    assert things["semaphore"][0].acquire(block=False)
    assert not things["semaphore"][0].acquire(block=False)
    assert not things["bounded"]["s"].acquire(block=False)
    assert things["event"].content.is_set()
    for name in ("queue", "joinable", "simple"):
        assert things[name].content.get().content.is_set()
    assert things["value"].content.value == 6
    assert things["raw value"].content.value == 6
    assert things["array"].content[:] == [11, 2]
    assert things["raw array"].content[:] == [11, 2]


def serve(requests, answers):
    for things in iter(requests.get, None):
        answers.put(use_all(things))


def test_shared_things_in_items(ctx):
    requests, answers = ctx.Queue(), ctx.SimpleQueue()
    child = ctx.Process(target=serve, args=(requests, answers))
    child.start()
    things = shared_things(ctx)
    requests.put(things)
    back = answers.get()
    check_all(things)  # while the child, which holds a lock, is alive
    requests.put(None)
    assert back["value"].content.value == 6 and back["event"].content.is_set()
    child.join()
    assert child.exitcode == 0


def test_shared_things_in_tasks(ctx):
    with ctx.Pool(1) as pool:
        for call in (
            lambda things: pool.apply(use_all, (things,)),
            lambda things: pool.map(use_all, [things])[0],
            lambda things: next(pool.imap(use_all, [things])),
            lambda things: pool.starmap(use_all, [(things,)])[0],
        ):
            things = shared_things(ctx)
            back = call(things)
            check_all(things)
            assert back["value"].content.value == 6


def answer(end):
    """Double a number that comes over a connection or a socket."""
    if isinstance(end, socket.socket):
        with end:
            end.sendall(end.recv(10) * 2)
    else:
        with end:
            end.send(end.recv() * 2)


def serve_ends(requests):
    for box in iter(requests.get, None):
        answer(box.content)


def pairs():
    """Yield two connected ends of each kind, and the functions to use the first."""
    yield (*procession.Pipe(), lambda end: (end.send("ab"), end.recv())[1])
    ours, theirs = socket.socketpair()
    yield ours, theirs, lambda end: (end.sendall(b"ab"), end.recv(10))[1].decode()


def at_end(end):
    if isinstance(end, socket.socket):
        return end.recv(1) == b""
    with pytest.raises(EOFError):
        end.recv()
    return True


def test_ends_of_pipes_and_sockets_in_items(ctx):
    requests = ctx.Queue()
    child = ctx.Process(target=serve_ends, args=(requests,))
    child.start()
    for ours, theirs, talk in pairs():
        requests.put(Box(theirs))
        theirs.close()
        assert talk(ours) == "abab"
        assert at_end(ours), "no copy is left open"
        ours.close()
    requests.put(None)
    child.join()
    assert child.exitcode == 0


def test_ends_of_pipes_and_sockets_in_tasks(ctx):
    with ctx.Pool(2) as pool:
        for ours, theirs, talk in pairs():
            done = pool.map_async(answer, [theirs])
            theirs.close()
            assert talk(ours) == "abab"
            done.get()
            assert at_end(ours)
            ours.close()


def make_pair(_):
    ours, theirs = procession.Pipe()
    ours.send("from a worker")
    return Box([theirs])


def test_ends_of_pipes_in_results(ctx):
    with ctx.Pool(1) as pool:
        for box in pool.map(make_pair, range(3)):
            assert box.content[0].recv() == "from a worker"
            assert at_end(box.content[0])


def test_a_function_with_an_end_reaches_every_worker(ctx):
    receiver, sender = procession.Pipe(duplex=False)
    with ctx.Pool(2) as pool:
        pool.map(lambda number: sender.send_bytes(bytes([number])), range(20), chunksize=1)
    assert sorted(receiver.recv_bytes()[0] for _ in range(20)) == list(range(20))


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_what_is_never_read_is_closed(ctx):
    queue = ctx.Queue()
    before = open_descriptors()
    others = []
    for _ in range(10):
        ours, theirs = procession.Pipe()
        queue.put(theirs)
        others.append(ours)
        del theirs
    del queue
    gc.collect()
    assert all(at_end(end) for end in others)
    del others, ours
    deadline = time.monotonic() + 20
    while open_descriptors() > before:
        assert time.monotonic() < deadline


def put_an_end(queue):
    queue.put(procession.Pipe()[0])


def test_unread_ends_are_lost_with_their_sender(ctx):
    queue = ctx.Queue()
    child = ctx.Process(target=put_an_end, args=(queue,))
    child.start()
    child.join()
    with pytest.raises(ValueError, match="its sender has ended"):
        queue.get(timeout=30)


class Descriptor:
    """Known by a descriptor, as a tensor's storage, with a reducer that the program registers."""

    def __init__(self, fd):
        self.fd = fd


def rebuild_descriptor(duplicate):
    return Descriptor(duplicate.detach())


@pytest.fixture
def with_reducer():
    pickler = procession.reduction.ForkingPickler
    pickler.register(
        Descriptor,
        lambda thing: (rebuild_descriptor, (procession.reduction.DupFd(thing.fd),)),
    )
    yield
    del pickler._extra_reducers[Descriptor]


def read_from(thing):
    text = os.pread(thing.fd, 100, 0)
    os.close(thing.fd)
    return text


def put_what_is_read(thing, queue):
    queue.put(read_from(thing))


def test_registered_reducers_may_pass_descriptors(ctx, tmp_path, with_reducer):
    (tmp_path / "file").write_bytes(b"content")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    queue = ctx.Queue()
    queue.put([Descriptor(fd)])
    assert read_from(queue.get()[0]) == b"content"
    with ctx.Pool(1) as pool:
        assert pool.map(read_from, [Descriptor(fd)]) == [b"content"]
        assert pool.apply(lambda thing: read_from(thing), (Descriptor(fd),)) == b"content"
    child = ctx.Process(target=put_what_is_read, args=(Descriptor(fd), queue))
    child.start()
    assert queue.get(timeout=30) == b"content"
    child.join()
    here, there = procession.Pipe()
    here.send(Descriptor(fd))
    assert read_from(there.recv()) == b"content"
    os.close(fd)


#: The module of sockets is loaded after the first objects were pickled.
SOCKETS_LATER = """
import procession
from procession.reduction import ForkingPickler

class Thing:
    pass

queue = procession.Queue()
queue.put([object(), Thing])
ForkingPickler.dumps([object()])
queue.get()

import io
import socket
import sys

sys.modules["procession._pickling.by_value"] = None  # what pickle refuses is refused

def pickled_by_hand(end):
    ForkingPickler(file := io.BytesIO()).dump(end)
    return file.getvalue()

def through_the_queue(end):
    queue.put([end])
    return queue.get()[0]

for copy in (
    through_the_queue,
    lambda end: ForkingPickler.loads(ForkingPickler.dumps([end]))[0],
    lambda end: ForkingPickler.loads(pickled_by_hand(end)),
):
    one, other = socket.socketpair()
    with one, other, copy(one) as duplicate:
        duplicate.sendall(b"text")
        print(type(duplicate) is socket.socket, duplicate.fileno() != one.fileno(), other.recv(10))
"""


def test_sockets_that_are_loaded_after_the_reducers(run_program):
    done = run_program(SOCKETS_LATER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True b'text'\n" * 3, "")
