"""Wrong arguments and wrong moments raise errors of the types that the standard library raises.

Each line of calls runs on both packages, and the types of errors are compared.
"""

from __future__ import annotations

import importlib
import sys
import time

import pytest

SUBMODULES = (
    "connection",
    "heap",
    "managers",
    "pool",
    "process",
    "reduction",
    "shared_memory",
    "sharedctypes",
    "util",
)


class Unpicklable:
    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Ununpicklable:
    def __reduce__(self):
        return refuse, (1,)


def refuse(number):
    raise ZeroDivisionError(number)


def echo(*args, **kwds):
    return args


def filled(queue):
    """Return a queue with an item that is already there."""
    queue.put(1)
    while queue.empty():
        pass
    return queue


def locks(ctx):
    lock, rlock, condition, event = ctx.Lock(), ctx.RLock(), ctx.Condition(), ctx.Event()
    bounded, barrier = ctx.BoundedSemaphore(1), ctx.Barrier(2)
    nan, held, none, owned = float("nan"), ctx.Lock(), ctx.Semaphore(0), ctx.Condition()
    held.acquire()
    owned.acquire()
    yield (
        locals(),
        """
        ctx.Semaphore('x') ctx.Semaphore(None) ctx.Semaphore(1.5) ctx.Barrier(2).wait('x') ctx.Lock(1) ctx.Event(1)
        lock.release() lock.acquire(True,'x') lock.acquire(None) rlock.acquire(None,0) ctx.Semaphore(1).acquire('x') ctx.Condition().acquire(block=[])
        ctx.Lock().acquire(1.5) held.acquire(True*0) held.acquire(-0,3) ctx.Lock().acquire(2**40) held.acquire('',nan) lock.acquire(nope=1) lock.acquire(1,2,3) lock.release(1) lock.foo
        rlock.release() rlock.acquire(True,[]) bounded.release() condition.wait() condition.notify()
        condition.notify_all() condition.wait_for(bool,0) condition.release() condition.acquire()
        condition.notify('x') condition.wait('x') condition.wait_for(3) condition.wait(-1) condition.release()
        event.wait('x') event.wait(-1) event.set(1) barrier.wait(0) barrier.wait() barrier.reset() barrier.abort()
        barrier.wait() ctx.Semaphore(-1) ctx.Semaphore(2**31) ctx.Semaphore(2**64) ctx.BoundedSemaphore(-1)
        ctx.Semaphore(2**31-1) ctx.Condition(3) ctx.Lock().acquire(timeout=nan) held.acquire(timeout=nan)
        held.acquire(False,nan) none.acquire(timeout=nan) owned.wait(nan) owned.wait_for(bool,nan) owned.release()
        ctx.Event().wait(nan) ctx.Barrier(2).wait(nan) ctx.Barrier(1).wait(nan) ctx.Barrier(2,timeout=nan).wait()
    """,
    )


def queues(ctx):
    queue, joinable, simple, closed = (
        ctx.Queue(1),
        ctx.JoinableQueue(),
        ctx.SimpleQueue(),
        ctx.Queue(),
    )
    unpicklable, ununpicklable, nan = Unpicklable(), Ununpicklable(), float("nan")
    yield (
        locals(),
        """
        ctx.Queue(2**31) ctx.JoinableQueue(2**40) ctx.Queue().get(timeout=nan) ctx.Queue().get(False,nan)
        ctx.Queue(1).put(1,timeout=nan) filled(ctx.Queue(1)).put(2,timeout=nan) filled(ctx.Queue(1)).put(2,False,nan)
        filled(ctx.Queue(1)).get(timeout=nan) ctx.JoinableQueue().get(True,nan)
        ctx.Queue('x') ctx.Queue(1.5) ctx.Queue([]) ctx.Queue(-1) ctx.SimpleQueue(1) queue.get_nowait()
        queue.get(False) queue.get(True,-1) queue.get(True,'x') queue.get(True,0) queue.put() queue.put(1,True,'x')
        queue.put(1) queue.put(2,False) queue.put(2,True,-1) queue.put(2,timeout=0) queue.put_nowait(2) queue.nope
        queue.join() len(queue) iter(queue) queue.join_thread() joinable.task_done() joinable.join() joinable.put(1)
        joinable.get() joinable.task_done() joinable.task_done() joinable.task_done(1) closed.close() closed.close()
        closed.put(1) closed.put_nowait(1) closed.get() closed.get_nowait() closed.join_thread()
        closed.cancel_join_thread() simple.put(unpicklable) simple.put(1,2) simple.get(1) simple.put(ununpicklable)
        simple.get() simple.empty() simple.close() simple.close() simple.put(1) simple.get() simple.empty()
    """,
    )


