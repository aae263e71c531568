"""`put_many` and `get_many`: order, bounds, refusals, interrupts, several processes."""

from __future__ import annotations

import _thread
import dataclasses
import os
import pathlib
import select
import signal
import threading

import pytest

import procession
from procession import connection, queues
from tests.waiting import LONG, until

fork = procession.get_context("fork")
KINDS = [fork.Queue, fork.JoinableQueue, fork.SimpleQueue]


@pytest.mark.parametrize("make", KINDS)
def test_items_come_in_order(make):
    queue = make()
    items = [1, "two", 3.0, None, (4, [5, {"six": b"7"}]), b"x" * 1000, "y" * 100_000, *range(100)]
    queue.put_many(items)
    queue.put_many(iter("ab"))
    queue.put_many([])
    assert queue.get() == 1
    assert queue.get_many(50) + queue.get_many(1000) == [*items[1:], "a", "b"]
    assert queue.empty()


def test_no_more_than_the_maximum_and_no_wait_for_more():
    queue = fork.Queue()
    queue.put_many(range(5))
    assert queue.get_many(2) == [0, 1]
    assert queue.get_many(max=2, block=False) == [2, 3]
    assert queue.get_many(2, True, None) == [4]
    for kwargs in ({"block": False}, {"timeout": 0.01}, {"timeout": -1}):
        with pytest.raises(queues.Empty):
            queue.get_many(2, **kwargs)


@pytest.mark.parametrize("max", [0, -1])
def test_a_maximum_below_one_is_refused(max):
    with pytest.raises(ValueError, match="at least 1"):
        fork.Queue().get_many(max)


def send(queue, count):
    for first in range(0, count, 70):
        queue.put_many(range(first, min(first + 70, count)))


def test_between_processes(ctx):
    queue = ctx.Queue(100)
    sender = ctx.Process(target=send, args=(queue, 5000))
    sender.start()
    got = []
    while len(got) < 5000:
        run = queue.get_many(60)
        assert 1 <= len(run) <= 60
        got += run
    sender.join()
    assert got == list(range(5000))
    assert queue.empty() and sender.exitcode == 0


def answer(queue, results):
    while (run := queue.get_many(8)) != [None]:
        results.put_many(x * x for x in run if x is not None)
        for _ in run:
            queue.task_done()
        if None in run:
            break


def test_tasks_are_counted(ctx):
    queue, results = ctx.JoinableQueue(), ctx.SimpleQueue()
    worker = ctx.Process(target=answer, args=(queue, results))
    worker.start()
    queue.put_many([*range(100), None])
    queue.join()
    worker.join()
    got = []
    while not results.empty():
        got += results.get_many(1000)
    assert got == [x * x for x in range(100)]
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def wait_for_one(queue, got):
    got.put(queue.get_many(5))


def test_each_of_several_consumers_is_woken(ctx):
    queue, got = ctx.Queue(), ctx.Queue()
    consumers = [ctx.Process(target=wait_for_one, args=(queue, got)) for _ in range(3)]
    for consumer in consumers:
        consumer.start()
    items = []
    while len(items) < 3:
        # A consumer may take what another one was woken for: that one sleeps on.
        queue.put_many([1, 2, 3])
        items.append(got.get())
    for consumer in consumers:
        consumer.join()
    assert all(set(run) <= {1, 2, 3} and run for run in items)


def test_as_many_as_there_is_room_for():
    queue = fork.Queue(3)
    with pytest.raises(queues.Full) as caught:
        queue.put_many(range(5), block=False)
    assert caught.value.put_count == 3
    with pytest.raises(queues.Full) as caught:
        queue.put_many([3, 4], timeout=0.01)
    assert caught.value.put_count == 0
    assert queue.get_many(9) == [0, 1, 2]
    queue.put_many([3, 4], timeout=0.01)
    assert queue.get_many(9) == [3, 4]


@pytest.mark.parametrize("make", KINDS)
def test_if_one_cannot_be_pickled_none_is_put(make):
    class Refused:
        def __reduce__(self):
            raise ZeroDivisionError

    queue = make()
    with pytest.raises(ZeroDivisionError):
        queue.put_many([1, 2, Refused(), 4])

    def fail():
        yield 1
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        queue.put_many(fail())
    with pytest.raises(TypeError):
        queue.put_many(5)
    assert queue.empty()


