"""Private names of the standard library that other programs use.

CPython's tests, concurrent.futures, joblib, mpire, torch and coverage use them. The standard
library does not promise them, but programs break without them: each of them exists here, and does
what it is used for.
"""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import procession
from procession import (
    connection,
    context,
    heap,
    managers,
    pool,
    process,
    queues,
    reduction,
    resource_sharer,
    resource_tracker,
    shared_memory,
    spawn,
    synchronize,
    util,
)
from tests.waiting import LONG


def nothing():
    pass


class Traced(procession.get_context("fork").Process):
    """Measures children as coverage does: it wraps what a child runs in."""

    def _bootstrap(self, *args, **kwargs):
        os.write(self._kwargs["fd"], b"in ")
        try:
            return super()._bootstrap(*args, **kwargs)
        finally:
            os.write(self._kwargs["fd"], b"out")

    def run(self):
        os.write(self._kwargs["fd"], b"run ")


def test_bootstrap_can_be_wrapped():
    reader, writer = os.pipe()
    child = Traced(kwargs={"fd": writer})
    child.start()
    os.close(writer)
    child.join()
    with open(reader, "rb") as file:
        assert file.read() == b"in run out"
    assert child.exitcode == 0


def test_process_popen_and_config(ctx):
    child = ctx.Process(target=nothing, daemon=True)
    assert child._popen is None
    assert child._config["daemon"] is True
    assert child in process._dangling
    child.start()
    assert child._popen.pid == child.pid
    assert child._popen.wait() == child._popen.returncode == 0
    assert child in process._children
    process._cleanup()
    assert child not in process._children


def test_current_process_can_be_replaced(monkeypatch):
    """Tests of programs do this to run a child's code in the process of the test."""
    me = process.current_process()
    monkeypatch.setattr(process, "_current_process", process.BaseProcess(name="Other"))
    assert procession.current_process().name == "Other"
    monkeypatch.undo()
    assert procession.current_process() is me
    assert me._config["authkey"] == me.authkey
    assert me._identity == ()


def test_spawning_popen():
    assert context.get_spawning_popen() is None
    with pytest.raises(RuntimeError, match="object objects should only be shared"):
        context.assert_spawning(object())
    context.set_spawning_popen(popen := object())
    try:
        context.assert_spawning(object())
        assert context.get_spawning_popen() is popen
    finally:
        context.set_spawning_popen(None)


def test_contexts_are_known_by_name(ctx, method):
    assert isinstance(ctx, context.BaseContext)
    assert context._concrete_contexts[method] is ctx
    assert ctx.Process._start_method == method
    assert isinstance(procession.context._default_context, context.DefaultContext)
    actual = context._default_context._actual_context
    try:
        context._force_start_method(method)
        assert procession.get_start_method() == method
    finally:
        context._default_context._actual_context = actual


def test_condition_counts():
    condition = procession.Condition()
    assert condition._sleeping_count.get_value() == 0
    assert condition._woken_count.get_value() == 0
    assert condition._wait_semaphore.get_value() == 0
    waiter = threading.Thread(target=lambda: condition.__enter__() and condition.wait())
    waiter.start()
    while condition._sleeping_count.get_value() != 1:
        pass
    with condition:
        condition.notify()
    waiter.join()


def test_semlock():
    for lock in (procession.Lock(), procession.RLock(), procession.Semaphore(1)):
        assert not lock._semlock._is_zero()
        with lock:
            assert lock._semlock._is_zero()
            assert lock._semlock._get_value() == 0
        assert lock._semlock.maxvalue >= 1
        assert lock._semlock.kind in (synchronize.RECURSIVE_MUTEX, synchronize.SEMAPHORE)
    lock = procession.RLock()
    with lock:
        assert lock._semlock._is_mine()
        assert lock._semlock._count() == 1


def test_pool_workers():
    with procession.get_context("fork").Pool(2) as workers:
        assert workers._state == pool.RUN
        assert workers._processes == 2
        assert len(workers._pool) == 2
        assert all(worker.is_alive() for worker in workers._pool)
        workers._repopulate_pool()
        assert len(workers._pool) == 2
        workers.close()
        assert workers._state == pool.CLOSE
    assert pool.TERMINATE not in (pool.RUN, pool.CLOSE)


