"""Deaths, stops and forks around an actor: each call ends, and none is done twice."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import pathlib
import signal
import threading

import pytest

import procession
from procession import ActorDied, actor
from procession._actor.client import Client
from procession._actor.owner import Owner
from tests.actor.classes import Counter, Crashing
from tests.waiting import is_running, until

pytestmark = pytest.mark.timeout(60)


def in_calls(handle, began, event):
    """Begin calls that cannot end: in a thread, and as futures. Return what has their errors."""
    futures = [actor.submit(handle.wait, began, event), actor.submit(handle.add)]
    ended = []

    def call():
        try:
            handle.add()
        except ActorDied as error:
            ended.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    began.wait()

    def errors():
        thread.join()
        return [future.exception() for future in futures] + ended

    return errors


def test_calls_fail_when_the_process_is_killed(ctx):
    counter = actor.options(context=ctx, name="tally")(Counter)
    errors = in_calls(counter, ctx.Event(), ctx.Event())
    pid = actor.status(counter).pid
    os.kill(pid, signal.SIGKILL)
    found = errors()
    assert [type(error) for error in found] == [ActorDied] * 3
    assert [error.method for error in found] == ["wait", "add", "add"]
    for error in found:
        assert (error.actor, error.pid, error.exitcode) == ("tally", pid, -signal.SIGKILL)
        assert error.final
    assert str(found[0]) == (
        f"actor tally lost its process {pid}, killed by SIGKILL: tally.wait has no result"
    )
    for call in (counter.add, lambda: actor.submit(counter.add)):
        with pytest.raises(ActorDied, match="SIGKILL"):
            call()
    assert actor.status(counter).ended == f"lost its process {pid}, killed by SIGKILL"
    assert not actor.status(counter).alive


def test_it_is_started_again_as_often_as_asked(ctx):
    counter = actor.options(context=ctx, max_restarts=2)(Counter, 5)
    for restart in (1, 2):
        assert counter.add() == 6  # each time, the state is that of the constructor
        with pytest.raises(ActorDied, match="starts anew, without its state") as caught:
            counter.die()
        assert not caught.value.final
        assert counter.add(0) == 5
        assert actor.status(counter).restarts == restart
    with pytest.raises(ActorDied, match="exited with code 3") as caught:
        counter.leave(3)
    assert (caught.value.exitcode, caught.value.final) == (3, True)
    with pytest.raises(ActorDied):
        counter.add()


def test_what_waits_for_the_dead_process_is_not_repeated(ctx, tmp_path):
    counter = actor.options(context=ctx, max_restarts=None)(Counter)
    began, event = ctx.Event(), ctx.Event()
    errors = in_calls(counter, began, event)
    os.kill(actor.status(counter).pid, signal.SIGKILL)
    assert [error.final for error in errors()] == [False] * 3
    assert counter.add() == 1
    path = str(tmp_path / "calls")
    with pytest.raises(ActorDied):
        counter.note(path)
    assert counter.add() == 1
    assert pathlib.Path(path).read_text() == "called\n"
    actor.terminate(counter)


@pytest.mark.parametrize("waits", [True, False])
def test_retries_repeat_a_call(ctx, tmp_path, waits):
    counter = actor.options(context=ctx, max_restarts=None, retries=2)(Counter, 7)

    def call(method, path):
        path = str(tmp_path / path)
        try:
            return method(path) if waits else actor.submit(method, path).result(30)
        finally:
            assert pathlib.Path(path).read_text() == "called\n" * expected

    expected = 2
    assert call(counter.note_and_die_once, "once") == 7
    expected = 3
    with pytest.raises(ActorDied):
        call(counter.note, "always")
    actor.terminate(counter)


def test_a_retry_has_the_arguments_though_the_caller_still_sends(monkeypatch):
    counter = actor.options(max_restarts=1, retries=1)(Counter)
    pid = counter.pid()
    send, current_lane, caller = Client._send, Client._current_lane, threading.current_thread()
    retrying, submitted = threading.Event(), threading.Event()

    def slow_send(*args):
        result = send(*args)
        if threading.current_thread() is caller:
            os.kill(pid, signal.SIGKILL)
            assert retrying.wait(30)
        return result

    def late_lane(*args):
        if threading.current_thread() is not caller:
            retrying.set()
            assert submitted.wait(30)
        return current_lane(*args)

    monkeypatch.setattr(Client, "_send", slow_send)
    monkeypatch.setattr(Client, "_current_lane", late_lane)
    os.kill(pid, signal.SIGSTOP)
    future = actor.submit(counter.echo, 1, a=2)
    submitted.set()
    assert future.result(30) == ((1,), {"a": 2})


def test_one_that_can_never_be_made_is_given_up(ctx):
    crashing = actor.options(context=ctx, max_restarts=None, retries=1000)(Crashing)
    with pytest.raises(ActorDied, match="20 in a row did before the object was made") as caught:
        crashing.work()
    assert caught.value.final
    assert actor.status(crashing).restarts == 19


def test_a_caller_that_waits_for_room_fails(ctx):
    counter = actor.options(context=ctx, max_pending=1)(Counter)
    began, event = ctx.Event(), ctx.Event()
    futures = [actor.submit(counter.wait, began, event)]
    began.wait()
    futures.append(actor.submit(counter.add))
    failed = []

    def call():
        with pytest.raises(ActorDied):
            counter.add()
        failed.append(True)

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    os.kill(actor.status(counter).pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert failed == [True] * 5
    assert [type(future.exception()) for future in futures] == [ActorDied] * 2


def own(connection, method):
    counter = actor.options(context=procession.get_context(method), max_restarts=None)(Counter)
    connection.send((counter, actor.status(counter).pid))
    connection.recv()


@pytest.fixture
def owned(ctx):
    """An actor whose owner is a child: the child, the handle, the actor's pid."""
    here, there = ctx.Pipe()
    child = ctx.Process(target=own, args=(there, ctx.get_start_method()))
    child.start()
    counter, pid = here.recv()
    yield child, counter, pid
    child.kill()
    child.join()