def pipes(ctx):
    one, other = ctx.Pipe()
    reader, writer = ctx.Pipe(False)
    unpicklable, ununpicklable, nan = Unpicklable(), Ununpicklable(), float("nan")
    yield (
        locals(),
        """
        reader.send(1) writer.recv() writer.poll() reader.send_bytes(b'') writer.recv_bytes() one.send()
        one.send(unpicklable) other.poll() one.send(ununpicklable) other.recv() other.poll() one.poll('x')
        one.poll(-1) one.poll(nan) one.recv_bytes('x') one.recv_bytes(-1) one.send_bytes(3) one.send_bytes('x')
        one.send_bytes(b'abc',-1) one.send_bytes(b'abc',4) one.send_bytes(b'abc',1,5) one.send_bytes(b'abc',1,-1)
        one.send_bytes(b'abc') other.recv_bytes_into(bytearray(2)) one.send_bytes(b'abc')
        other.recv_bytes_into(bytearray(5),9) other.recv_bytes_into(bytearray(5),-1) other.recv_bytes_into(b'')
        other.recv_bytes_into(None) one.send_bytes(b'abc') other.recv_bytes(2) one.send(1) one.close() one.close()
        one.fileno() one.poll() one.recv() one.send(1) one.__enter__() other.recv() other.poll()
        connection.Connection(-1) connection.Connection('x') connection.Connection(9999,False,False)
        connection.Listener(3) connection.Listener(None,'AF_PIPE') connection.Listener(None,3)
        connection.Listener(('localhost',99999)) connection.Listener('/nonexistent/x')
        connection.Listener(authkey='x') connection.Listener(backlog='x') connection.Client(3) connection.Client(None)
        connection.Client('/nonexistent') connection.Client(('localhost',)) connection.wait(3) connection.wait(['x'])
        connection.wait([1.5],0) connection.wait([-1],0) connection.wait([object()]) connection.wait([],'x')
        connection.wait([],nan) connection.wait([],-1)
    """,
    )


def values(ctx):
    value, array, text = ctx.Value("i"), ctx.Array("i", 3), ctx.Array("c", 3)
    yield (
        locals(),
        """
        ctx.Value('?') ctx.Value(3) ctx.Value() ctx.Value('i','x') ctx.Value('i',1,2) ctx.Value('i',lock=3)
        ctx.Array('i') ctx.Array('i',-1) ctx.Array('i',1.5) ctx.Array('i','abc') ctx.Array('i',[1,'x']) ctx.Array(3,3)
        ctx.Array('i',3,lock='x') ctx.Array('c','abc') ctx.RawArray('i') ctx.RawArray(int,3) array[3] array[-4]
        array['x'] array.__setitem__(0,'x') array.__setitem__(slice(0,2),[1]) array.value len(value) value.foo
        setattr(value,'value','x') setattr(text,'value',3) value.release() heap.BufferWrapper(-1)
        heap.BufferWrapper('x') sharedctypes.copy(3) sharedctypes.synchronized(value) shared_memory.SharedMemory()
        shared_memory.SharedMemory(3) shared_memory.SharedMemory('nobody_made_this')
        shared_memory.SharedMemory(create=True) shared_memory.SharedMemory(create=True,size=-1)
        shared_memory.SharedMemory(create=True,size=2**62) shared_memory.SharedMemory(create=True,size=2**63)
        heap.BufferWrapper(2**62) ctx.RawArray('i',2**62) shared_memory.SharedMemory(create=True,size='x') shared_memory.ShareableList(3)
        shared_memory.ShareableList([[]])
    """,
    )


def processes(ctx):
    fresh, ended = ctx.Process(target=echo), ctx.Process(target=echo)
    nan, busy = float("nan"), ctx.Process(target=time.sleep, args=(60,), daemon=True)
    busy.start()
    current = importlib.import_module(type(fresh).__mro__[-2].__module__).current_process()
    yield (
        locals(),
        """
        busy.join(nan) busy.kill() busy.join() busy.join(nan) ctx.Process(1) ctx.Process(nope=1) ctx.Process(args=3) ctx.Process(kwargs=3) ctx.Process(kwargs=[1])
        fresh.join() fresh.terminate() fresh.kill() fresh.is_alive() fresh.exitcode fresh.pid fresh.sentinel
        setattr(fresh,'name',3) setattr(fresh,'authkey','x') setattr(fresh,'exitcode',3) fresh.start(1) ended.start()
        ended.start() setattr(ended,'daemon',True) ended.join('x') ended.join() ended.join(-1) ended.exitcode
        ended.start() ended.close() ended.close() ended.join() ended.is_alive() ended.exitcode ended.pid
        ended.sentinel ended.terminate() ended.kill() ended.start() ended.name current.start() current.join()
        current.terminate() current.kill() current.close() current.sentinel ctx.get_context('x') ctx.get_context(3)
        ctx.get_context([]) ctx.set_start_method('fork') ctx.set_forkserver_preload(['a',3])
        process.AuthenticationString('x') util.Finalize(None,echo) util.Finalize(3,echo)
        util.register_after_fork(3,echo) reduction.DupFd(99999) reduction.DupFd('x') reduction.ForkingPickler()
        reduction.ForkingPickler.loads(b'')
    """,
    )