def test_pool_exceptions_travel():
    error = pool.MaybeEncodingError(TypeError("no"), [1])
    assert str(error) == "Error sending result: '[1]'. Reason: 'TypeError('no')'"
    try:
        raise ValueError("here")
    except ValueError as caught:
        wrapped = pool.ExceptionWithTraceback(caught, caught.__traceback__)
    arrived = pickle.loads(pickle.dumps(wrapped))
    assert isinstance(arrived, ValueError)
    assert isinstance(arrived.__cause__, pool.RemoteTraceback)
    assert "test_pool_exceptions_travel" in str(arrived.__cause__)


def test_pool_chunk_functions():
    assert pool.mapstar((abs, [-1, 2])) == [1, 2]
    assert pool.starmapstar((pow, [(2, 3), (3, 2)])) == [8, 9]


def test_managers_server_and_process():
    with managers.SyncManager(ctx=procession.get_context("fork")) as manager:
        assert manager._process.is_alive()
        assert manager._state.value == managers.State.STARTED
        with managers.listener_client["pickle"][1](manager.address, authkey=manager._authkey) as c:
            assert managers.dispatch(c, None, "dummy") is None
        numbers = manager.list([1])
        assert numbers._callmethod("append", (2,)) is None
        assert numbers._getvalue() == [1, 2]
        assert numbers._token.typeid == "list"
    server = managers.BaseManager(authkey=b"k").get_server()
    with server.listener:
        assert server.address == server.listener.address


def test_shared_memory_names():
    segment = shared_memory.SharedMemory(create=True, size=10)
    try:
        assert segment._name.startswith(shared_memory._SHM_NAME_PREFIX)
        assert segment._name.endswith(segment.name)
        assert os.path.exists("/dev/shm" + segment._name)
        assert segment._flags & os.O_CREAT
        assert shared_memory._USE_POSIX
        assert shared_memory._make_filename().startswith(shared_memory._SHM_NAME_PREFIX)
    finally:
        segment.close()
        segment.unlink()
    numbers = shared_memory.ShareableList([1, "two"])
    try:
        assert numbers._get_packing_format(0) == "q"
        assert numbers._get_packing_format(1) == "8s"
    finally:
        numbers.shm.close()
        numbers.shm.unlink()


def test_finalizers():
    ran = []
    finalizer = util.Finalize(None, ran.append, args=("exit",), exitpriority=7)
    assert finalizer._key in util._finalizer_registry
    assert finalizer.still_active()
    util._run_finalizers(7)
    assert ran == ["exit"]
    assert not finalizer.still_active()
    assert callable(util._exit_function)


def test_after_fork_functions():
    class Box:
        value = "parent"

    box = Box()
    util.register_after_fork(box, lambda box: setattr(box, "value", "child"))
    assert box in util._afterfork_registry.values()
    reader, writer = procession.Pipe(False)
    child = procession.get_context("fork").Process(target=lambda: writer.send(box.value))
    child.start()
    assert reader.recv() == "child"
    child.join()
    assert box.value == "parent"


def test_util_tools():
    with util.ForkAwareThreadLock() as taken:
        assert taken
    assert util.abstract_sockets_supported is True
    assert util.is_abstract_socket_namespace("\0x") and not util.is_abstract_socket_namespace("/x")
    assert isinstance(util._args_from_interpreter_flags(), list)
    assert os.path.isdir(util.get_temp_dir())
    assert util.info("") is util.debug("") is None


def test_buffer_wrapper_travels(ctx):
    wrapper = heap.BufferWrapper(8)
    wrapper.create_memoryview()[:2] = b"hi"
    child = ctx.Process(target=_answer, args=(wrapper,))
    child.start()
    child.join()
    assert bytes(wrapper.create_memoryview()[:2]) == b"ok"