def test_calls_fail_when_the_owner_is_killed(ctx, owned):
    child, counter, pid = owned
    assert counter.add() == 1
    errors = in_calls(counter, ctx.Event(), ctx.Event())
    child.kill()
    found = errors()
    assert [(type(error), error.final) for error in found] == [(ActorDied, True)] * 3
    assert f"its owner, process {child.pid}" in str(found[0])
    with pytest.raises(ActorDied):
        counter.add()
    until(lambda: not is_running(pid))


def test_a_stopped_owner_does_not_hold_up_calls(ctx, owned):
    child, counter, pid = owned
    assert counter.add() == 1
    os.kill(child.pid, signal.SIGSTOP)
    try:
        assert counter.add() == 2
        errors = in_calls(counter, ctx.Event(), ctx.Event())
        os.kill(pid, signal.SIGKILL)
        found = errors()
        assert f"its owner, process {child.pid}, does not respond" in str(found[0])
        assert [error.final for error in found] == [False] * 3
        later = actor.submit(counter.add)
    finally:
        os.kill(child.pid, signal.SIGCONT)
    assert later.result(30) == 1


def test_a_busy_owner_is_waited_for(monkeypatch):
    free, go_on = threading.Event(), Owner._go_on

    def late(owner):
        assert free.wait(30)
        return go_on(owner)

    monkeypatch.setattr(Owner, "_go_on", late)
    monkeypatch.setattr("procession._actor.client.SLICE", 0.05)
    counter = actor(Counter)
    pid = counter.pid()
    future = actor.submit(counter.die)
    until(lambda: not is_running(pid))
    try:
        with pytest.raises(concurrent.futures.TimeoutError):
            future.exception(0.5)
    finally:
        free.set()
    assert future.exception(30).exitcode == -signal.SIGKILL


def test_another_process_may_close_or_terminate_it(ctx, owned):
    child, counter, pid = owned
    calls = [actor.submit(counter.add) for _ in range(20)]
    actor.close(counter)
    assert [call.result(30) for call in calls] == list(range(1, 21))
    with pytest.raises(ActorDied, match="was closed"):
        counter.add()
    assert child.is_alive()
    until(lambda: not is_running(pid))


def test_what_is_known_of_one_whose_owner_was_killed(ctx, owned):
    child, counter, _pid = owned
    assert actor.status(counter).alive  # no call is made here, so no thread watches
    child.kill()
    child.join()
    known = actor.status(counter)
    assert (known.alive, known.pid) == (False, None)
    assert known.ended == f"has ended with its owner, process {child.pid}"