def pools(ctx):
    workers, ended = ctx.Pool(1), ctx.Pool(1)
    threads = importlib.import_module(type(workers).__module__).ThreadPool(1)
    ended.close()
    ended.join()
    unpicklable, nan = Unpicklable(), float("nan")
    try:
        yield (
            locals(),
            """
            workers.apply_async(time.sleep,(0.2,)).get(nan) workers.apply_async(time.sleep,(0.2,)).wait(nan)
            workers.imap(time.sleep,[0.2]).next(nan) threads.apply_async(time.sleep,(0.2,)).get(nan)
            threads.map_async(time.sleep,[0.2]).get(nan) threads.imap(time.sleep,[0.2]).next(nan)
            ctx.Pool(0) ctx.Pool(-1) ctx.Pool('x') ctx.Pool(1,3) ctx.Pool(1,nope=3) ctx.Pool(1,maxtasksperchild=0)
            ctx.Pool(1,maxtasksperchild='x') workers.map(echo,3) workers.map(echo,[1],'x')
            workers.map(echo,[unpicklable]) workers.map(3,[1]) workers.starmap(echo,[3]) workers.apply(echo,3)
            workers.apply(echo,(),3) workers.apply(echo,(),[]) workers.apply(echo,(),'x')
            workers.apply(echo,(unpicklable,)) workers.apply(Unpicklable) workers.apply(refuse,(1,))
            workers.apply(refuse) workers.map(refuse,[1]) list(workers.imap(refuse,[1]))
            list(workers.imap(echo,[1],0)) list(workers.imap(echo,3)) list(workers.imap_unordered(echo,[1],-1))
            next(workers.imap(echo,[])) workers.imap(echo,[]).next()
            workers.apply_async(echo).nope workers.join() len(workers) reduction.ForkingPickler.dumps(workers)
            ended.map(echo,[1]) ended.map(echo,[]) ended.apply(echo) ended.apply_async(echo) ended.imap(echo,[1])
            ended.imap_unordered(echo,[1]) ended.starmap(echo,[]) ended.__enter__() ended.close() ended.join()
            ended.terminate() ended.map(echo,[1]) threads.map(echo,3) threads.map(3,[1]) threads.apply(refuse,(1,))
            list(threads.imap(refuse,[1])) threads.close() threads.map(echo,[1]) threads.join() threads.apply(echo)
        """,
        )
    finally:
        workers.terminate()
        workers.join()
        threads.terminate()


def servers(ctx):
    manager = ctx.Manager()
    shared, table, names = manager.list([1]), manager.dict(a=1), manager.Namespace()
    queue, lock, barrier = manager.Queue(1), manager.Lock(), manager.Barrier(1)
    unpicklable, ununpicklable = Unpicklable(), Ununpicklable()
    yield (
        locals(),
        """
        manager.list(3) manager.dict(3) manager.Semaphore(-1) manager.Barrier('x') manager.Array(3,3) manager.nope
        manager.start() shared[5] shared['x'] shared.pop(9) shared.remove(9) shared.append()
        shared.append(unpicklable) shared.append(ununpicklable) shared+3 shared.nope shared() table['x'] table[[]]
        table.update(3) table.popitem() table.popitem() names.x delattr(names,'x') names._x queue.get_nowait()
        queue.put(1) queue.put_nowait(2) queue.get(True,'x') queue.get(True,-1) queue.task_done() queue.task_done()
        lock.release() lock.acquire(True,'x') barrier.abort() barrier.wait() shared._callmethod('nope')
        shared._callmethod('append',3) manager.get_server() manager.connect() manager.shutdown() manager.shutdown()
        manager.list() manager.start() manager.get_server() shared[0] len(shared) lock.acquire()
        managers.BaseManager(authkey='x') managers.BaseManager(serializer='x') managers.SyncManager().list()
        managers.SyncManager().shutdown() managers.SyncManager().start(3) managers.SyncManager().connect()
        managers.Token() managers.convert_to_error('#TRACEBACK',3) managers.MakeProxyType('x',3)
    """,
    )


def outcomes(package, group):
    """Return what evaluating each expression, in turn, raises."""
    steps = group(package.get_context("fork"))
    used, expressions = next(steps)
    names = {**globals(), **used}
    for module in SUBMODULES:
        names[module] = importlib.import_module(f"{package.__name__}.{module}")
    found = []
    for expression in expressions.split():
        if "forkserver_preload" in expression and sys.version_info < (3, 11):
            continue  # Python 3.10 checks the list that was there before
        try:
            eval(expression, names)
        except Exception as error:
            found.append((expression, type(error).__name__))
        else:
            found.append((expression, None))
    return found


@pytest.mark.parametrize("group", [locks, queues, pipes, values, processes, pools, servers])
def test_what_is_raised(group):
    standard = outcomes(importlib.import_module("multiprocessing"), group)
    own = outcomes(importlib.import_module("procession"), group)
    assert own == standard