def _answer(wrapper):
    assert bytes(wrapper.create_memoryview()[:2]) == b"hi"
    wrapper.create_memoryview()[:2] = b"ok"


def test_resource_tracker_names():
    assert isinstance(resource_tracker._resource_tracker, resource_tracker.ResourceTracker)
    assert resource_tracker.register == resource_tracker._resource_tracker.register
    assert {"noop", "shared_memory"} <= set(resource_tracker._CLEANUP_FUNCS)
    resource_tracker.ensure_running()
    assert os.fstat(resource_tracker.getfd())
    resource_tracker.register("procession-test", "dummy")
    resource_tracker.unregister("procession-test", "dummy")


#: In a program of its own: a fork server does not end while another process of the family could still
#: send it a request, and a child that an earlier test has left behind could.
STOPPED_SERVER = """
from procession import forkserver

server = forkserver._forkserver
forkserver.ensure_running()
first = server._forkserver_pid
child, _ = server._started
assert first == child.pid
server._stop()
assert server._forkserver_pid is None
assert child.wait(None) == 0
server.ensure_running()
assert server._forkserver_pid not in (None, first)
"""


def test_fork_server_stops_and_starts_again(run_program):
    done = run_program(STOPPED_SERVER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_handles_are_sent():
    assert reduction.HAVE_SEND_HANDLE
    here, there = procession.Pipe()
    reader, writer = os.pipe()
    reduction.send_handle(here, writer, os.getpid())
    os.close(writer)
    writer = reduction.recv_handle(there)
    os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(writer)
    os.close(reader)


def test_descriptor_duplicates_travel():
    reader, writer = os.pipe()
    duplicate = pickle.loads(pickle.dumps(reduction.DupFd(writer)))
    os.close(writer)
    with open(duplicate.detach(), "wb") as file:
        file.write(b"x")
    assert os.read(reader, 2) == b"x"
    os.close(reader)
    resource_sharer.stop(timeout=5)


class Number:
    """An object that only a registered reducer can carry, as torch's tensors."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        raise TypeError("not this way")


def _rebuild_number(number):
    return Number(number + 1)


def test_registered_reducers_are_honoured():
    reduction.ForkingPickler.register(Number, lambda obj: (_rebuild_number, (obj.number,)))
    queue = procession.SimpleQueue()
    queue.put([Number(1)])
    assert queue.get()[0].number == 2
    here, there = procession.Pipe()
    here.send(Number(5))
    assert there.recv().number == 6


def test_connections_of_descriptors():
    reader, writer = os.pipe()
    receiving = connection.Connection(reader, writable=False)
    sending = connection.Connection(writer, readable=False)
    assert receiving._handle == receiving.fileno() == reader
    sending._send_bytes(b"raw")
    assert receiving.recv_bytes() == b"raw"
    receiving.close()
    sending.close()


def test_challenge_helpers():
    here, there = procession.Pipe()
    with ThreadPoolExecutor(1) as threads:
        answering = threads.submit(connection.answer_challenge, there, b"key")
        connection.deliver_challenge(here, b"key")
        assert answering.result(LONG) is None


class LoudQueue(queues.Queue):
    """Overrides what concurrent.futures overrides in its own queue."""

    def __init__(self, max_size=0, *, ctx, log):
        self.log = log
        super().__init__(max_size, ctx=ctx)

    def _on_queue_feeder_error(self, e, obj):
        self.log.append((type(e), obj))


def test_queue_can_be_subclassed():
    log = []
    queue = LoudQueue(2, ctx=procession.get_context("fork"), log=log)
    queue.put("item")
    assert queue.get() == "item"
    lock = threading.Lock()
    queue.put(lock)
    assert [obj for _, obj in log] == [lock]


def test_spawn_names():
    data = spawn.get_preparation_data("Child")
    assert {"name", "sys_path", "sys_argv", "orig_dir", "authkey"} <= set(data)
    assert spawn.get_command_line(pipe_handle=3)[-1] == "--multiprocessing-fork"
    assert not spawn.is_forking(["python"])
    assert spawn.get_executable() == os.fsencode(spawn._python_exe)
