"""Managers with a sudden end of the server, of clients or of calls.

Sessions are how the server detects the end of a client.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

import procession
from procession import connection, managers
from procession._managers import wire
from tests.waiting import LONG, is_asleep, until

KEY = b"abracadabra"


@pytest.fixture(params=["family", "stranger"])
def kind(request):
    """Calls go over the engine's queues, or over the socket to a server of another family."""
    return request.param


@pytest.fixture
def manager(kind, monkeypatch):
    if kind == "stranger":
        monkeypatch.setattr("procession._managers.link.family_of_offer", lambda answer: b"another")
    with managers.SyncManager(authkey=KEY, ctx=procession.get_context("fork")) as manager:
        yield manager


def child(target, *args):
    process = procession.get_context("fork").Process(target=target, args=args)
    process.start()
    return process


class TestTheServerDies:
    def test_a_call_fails_at_once(self, manager):
        shared = manager.list([1])
        assert shared[0] == 1
        manager._process.kill()
        manager._process.join()
        for _ in range(2):
            with pytest.raises((EOFError, OSError)):
                shared.append(2)
        with pytest.raises((EOFError, OSError)):
            manager.list()

    def test_a_call_after_its_orderly_end(self, both):
        with both.Manager() as manager:
            shared = manager.list([1])
            assert shared[0] == 1
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                shared.append(2)

    def test_in_the_middle_of_a_call(self, manager):
        items, caught = manager.Queue(), []

        def get():
            try:
                items.get()
            except (EOFError, OSError) as error:
                caught.append(error)

        threads = [threading.Thread(target=get) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: manager._debug_info() and not items.qsize())
        manager._process.kill()
        for thread in threads:
            thread.join(LONG)
        assert len(caught) == 3

    def test_another_one_at_the_same_address(self, kind, monkeypatch, tmp_path):
        if kind == "stranger":
            monkeypatch.setattr(
                "procession._managers.link.family_of_offer", lambda answer: b"another"
            )
        address = str(tmp_path / "socket")
        client = managers.SyncManager(address, KEY)
        for number in range(2):
            with managers.SyncManager(address, KEY, ctx=procession.get_context("fork")):
                client.connect()
                shared = client.list([number])
                assert shared[:] == [number]


def refer(manager, ready, leave):
    shared = [manager.list([number]) for number in range(5)]
    assert shared[3][0] == 3
    ready.set()
    leave.wait()
    os._exit(0)


class TestAClientDies:
    @pytest.mark.parametrize("end", ["killed", "without finalizers"])
    def test_its_references_are_given_back(self, manager, end):
        ours = manager.list()
        before = manager._number_of_objects()
        ctx = procession.get_context("fork")
        ready, leave = ctx.Event(), ctx.Event()
        client = child(refer, manager, ready, leave)
        ready.wait()
        assert manager._number_of_objects() == before + 5
        if end == "killed":
            client.kill()
        else:
            leave.set()
        client.join()
        until(lambda: manager._number_of_objects() == before)
        ours.append(1)
        assert ours[:] == [1]

    def test_what_others_refer_to_stays(self, manager):
        ours = manager.list()
        ctx = procession.get_context("fork")
        ready, leave = ctx.Event(), ctx.Event()

        def share():
            # Inside another object, as a second reference to an object of ours, and alone.
            ours.append(manager.dict(a=1))
            mine = [ours, manager.list()]
            ready.set()
            leave.wait()
            assert mine

        client = child(share)
        ready.wait()
        client.kill()
        client.join()
        until(lambda: manager._number_of_objects() == 1)
        assert ours[0]["a"] == 1

    def test_threads_come_and_go(self, manager):
        shared = []
        for number in range(3):
            thread = threading.Thread(target=lambda: shared.append(manager.list([len(shared)])))
            thread.start()
            thread.join()
            assert shared[number][0] == number
        assert manager._number_of_objects() == 3

    def test_the_server_keeps_no_thread_of_threads_that_have_ended(self, manager):
        shared = manager.list()

        def threads():
            return len(os.listdir(f"/proc/{manager._process.pid}/task"))

        before = threads()
        for _ in range(20):
            thread = threading.Thread(target=shared.append, args=(1,))
            thread.start()
            thread.join()
        until(lambda: threads() <= before)
        assert len(shared) == 20

    def test_a_parent_that_dies_before_its_child(self, manager):
        """The child's copies of the parent's connections must not keep the parent's references."""
        ctx = procession.get_context("fork")
        ready, leave = ctx.Event(), ctx.Event()
        pids = ctx.SimpleQueue()

        def be_parent():
            shared = manager.list()
            shared.append(1)
            pid = os.fork()
            if pid == 0:
                leave.wait()
                os._exit(0)
            pids.put(pid)
            ready.set()
            leave.wait()

        parent = child(be_parent)
        ready.wait()
        grandchild = os.pidfd_open(pids.get())
        assert manager._number_of_objects() == 1
        parent.kill()
        parent.join()
        until(lambda: manager._number_of_objects() == 0)
        leave.set()
        assert connection.wait([grandchild], LONG)
        os.close(grandchild)

    def test_many_of_them_at_any_moment(self, manager):
        ours, alive = manager.list(), manager.Value("i", 0)

        def work():
            while True:
                mine = [manager.list([number]) for number in range(3)]
                ours.append(mine[0])
                mine[1].extend(range(100))
                alive.value = os.getpid()

        draw = random.Random(1)
        for _ in range(10):
            clients = [child(work) for _ in range(3)]
            pids = {client.pid for client in clients}
            until(lambda pids=pids: alive.value in pids)
            for client in clients:
                # Not synchronisation: it only varies where the kill falls.
                time.sleep(draw.random() / 50)
                client.kill()
                client.join()
        until(lambda: manager._number_of_objects() == 2)
        ours.clear()
        ours.append(1)
        assert ours[:] == [1]

    def test_in_the_middle_of_a_call_with_a_lock(self, manager):
        """As in the standard library, the lock stays taken, and any process may release it.

        The server serves on.
        """
        lock, never = manager.Lock(), manager.Event()
        ctx = procession.get_context("fork")
        ready = ctx.Event()

        def hold():
            with lock:
                ready.set()
                never.wait()

        client = child(hold)
        ready.wait()
        client.kill()
        client.join()
        assert not lock.acquire(timeout=0.05)
        lock.release()
        assert lock.acquire(timeout=LONG)


