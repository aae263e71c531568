"""Every blocking call with signals: a handler that raises ends it, another does not.

Its timeout holds even under a storm of signals.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import signal
import threading
import time

import pytest

import procession
from procession import connection

#: A wait that only a signal ends.
LONG = 30


class Rang(Exception):
    pass


def held(kind):
    """Return a lock that a thread holds until the returned function is called."""
    lock, taken, done = getattr(procession, kind)(), threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()

    def end():
        done.set()
        thread.join()

    return lock, end


def lock(kind):
    one, end = held(kind)
    return one.acquire, lambda result: result is False, end


def condition():
    one = procession.Condition()

    def wait(timeout=None):
        with one:
            return one.wait(timeout)

    return wait, lambda result: result is False, None


def event():
    return procession.Event().wait, lambda result: result is False, None


def semaphore():
    return procession.Semaphore(0).acquire, lambda result: result is False, None


def recovering():
    return procession.Semaphore(0, recover="silent").acquire, lambda result: result is False, None


def barrier():
    def wait(timeout=None):
        try:
            return procession.Barrier(2).wait(timeout)
        except threading.BrokenBarrierError:
            return "broken"

    return wait, lambda result: result == "broken", None


def get():
    one = procession.Queue()

    def call(timeout=None):
        try:
            return one.get(True, timeout)
        except Exception as error:
            if isinstance(error, Rang):
                raise
            return type(error).__name__

    return call, lambda result: result == "Empty", None


def put():
    one = procession.Queue(1)
    one.put(1)

    def call(timeout=None):
        try:
            return one.put(2, True, timeout)
        except Exception as error:
            if isinstance(error, Rang):
                raise
            return type(error).__name__

    return call, lambda result: result == "Full", None


def poll():
    ours, theirs = procession.Pipe()

    def end():
        ours.close()
        theirs.close()

    return lambda timeout=None: ours.poll(timeout), lambda result: result is False, end


def wait():
    ours, theirs = procession.Pipe()

    def end():
        ours.close()
        theirs.close()

    return lambda timeout=None: connection.wait([ours], timeout), lambda result: result == [], end


def join():
    process = procession.Process(target=signal.pause)
    process.start()

    def call(timeout=None):
        process.join(timeout)
        return process.exitcode

    def end():
        process.kill()
        process.join()

    return call, lambda result: result is None, end


def result():
    pool = procession.Pool(1)
    task = pool.apply_async(signal.pause)

    def call(timeout=None):
        try:
            return task.get(timeout)
        except procession.TimeoutError:
            return "late"

    def end():
        pool.terminate()
        pool.join()

    return call, lambda result: result == "late", end


def receive(name, duplex):
    """Receive without a timeout, since there is none.

    If the next message is whole, the interrupted call took nothing.
    """
    ours, theirs = procession.Pipe(duplex)
    buffer = bytearray(9)
    message = pickle.dumps("the next") if name == "recv" else b"the next"

    def call(timeout=None):
        if timeout is not None:
            theirs.send_bytes(message)
        return ours.recv_bytes_into(buffer) if name == "recv_bytes_into" else getattr(ours, name)()

    def end():
        ours.close()
        theirs.close()

    return call, lambda result: result in ("the next", b"the next", 8), end


def send(duplex, plain):
    """There is no reader: the call writes all that fits, then waits."""
    one, other = procession.Pipe(duplex)
    sender = one if duplex else other
    message = bytes(1 << 20)
    if plain:
        sender.fileno()
    else:
        # As many as may wait in shared memory; the next goes through the descriptor.
        for _ in range(16):
            sender.send_bytes(message)

    def call(timeout=None):
        return "not sent" if timeout is not None else sender.send_bytes(message)

    def end():
        one.close()
        other.close()

    return call, lambda result: result == "not sent", end


def accept(authkey):
    listener = connection.Listener(authkey=authkey)
    return (
        lambda timeout=None: "nobody" if timeout is not None else listener.accept(),
        lambda result: result == "nobody",
        listener.close,
    )


CALLS = {
    "lock": lambda: lock("Lock"),
    "rlock": lambda: lock("RLock"),
    "condition": condition,
    "event": event,
    "semaphore": semaphore,
    "recovering semaphore": recovering,
    "barrier": barrier,
    "queue get": get,
    "queue put": put,
    "pipe poll": poll,
    "connection.wait": wait,
    "process join": join,
    "pool get": result,
}
#: Calls without a timeout.
ENDLESS = {
    "pipe recv": lambda: receive("recv", False),
    "socket recv": lambda: receive("recv", True),
    "socket recv_bytes": lambda: receive("recv_bytes", True),
    "socket recv_bytes_into": lambda: receive("recv_bytes_into", True),
    "pipe send": lambda: send(False, plain=True),
    "socket send": lambda: send(True, plain=True),
    "pipe send, memory in use": lambda: send(False, plain=False),
    "socket send, memory in use": lambda: send(True, plain=False),
    "accept": lambda: accept(None),
    "accept with a key": lambda: accept(b"key"),
}


@pytest.fixture(params=[*CALLS, *ENDLESS])
def blocking(request):
    """A blocking call, and a function that tells whether its result is that of a timeout."""
    before = signal.getsignal(signal.SIGALRM)
    call, timed_out, end = (CALLS | ENDLESS)[request.param]()
    # An error raised in a finalizer or a callback of the collector is lost, and with it the one
    # signal that should end the call.
    gc.collect()
    gc.disable()
    yield call, timed_out
    gc.enable()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    if end is not None:
        end()


def test_a_handler_that_raises_ends_it(blocking):
    call, _timed_out = blocking

    def ring(_signal, _frame):
        raise Rang

    signal.signal(signal.SIGALRM, ring)
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(Rang):
        call()
    assert time.monotonic() - began < LONG


@pytest.mark.parametrize("blocking", CALLS, indirect=True)
def test_a_timeout_holds_in_a_storm_of_signals(blocking):
    call, timed_out = blocking
    rings = []
    signal.signal(signal.SIGALRM, lambda *_: rings.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
    began = time.monotonic()
    answer = call(timeout=0.2)
    took = time.monotonic() - began
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert timed_out(answer), answer
    assert rings
    assert 0.19 <= took < LONG


def ring(cells, pid, turns):
    """Send SIGINT in each turn, a little after its number was written, and write when.

    The other process is entering its wait then.
    """
    moments = random.Random(1)
    for turn in range(1, turns + 1):
        while cells[0] != turn:
            pass
        for _ in range(moments.randrange(1500)):
            pass
        cells[1] = time.monotonic_ns()
        os.kill(pid, signal.SIGINT)


def test_ctrl_c_is_heard_at_whatever_moment_it_comes(blocking):
    turns = 60
    call, timed_out = blocking
    cells = procession.RawArray("Q", 2)
    bell = procession.Process(target=ring, args=(cells, os.getpid(), turns), daemon=True)
    bell.start()
    for turn in range(1, turns + 1):
        with pytest.raises(KeyboardInterrupt):
            cells[0] = turn
            call()
    bell.join()
    assert bell.exitcode == 0
    assert timed_out(call(timeout=0.05)), "what was interrupted took nothing, and holds nothing"


def test_a_signal_that_wakes_nobody_is_heard(blocking):
    """A signal that does not wake the caller, because another thread gets it.

    One that comes just before the kernel puts the caller to sleep has the same effect.
    """
    call, _timed_out = blocking
    inside = threading.Event()

    def ring():
        inside.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=ring)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        inside.set()
        call()
    thread.join()


@pytest.mark.parametrize("plain", [False, True])
def test_messages_pass_whole_in_a_storm_of_signals(plain):
    signal.signal(signal.SIGALRM, lambda *_: None)
    ours, theirs = procession.Pipe()
    if plain:
        ours.fileno()
    message = bytes(range(256)) * 20_000
    thread = threading.Thread(target=lambda: theirs.send_bytes(theirs.recv_bytes()))
    thread.start()
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        ours.send_bytes(message)
        assert ours.recv_bytes() == message
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    thread.join()
    ours.close()
    theirs.close()