def test_a_death_while_it_is_being_closed_is_told(ctx):
    with actor.options(context=ctx)(Counter) as counter:
        began = ctx.Event()
        futures = [actor.submit(counter.wait, began, ctx.Event()), actor.submit(counter.add)]
        began.wait()
        actor.close(counter, wait=False)
        with pytest.raises(procession.TimeoutError, match="did not end"):
            actor.close(counter, timeout=0.05)
        os.kill(actor.status(counter).pid, signal.SIGKILL)
        for future in futures:
            with pytest.raises(ActorDied, match="SIGKILL, while it was being closed"):
                future.result(30)
    assert "while it was being closed" in actor.status(counter).ended


def use_it_and(handle, what, ready):
    handle.add()
    actor.submit(handle.add).result(30)
    for _ in range(200):
        actor.submit(handle.echo, [bytes(1000)])
    ready.set()
    os.kill(os.getpid(), what)


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
def test_clients_that_die_or_stop_do_not_matter(ctx, what):
    with actor.options(context=ctx, max_pending=50)(Counter) as counter:
        ready = [ctx.Event() for _ in range(2)]
        children = [ctx.Process(target=use_it_and, args=(counter, what, event)) for event in ready]
        for child in children:
            child.start()
        for event in ready:
            event.wait()
        assert actor.submit(counter.add).result(30) == counter.add() - 1 == 5
        for child in children:
            child.kill()
            child.join()
        assert counter.add() == 7


def test_a_child_of_fork_calls_for_itself():
    context = procession.get_context("fork")
    with actor.options(context=context)(Counter) as counter:
        began, event = context.Event(), context.Event()
        pending = actor.submit(counter.wait, began, event)
        began.wait()

        def child():
            # The parent's future has no thread here that could complete it.
            with pytest.raises(ActorDied, match="another process"):
                pending.result()
            event.set()
            assert counter.add() == 1
            assert actor.submit(counter.add).result(30) == 2

        process = context.Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert pending.result(30) == 0
        assert counter.add() == 3


def test_a_call_by_the_watching_thread_is_watched(ctx):
    """The collector may run a finalizer there, which calls the actor."""
    counter = actor.options(context=ctx)(Counter)
    assert counter.add() == 1
    client = counter._link.client()
    first = client._watch
    first.thread = threading.current_thread()
    with pytest.raises(ActorDied):
        counter.die()
    assert client._watch is not first


def test_the_last_handle_ends_it(method):
    # Forked processes of other tests would count as having handles; see `ActorMaker`.
    here, there = procession.Pipe()
    child = procession.get_context("spawn").Process(target=drop_handles, args=(there, method))
    child.start()
    pid = here.recv()
    until(lambda: not is_running(pid))
    assert child.is_alive()
    here.send(None)
    child.join()
    assert child.exitcode == 0


def test_a_handle_that_arrives_late_is_refused(ctx):
    queue = ctx.Queue()
    counter = actor.options(context=ctx, name="tally")(Counter)
    queue.put((counter, counter.add))
    actor.terminate(counter)
    del counter
    gc.collect()
    handle, method = queue.get()
    for call in (handle.add, method, lambda: actor.submit(method)):
        with pytest.raises(ActorDied, match="actor tally"):
            call()
    for end in (actor.close, actor.terminate):
        end(handle)
    assert (actor.status(handle).alive, actor.status(handle).pid) == (False, None)


def drop_handles(connection, method):
    counter = actor.options(context=procession.get_context(method))(Counter)
    future = actor.submit(counter.pid)
    queue = procession.Queue()
    queue.put(counter)
    pid = counter.pid()
    del counter
    gc.collect()
    assert future.result(30) == pid
    # Nothing but a message has the handle now.
    assert queue.get().pid() == pid
    gc.collect()
    connection.send(pid)
    connection.recv()


def test_terminate_ends_calls_at_once(ctx):
    counter = actor.options(context=ctx, max_restarts=None)(Counter)
    errors = in_calls(counter, ctx.Event(), ctx.Event())
    actor.terminate(counter)
    assert str(errors()[0]).startswith(
        f"actor {actor.status(counter).name} was terminated by process {os.getpid()}: "
    )
    actor.terminate(counter)
    actor.close(counter)


def test_an_exception_in_the_body_terminates(ctx):
    began, event = ctx.Event(), ctx.Event()
    with (
        pytest.raises(KeyError),
        actor.closing(actor.options(context=ctx)(Counter)) as counter,
    ):
        future = actor.submit(counter.wait, began, event)
        began.wait()
        raise KeyError
    assert isinstance(future.exception(), ActorDied)