def interrupt_who_waits(barrier, then):
    """Start a thread that sends SIGINT once a party waits at the barrier."""

    def interrupt():
        until(lambda: barrier.n_waiting == 1)
        os.kill(os.getpid(), signal.SIGINT)
        then()

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


class TimeIsUp(Exception):
    pass


def time_is_up(*_):
    raise TimeIsUp


class TestACallIsInterrupted:
    def test_the_next_call_does_not_wait_for_it(self, manager):
        barrier, items = manager.Barrier(2), manager.Queue()
        thread = interrupt_who_waits(barrier, then=lambda: None)
        with pytest.raises(KeyboardInterrupt):
            barrier.wait()
        thread.join()
        items.put("next")
        assert items.qsize() == 1
        assert items.get() == "next"
        barrier.abort()

    @pytest.mark.parametrize("size", [1, 1 << 24])
    def test_by_an_exception_of_a_handler(self, manager, size):
        """The next call neither waits for the interrupted one nor takes its reply."""

        def interrupt():
            begun.wait()
            until(lambda: is_asleep(main) if size > 1 else barrier.n_waiting == 1)
            signal.pthread_kill(main.ident, signal.SIGUSR1)

        barrier, things = manager.Barrier(2), manager.dict()
        things.update({})  # from now on, its calls are the server's
        main, begun = threading.main_thread(), threading.Event()
        before = signal.signal(signal.SIGUSR1, time_is_up)
        try:
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(TimeIsUp):
                begun.set()
                while size > 1:
                    things["large"] = b"x" * size
                barrier.wait()
            thread.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        things["key"] = "value"
        assert things["key"] == "value" and len(things) in (1, 2)
        barrier.abort()

    def test_again_before_the_next_call(self):
        """The exception of the handler is the program's."""
        one, other = connection.Pipe()
        with one, other:
            line = wire.AskingLine(one, wire.new_queue(), wire.new_queue())
            line._get = time_is_up
            with pytest.raises(TimeIsUp):
                line.catch_up()

    def test_a_lock_is_still_ours_if_the_call_ends(self, monkeypatch):
        monkeypatch.setattr(wire.AskingLine, "_CATCH_UP", LONG)
        with procession.get_context("fork").Manager() as manager:
            lock, barrier = manager.RLock(), manager.Barrier(2)
            thread = interrupt_who_waits(barrier, then=barrier.wait)
            with pytest.raises(KeyboardInterrupt), lock:
                barrier.wait()
                threading.Event().wait(LONG)
            thread.join()
            assert lock.acquire(False)
            assert barrier.n_waiting == 0


class TestRequests:
    def test_what_cannot_be_pickled_disturbs_nothing(self, manager):
        shared = manager.list()
        for _ in range(3):
            with pytest.raises(Exception, match=r"(?i)pickle"):
                shared.append(threading.Lock())
            with pytest.raises(managers.RemoteError, match="Unserializable message"):
                manager.Queue()._getvalue()
            shared.append(1)
        assert shared[:] == [1, 1, 1]

    def test_what_cannot_be_unpickled_disturbs_nothing(self, manager):
        shared = manager.list()
        with pytest.raises(managers.RemoteError, match="cannot be here"):
            shared.append(OnlyHere())
        shared.append(1)
        assert shared[:] == [1]

    def test_large_and_many_buffers(self, manager):
        shared = manager.dict()
        for size in (1, 1 << 14, 1 << 20, 30_000_000):
            data = os.urandom(1 << 10) * (size >> 10) + b"x"
            shared[size] = data
            shared["array"] = bytearray(data)
            assert shared[size] == data and shared["array"] == data

    def test_many_threads_and_finalizers(self, manager):
        shared = manager.list()
        errors = []

        def work():
            try:
                for number in range(20):
                    mine = manager.list([number])
                    shared.append(mine[0])
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and len(shared) == 80
        assert manager._number_of_objects() == 1

    def test_functions_of_the_server_that_are_not_public(self, manager):
        with pytest.raises(managers.RemoteError, match="serve_forever"):
            manager._ask("serve_forever")
        with (
            connection.Client(manager.address, authkey=KEY) as conn,
            pytest.raises(managers.RemoteError, match="join_session"),
        ):
            managers.dispatch(conn, None, "join_session", ("name",))


class OnlyHere:
    def __init__(self):
        self.pid = os.getpid()

    def __setstate__(self, state):
        if state["pid"] != os.getpid():
            raise ValueError("it cannot be here")


def test_no_descriptor_stays_behind(alone):
    def use():
        with procession.get_context("fork").Manager() as manager:
            shared = manager.list([1])
            thread = threading.Thread(target=shared.append, args=(2,))
            thread.start()
            thread.join()
            assert shared[:] == [1, 2]

    def count():
        use()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            use()
        assert len(os.listdir("/proc/self/fd")) == before

    alone(count)