def test_a_closed_queue_says_so():
    queue, simple = fork.Queue(), fork.SimpleQueue()
    queue.close()
    simple.close()
    for use in (lambda: queue.put_many([1]), lambda: queue.get_many(1)):
        with pytest.raises(ValueError, match="is closed"):
            use()
    for use in (lambda: simple.put_many([1]), lambda: simple.get_many(1)):
        with pytest.raises(OSError, match="handle is closed"):
            use()


class Interrupt(Exception):
    """What the handler of a test's signal raises."""


@pytest.fixture
def rung():
    """Have SIGALRM raise `Interrupt`."""

    def ring(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupt_amid_a_put(rung):
    queue = fork.Queue(3)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(Interrupt) as caught:
        queue.put_many(range(9))
    assert caught.value.put_count == 3
    assert queue.get_many(9) == [0, 1, 2]
    assert queue.empty()


def bells(number):
    """Return an iterator of items None, each of which sends SIGALRM. No Python code runs between them."""
    return map(_thread.interrupt_main, [signal.SIGALRM] * number)


@pytest.mark.parametrize("options", [{}, {"block": False}])
def test_an_interrupt_of_a_put_that_does_not_wait(rung, options):
    queue = fork.Queue(5)
    for number, put in ((4, 4), (4, 1)):
        with pytest.raises(Interrupt) as caught:
            queue.put_many(bells(number), **options)
        assert caught.value.put_count == put
    assert queue.get_many(9) == [None] * 5


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An exception that refuses attributes."""

    number: int


def test_the_handler_s_exception_is_raised_even_if_it_refuses_attributes(rung):
    def ring(*_):
        raise Frozen(3)

    signal.signal(signal.SIGALRM, ring)
    with pytest.raises(Frozen):
        fork.Queue().put_many(bells(1))


class Bell:
    """An item that is None in the queue's messages, and whose unpickling sends SIGALRM."""

    def __reduce__(self):
        return _thread.interrupt_main, (signal.SIGALRM,)


@pytest.mark.parametrize("options", [{}, {"block": False}])
@pytest.mark.parametrize("at", [0, 50, 99])
def test_an_interrupt_of_a_get_that_does_not_wait_loses_nothing(rung, at, options):
    queue = fork.Queue()
    queue.put_many([*range(at), Bell(), *range(at + 1, 100)])
    with pytest.raises(Interrupt):
        queue.get_many(1000, **options)
    assert queue.qsize() == 100
    assert queue.get_many(1000) == [*range(at), None, *range(at + 1, 100)]
    assert queue.empty()


def test_an_interrupt_while_kept_items_are_returned_loses_nothing(broken, rung):
    broken.put_many([Bell(), "last"])
    with pytest.raises(Interrupt):
        broken.get_many(len(REST) + 1)
    assert broken.get_many(1000) == [*REST, None, "last"]


def test_an_interrupt_while_a_get_waits(rung):
    queue = fork.Queue()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(Interrupt):
        queue.get_many(9)
    queue.put_many([1, 2])
    assert queue.get_many(9) == [1, 2]


def fail_once(path, number):
    """Return the number; once, raise."""
    if os.path.exists(path):
        os.unlink(path)
        raise Interrupt
    return number


class Reluctant:
    """An item that cannot be unpickled while there is a file."""

    def __init__(self, path, number):
        self.path, self.number = path, number

    def __reduce__(self):
        return fail_once, (self.path, self.number)


@pytest.fixture
def broken(tmp_path):
    """Return a queue whose `get_many` has failed at the third of its items."""
    queue = fork.Queue()
    path = tmp_path / "trap"
    path.touch()
    queue.put_many([0, b"x" * 1000, Reluctant(str(path), 2), 3, b"y" * 1000, *range(5, 50)])
    with pytest.raises(Interrupt):
        queue.get_many(100)
    return queue


REST = [0, b"x" * 1000, 3, b"y" * 1000, *range(5, 50)]


def test_what_was_taken_before_an_exception_comes_next(broken):
    assert broken.qsize() == len(REST)
    assert broken.get_many(1) == REST[:1]
    assert broken.get() == REST[1]
    assert not broken.empty()
    assert broken.get_nowait() == REST[2]
    broken.put("last")
    assert broken.get_many(1000) == [*REST[3:], "last"]
    assert broken.empty() and broken.qsize() == 0


def test_twice_in_a_row(broken, tmp_path):
    path = tmp_path / "trap"
    path.touch()
    broken.put_many([Reluctant(str(path), 2), "last"])
    with pytest.raises(Interrupt):
        broken.get_many(1000)
    assert broken.get_many(1000) == [*REST, "last"]


def test_a_child_does_not_get_what_its_parent_has_taken(broken):
    results = fork.Queue()

    def rest():
        results.put(broken.get_many(1000))

    child = fork.Process(target=rest)
    child.start()
    in_the_queue = results.get()
    child.join()
    taken = broken.get_many(1000)
    assert taken and in_the_queue and taken + in_the_queue == REST


def test_what_is_kept_is_ready_at_once(broken):
    assert broken._reader.poll(0)


def is_readable(reader):
    return bool(select.select([reader], [], [], 0)[0])


@pytest.mark.parametrize("before", [True, False])
def test_a_descriptor_is_readable_while_something_is_kept(tmp_path, before):
    queue = fork.Queue()
    if before:
        assert not is_readable(queue._reader)
    path = tmp_path / "trap"
    path.touch()
    queue.put_many([0, Reluctant(str(path), 1), 2, 3])
    with pytest.raises(Interrupt):
        queue.get_many(9)
    for item in (0, 2, 3):
        assert is_readable(queue._reader) and connection.wait([queue._reader], 0)
        assert queue.get() == item
    assert not is_readable(queue._reader) and queue.empty()
    queue.put(4)
    until(lambda: is_readable(queue._reader))


class Hooked:
    """An item whose unpickling calls what `hook` is then."""

    def __reduce__(self):
        return call_hook, ()


def hook():
    raise NotImplementedError


def call_hook():
    return hook()


@pytest.mark.parametrize(
    ("wait", "first", "rest"),
    [
        (lambda queue: queue.get(timeout=LONG), 1, [3, 4]),
        (lambda queue: queue.get_many(2, timeout=LONG), [1, 3], [4]),
        (lambda queue: queue._reader.poll(LONG), True, [1, 3, 4]),
        (lambda queue: len(connection.wait([queue._reader], LONG)), 1, [1, 3, 4]),
    ],
    ids=["get", "get_many", "poll", "wait"],
)
def test_a_thread_that_waits_already_is_told_of_what_is_kept(monkeypatch, wait, first, rest):
    queue = fork.Queue()
    got = []
    thread = threading.Thread(target=lambda: got.append(wait(queue)))

    def is_asleep():
        stat = pathlib.Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "S"

    def begin_and_fail():
        thread.start()
        until(is_asleep)
        raise Interrupt

    monkeypatch.setattr(f"{__name__}.hook", begin_and_fail)
    queue.put_many([1, Hooked(), 3, 4])
    with pytest.raises(Interrupt):
        queue.get_many(9)
    thread.join()
    assert got == [first]
    assert queue.get_many(9, block=False) == rest


def test_what_is_put_meanwhile_is_left_for_the_next(monkeypatch):
    queue = fork.Queue()
    monkeypatch.setattr(f"{__name__}.hook", lambda: queue.put_many([Hooked(), Hooked()]))
    queue.put_many([Hooked()] * 50)
    for number in (50, 100):
        assert queue.get_many(1000) == [None] * number
    assert queue.qsize() == 200


def take(queue, begun):
    begun.set()
    while True:
        queue.get_many(5)


def test_killed_at_work(ctx):
    queue, begun = ctx.Queue(50), ctx.Event()
    for _ in range(2):
        victim = ctx.Process(target=take, args=(queue, begun))
        victim.start()
        begun.wait()
        begun.clear()
        queue.put_many(range(500))
        victim.kill()
        victim.join()
        while not queue.empty():
            queue.get_many(50)
    queue.put_many(range(10))
    assert queue.get_many(50) == list(range(10))


def test_references_go_along():
    queue, inner = fork.Queue(), fork.Queue()
    inner.put("inside")
    queue.put_many([inner, inner])
    first, second = queue.get_many(5)
    assert first.get() == "inside" and second.empty()


def test_signatures_are_like_those_of_put_and_get():
    import inspect

    assert str(inspect.signature(fork.Queue().put_many)) == "(items, block=True, timeout=None)"
    assert str(inspect.signature(fork.Queue().get_many)) == "(max, block=True, timeout=None)"
    assert str(inspect.signature(fork.SimpleQueue().put_many)) == "(items)"
    assert str(inspect.signature(fork.SimpleQueue().get_many)) == "(max)"
