"""Calls of an actor: their results and errors, their order, and handles in other processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import queue
import threading

import pytest

import procession
from procession import actor
from procession._actor.client import _forgotten_lines
from procession._actor.lines import Lane
from procession.pool import MaybeEncodingError
from tests.actor.classes import Breaking, Broken, Counter, Recorder, Refusing

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def counter(ctx):
    with actor.options(context=ctx)(Counter, 10) as made:
        yield made


def test_a_call_has_the_method_s_result(counter):
    assert counter.add() == 11
    assert counter.add(by=4) == 15
    assert counter.echo(1, [2], a={3: None}) == ((1, [2]), {"a": {3: None}})
    assert counter.pid() == actor.status(counter).pid


def test_a_future_has_the_method_s_result(counter):
    futures = [actor.submit(counter.add, by) for by in range(100)]
    assert [future.result(30) for future in futures] == [10 + sum(range(n + 1)) for n in range(100)]
    assert actor.submit(counter.echo, [1], a=Counter).result(30) == (([1],), {"a": Counter})


def test_an_exception_has_the_traceback_from_there(counter):
    for call in (counter.fail, lambda text: actor.submit(counter.fail, text).result(30)):
        with pytest.raises(ValueError, match="no way") as caught:
            call("no way")
        assert "in fail\n    raise ValueError(text)" in str(caught.value.__cause__)
    assert counter.add() == 11


def test_what_cannot_be_sent_fails_alone(counter):
    with pytest.raises(Exception, match="cannot send"):
        counter.echo([threading.Lock()])
    with pytest.raises(Exception, match="cannot send"):
        actor.submit(counter.echo, [threading.Lock()])
    for _ in range(2):
        with pytest.raises(MaybeEncodingError):
            counter.result_that_cannot_be_sent()
        with pytest.raises(MaybeEncodingError):
            actor.submit(counter.result_that_cannot_be_sent).result(30)
    assert counter.add() == 11


def test_what_cannot_be_unpickled_fails_alone(ctx):
    with actor.options(context=ctx)(Breaking) as breaking:
        good = actor.submit(breaking.take, [1])
        bad = [actor.submit(breaking.take, Broken()), actor.submit(breaking.get)]
        later = actor.submit(breaking.take, [2])
        for call in (breaking.get, lambda: breaking.take([Broken()])):
            with pytest.raises(RuntimeError, match="not to be unpickled"):
                call()
        with pytest.raises(RuntimeError, match="not to be unpickled"):
            bad[0].result(30)
        with pytest.raises(MaybeEncodingError, match="not to be unpickled"):
            bad[1].result(30)
        assert good.result(30) == later.result(30) == breaking.take([3]) == 1


@pytest.mark.parametrize("kind", [queue.Empty, SystemExit, asyncio.CancelledError])
def test_whatever_unpickling_raises_fails_that_call(kind):
    with actor(Breaking) as breaking:
        bad = [actor.submit(breaking.get, kind), actor.submit(breaking.fail)]
        good = actor.submit(breaking.take, [1])
        with pytest.raises(kind, match="not to be unpickled"):
            breaking.get(kind)
        for future in bad:
            with pytest.raises(MaybeEncodingError, match="not to be unpickled"):
                future.result(30)
        assert good.result(30) == actor.submit(breaking.take, [2]).result(30) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_replies_cannot_be_taken_futures_fail_and_later_ones_do_not(monkeypatch):
    def fail(lane):
        raise OSError("no replies today")

    with actor(Counter) as counter:
        with monkeypatch.context() as patched:
            patched.setattr(Lane, "_next", fail)
            future = actor.submit(counter.add)
            with pytest.raises(MaybeEncodingError, match="no replies today"):
                future.result(30)
        assert actor.submit(counter.add).result(30) == 2


def test_calls_of_a_thread_keep_their_order(ctx):
    with actor.options(context=ctx)(Recorder) as recorder:

        def tell(thread):
            for n in range(60):
                # Small and large arguments, with and without waiting, go different ways.
                item = (thread, n) if n % 2 else [thread, n]
                if n % 3:
                    actor.submit(recorder.tell, item)
                else:
                    recorder.tell(item)

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = recorder.get()
    for number in range(4):
        assert [n for thread, n in told if thread == number] == list(range(60))


def add_many(handle, times):
    for _ in range(times):
        handle.add(1)
    return actor.submit(handle.add, 1).result(30)


def add_from(handles):
    add_many(handles.get()["counter"], 10)


def test_a_handle_works_in_every_process(ctx, counter):
    handles = ctx.Queue()
    children = [ctx.Process(target=add_many, args=(counter, 10)) for _ in range(2)]
    children.append(ctx.Process(target=add_from, args=(handles,)))
    for child in children:
        child.start()
    handles.put({"counter": counter})
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    with ctx.Pool(2) as pool:
        pool.starmap(add_many, [(counter, 10)] * 4)
        returned = pool.apply(same, (counter,))
    assert returned == counter
    assert returned.add(0) == counter.add(0) == 10 + 7 * 11


def test_its_name_is_that_of_its_process(ctx):
    with actor.options(context=ctx, name="tally")(Counter) as counter:
        pid = counter.pid()
        names = {process.pid: process.name for process in procession.snapshot().processes}
        assert names[pid] == actor.status(counter).name == "tally"


def same(handle):
    return handle


def call_method(method):
    return method(5)


def test_a_method_and_the_options_of_calls_can_be_sent(ctx, counter):
    with ctx.Pool(1) as pool:
        assert pool.apply(call_method, (counter.add,)) == 15
        limited = pool.apply(same, (actor.limited(counter, timeout=20, retries=3),))
    assert (limited._limits.timeout, limited._limits.retries) == (20, 3)


def test_an_actor_calls_another(ctx, counter):
    with actor.options(context=ctx)(Counter) as other:
        assert other.call(counter, 5) == 15
        with pytest.raises(RuntimeError, match="cannot wait for a call of itself"):
            other.call(other, 5)
        assert other.add() == 1


def test_an_actor_does_not_wait_for_room_that_only_it_can_make():
    with actor.options(max_pending=2)(Counter) as counter:
        assert counter.submit(counter, 2) == 2
        with pytest.raises(RuntimeError, match="cannot wait for room for a call of itself: add"):
            counter.submit(counter, 3)
        assert counter.add() == 2 + 2 + 1


def test_a_cancellation_in_a_method_is_an_exception_of_the_call():
    with actor(Counter) as counter:
        with pytest.raises(asyncio.CancelledError, match="no more"):
            counter.cancel()
        with pytest.raises(asyncio.CancelledError, match="no more"):
            actor.submit(counter.cancel).result(30)
        assert counter.add() == 1


def test_the_handle_has_the_methods_of_the_class_alone(counter):
    assert dir(counter) == sorted(name for name in vars(Counter) if name[0] != "_")
    for name in ("number", "close", "no_such", "_link_", "__len__"):
        with pytest.raises(AttributeError, match=r"actor Counter-\d+ has no method"):
            getattr(counter, name)
    assert repr(counter) == f"<actor {actor.status(counter).name}>"


def test_a_function_may_make_the_object(ctx):
    with actor.options(context=ctx, name="made")(make_counter, 3) as made:
        assert made.add(2) == 5
        with pytest.raises(AttributeError, match="no_such"):
            made.no_such()
        assert "made" in repr(made)


def make_counter(number):
    return Counter(number)


def test_a_constructor_s_error_is_the_cause(ctx):
    refusing = actor.options(context=ctx, max_restarts=5)(Refusing, "not today")
    for call in (refusing.work, lambda: actor.submit(refusing.work).result(30)):
        with pytest.raises(procession.ActorDied, match="its constructor raised") as caught:
            call()
        assert isinstance(caught.value.__cause__, ValueError)
        assert "raise ValueError(text)" in str(caught.value.__cause__.__cause__)
    assert actor.status(refusing).restarts == 0


def test_a_call_that_takes_too_long_raises(ctx, counter):
    began, event = ctx.Event(), ctx.Event()
    hasty = actor.limited(counter, timeout=0.2)
    with pytest.raises(
        procession.TimeoutError, match=r"within 0.2 seconds: wait; the call goes on"
    ):
        hasty.wait(began, event)
    future = actor.submit(counter.add)
    try:
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.05)
    finally:
        event.set()
    assert future.result(30) == 11
    assert counter.add() == 12


def test_a_full_actor_makes_callers_wait(ctx):
    with actor.options(context=ctx, max_pending=2)(Counter) as counter:
        began, event = ctx.Event(), ctx.Event()
        first = actor.submit(counter.wait, began, event)
        began.wait()
        futures = [actor.submit(counter.add) for _ in range(2)]
        with pytest.raises(procession.TimeoutError, match="the call was not sent"):
            actor.limited(counter, timeout=0.2).add()
        late = threading.Thread(target=lambda: futures.append(actor.submit(counter.add)))
        late.start()
        event.set()
        late.join()
        assert first.result(30) == 0
        assert [future.result(30) for future in futures] == [1, 2, 3]


def test_the_actor_forgets_lines_of_calls_that_were_given_up():
    with actor.options(max_pending=1)(Counter) as counter:
        began, event = procession.Event(), procession.Event()
        first = actor.submit(counter.wait, began, event)
        began.wait()
        hasty = actor.limited(counter, timeout=0.1)
        for text in ("the call goes on", "the call was not sent"):
            with pytest.raises(procession.TimeoutError, match=text):
                hasty.add()
        event.set()
        assert first.result(30) == 0
        # The line of the first call, which is used again, tells of those of the others.
        assert actor.submit(counter.lines).result(30) == 1


def test_what_is_kept_of_actors_without_a_handle_is_bounded(monkeypatch):
    monkeypatch.setattr("procession._actor.client._MOST_FORGOTTEN", 2)
    counter = actor(Counter)
    assert counter.add() == 1
    actor.close(counter)
    key = counter._link.key
    del counter
    gc.collect()
    assert key not in _forgotten_lines
    for _ in range(3):
        assert actor(Counter).add() == 1
        gc.collect()
    assert len(_forgotten_lines) == 2


def test_wrong_options_and_arguments_are_refused():
    for wrong in (
        {"max_restarts": -1},
        {"max_restarts": 1.5},
        {"max_pending": None},
        {"timeout": 0},
        {"retries": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            actor.options(**wrong)
    with pytest.raises(TypeError, match="name"):
        actor.options(name=3)
    with pytest.raises(TypeError, match="needs a class"):
        actor(3)
    with pytest.raises(TypeError, match="needs the handle"):
        actor.close(Counter())
    with pytest.raises(TypeError, match="needs a method"):
        actor.submit(print)
