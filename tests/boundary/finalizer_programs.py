"""Programs of `test_finalizers.py`: each has its finalizer or handler run in the middle of a call.

The file is long because each program is whole: it shares only `BEGIN` with the others.
"""

#: What each program begins with. A hang ends with the tracebacks of all threads.
BEGIN = """
import faulthandler, gc, logging, os, signal, sys, threading
import procession
from procession import util
from procession.managers import SyncManager
from procession.pool import Pool, ThreadPool

faulthandler.dump_traceback_later(100, exit=True)


def handled_by(act):
    "Have the signal of `raised` call `act`."
    def handle(signum, frame):
        sys.settrace(None)
        act()
    signal.signal(signal.SIGUSR1, handle)


def raised():
    signal.raise_signal(signal.SIGUSR1)


def at_lines(code, line, action, act):
    "Call `action`, and `act` in a handler at this executed line of a function. Was there such a line?"
    lines = 0
    def trace(frame, event, arg):
        nonlocal lines
        if frame.f_code is code and event == "line":
            lines += 1
            if lines == line:
                raised()
        return trace
    handled_by(act)
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return lines >= line


class Cycle:
    "Garbage for the collector alone."
    def __init__(self, **held):
        self.itself = self
        self.__dict__.update(held)


class Garbage:
    "Garbage that calls `act` when it is collected and then leaves another of its kind, `left` times."
    left = 0
    pid = os.getpid()  # children of fork have a copy
    def __init__(self, act):
        self.itself, self.act = self, act
    def __del__(self):
        if Garbage.left > 0 and os.getpid() == Garbage.pid:
            Garbage.left -= 1
            try:
                self.act()
            finally:
                Garbage(self.act)


class collecting:
    "Collect at nearly each allocation, and find garbage each time."
    def __init__(self, act, times=100):
        self.act, self.times = act, times
    def __enter__(self):
        gc.collect()
        gc.freeze()
        Garbage.left = self.times
        Garbage(self.act)
        gc.set_threshold(1)
    def __exit__(self, *exc):
        gc.set_threshold(700)
        Garbage.left = 0
        gc.collect()
        gc.unfreeze()
"""

PROGRAMS = {
    "a handler calls a proxy while a call of the same thread waits": """
if __name__ == "__main__":
    with procession.get_context(sys.argv[1]).Manager() as manager:
        queue, calls = manager.Queue(), manager.list()
        def act():
            calls.append(1)
            queue.put("item")
        handled_by(act)
        signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGUSR1))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert queue.get() == "item"
        assert len(calls) == 1
""",
    "a finalizer calls a proxy in the middle of a call of the same thread": """
if __name__ == "__main__":
    with procession.get_context(sys.argv[1]).Manager() as manager:
        calls, items = manager.list(), manager.dict()
        items["lists"] = lists = [[number] for number in range(10)]
        with collecting(lambda: calls.append(1)):
            for _ in range(20):
                assert items.get("lists") == lists
        assert len(calls) > 0
""",
    "a server's thread drops proxies of that server": """
proxies = []


def make():
    if proxies:
        Garbage(drop)
    return Cycle()


def drop():
    if proxies:
        Cycle(proxy=proxies.pop())


class Manager(SyncManager):
    pass


Manager.register("Thing", make)


def serve(server):
    try:
        server.serve_forever()
    except SystemExit:
        pass


if __name__ == "__main__":
    server = Manager(authkey=b"key").get_server()
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    manager = Manager(address=server.address, authkey=b"key")
    manager.connect()
    proxies += [manager.list() for _ in range(100)]
    with collecting(drop, 1000):
        for _ in range(20):
            manager.Thing()
    proxies.clear()
    # A thread of the server may be in the middle of a collection, and this one then collects nothing.
    while manager._number_of_objects():
        gc.collect()
    os._exit(0)
""",
    "a handler terminates a pool that starts a worker": """
if __name__ == "__main__":
    pool = procession.get_context(sys.argv[1]).Pool(1)
    def act():
        pool.terminate()
        pool.join()
    handled_by(act)
    workers = pool._pool_workers
    start = workers._start
    def starting(**kwds):
        os.eventfd_write(pool._core.notice, 1)  # the watch wants the lock
        raised()
        return start(**kwds)
    workers._start = starting
    pool.resize(2)
    assert not procession.active_children()
""",
    "a handler shuts an executor down that starts a worker": """
if __name__ == "__main__":
    context = procession.get_context("spawn" if sys.argv[1] == "fork" else sys.argv[1])
    executor = procession.ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(abs, -1)]
    workers = executor._engine.pool._pool_workers
    start = workers._start
    def starting(**kwds):
        os.eventfd_write(workers.core.notice, 1)
        raised()
        return start(**kwds)
    workers._start = starting
    handled_by(executor.shutdown)
    futures.append(executor.submit(abs, -2))
    assert [future.result() for future in futures] == [1, 2]
    executor.shutdown()
    assert not procession.active_children()
""",
    "a finalizer ends a pool in the thread that starts its workers": """
class Queued(Pool):
    def _setup_queues(self):
        super()._setup_queues()


if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    for cls in Pool, Queued:
        garbage = Cycle(pool=cls(1, context=context))
        workers = garbage.pool._pool_workers
        start = workers._start
        def starting(**kwds):
            process = start(**kwds)
            gc.collect()
            return process
        workers._start = starting
        (watch,) = (thread for thread in threading.enumerate() if thread.name == "PoolWorkers")
        gc.disable()
        pid = workers.workers[0].pid
        del garbage
        os.kill(pid, signal.SIGKILL)
        watch.join()
        assert not procession.active_children(), cls
        gc.enable()
""",
    "an executor is used while it is started": """
from procession._executor import engine as module


class Noticed(module._Pool):
    made = 0

    def __init__(self, *args, **kwds):
        super().__init__(*args, **kwds)
        Noticed.made += 1
        if Noticed.made == 1:
            raised()


def executor():
    Noticed.made = 0
    return procession.ProcessPoolExecutor(1, mp_context=procession.get_context(sys.argv[1]))


if __name__ == "__main__":
    module._Pool = Noticed
    used = executor()
    handled_by(lambda: used.submit(abs, -2).result())
    assert used.submit(abs, -1).result() == 1
    used.shutdown()
    assert not procession.active_children()
    ended = executor()
    handled_by(ended.shutdown)
    try:
        ended.submit(abs, -1)
    except RuntimeError:
        assert not procession.active_children()
    else:
        raise AssertionError("the executor accepts calls after a shutdown")
""",
    "a handler starts a thread of the package in the middle of `threading`": """
if __name__ == "__main__":
    with procession.get_context(sys.argv[1]).Pool(1) as pool:
        line = 1
        while True:
            results = []
            act = lambda: results.append(pool.imap(abs, iter([-1, -2])))
            if not at_lines(threading.enumerate.__code__, line, threading.enumerate, act):
                break
            assert [list(result) for result in results] == [[1, 2]]
            line += 1
        assert line > 1
""",
    "a handler closes a listener that accepts": """
from procession.connection import Listener

if __name__ == "__main__":
    code, line = Listener._accept_proved.__code__, 1
    while line < 12:
        listener = Listener(authkey=b"key")
        try:
            at_lines(code, line, listener.accept, listener.close)
        except OSError:
            line += 1
""",
    "a connection is closed while it is closed": """
from procession.connection import Connection

if __name__ == "__main__":
    code = Connection._close.__code__
    line = 1
    there = True
    while there:
        connection, _other = procession.Pipe()
        new = []
        def act():
            connection.close()
            new.extend(os.pipe())
            connection.close()
        there = at_lines(code, line, connection.close, act)
        for fd in new:
            os.fstat(fd)
            os.close(fd)
        line += 1
    connection, _other = procession.Pipe()
    def trace(frame, event, arg):
        if frame.f_code is code and event == "return":
            sys.settrace(None)
            new.extend(os.pipe())
            connection.close()
        return trace
    new.clear()
    sys.settrace(trace)
    connection.close()
    sys.settrace(None)
    for fd in new:
        os.fstat(fd)
""",
    "finalizers add to what is being gone through": """
from procession import dummy

held = []


class Object:
    pass


def act():
    held.append(Object())
    util.register_after_fork(held[-1], id)
    held.append(util.ForkAwareThreadLock())


if __name__ == "__main__":
    for _ in range(20):
        act()
    for function in util._run_after_forkers, util._free_locks:
        with collecting(act):
            function()
    dummy.Process(target=int).start()
    with collecting(lambda: dummy.Process(target=int).start()):
        dummy.active_children()
""",
    "a finalizer ends a pool in the middle of a log record": """
class Collects(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "now":
            gc.collect()


if __name__ == "__main__":
    logger = procession.get_logger()
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Collects())
    gc.disable()
    garbage = Cycle(pool=procession.get_context(sys.argv[1]).Pool(1))
    (watch,) = (thread for thread in threading.enumerate() if thread.name == "PoolWorkers")
    del garbage
    util.debug("now")
    watch.join()
""",
    "a handler asks for a result that is being made": """
from procession._pool.thread_job import ThreadJob

if __name__ == "__main__":
    with ThreadPool(1) as pool:
        code, line = ThreadJob.result.__code__, 1
        while True:
            result = pool.map_async(abs, [-1, -2])
            result.wait()
            got = []
            if not at_lines(code, line, result.get, lambda: got.append(result.get())):
                break
            assert got == [[1, 2]], (line, got)
            line += 1
        assert line > 1
""",
    "finalizers use the package in the middle of everything": """
from concurrent.futures import wait
from procession.shared_memory import SharedMemory


def acts(manager, pool, executor, threads, context):
    "Yield what finalizers do, again and again."
    queue, (reader, writer), items = context.Queue(), context.Pipe(False), manager.list()
    finished = []
    while True:
        queue.put("item")
        assert queue.get() == "item"
        yield
        writer.send("message")
        assert reader.recv() == "message"
        yield
        items.append(1)
        yield
        Cycle(proxy=manager.list(), queue=context.Queue(), pipe=context.Pipe(), lock=context.RLock())
        yield
        Cycle(memory=SharedMemory(create=True, size=100, track=False)).memory.unlink()
        yield
        finished.append(pool.apply_async(int, callback=id))
        yield
        finished.append(threads.apply_async(int, callback=id))
        yield
        finished.append(executor.submit(int))
        yield
        util.info("a finalizer")
        util.register_after_fork(Cycle(), id)
        yield


def operations(manager, pool, executor, threads, context):
    def process():
        process = context.Process(target=int)
        process.start()
        process.join()
        process.close()

    def pools():
        with context.Pool(1) as other:
            assert other.map(abs, range(-3, 0)) == [3, 2, 1]
            other.apply_async(abs, (-1,)).cancel()
        other = context.Pool(1)
        other.close()
        other.join()
        assert list(pool.imap_unordered(abs, iter([-1]))) == [1]
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]

    def executors():
        with procession.ProcessPoolExecutor(1, mp_context=context) as other:
            assert other.submit(abs, -1).result() == 1
            assert list(other.map(abs, [-1, -2])) == [1, 2]
        assert list(executor.map(abs, [-1, -2])) == [1, 2]

    def managers():
        items = manager.list([1])
        items.append(manager.dict())
        assert items[0] == 1 and len(items) == 2
        del items

    def queues():
        queue = context.Queue()
        queue.put(context.Lock())
        queue.get()
        queue.close()
        queue.join_thread()

    def connections():
        one, other = context.Pipe()
        one.send([[]])
        assert other.recv() == [[]]
        other.close()
        one.close()

    def memory():
        segment = SharedMemory(create=True, size=10)
        segment.close()
        segment.unlink()
        with context.Value("i") as value, context.Lock():
            pass

    def thread_pools():
        assert threads.map(abs, range(-20, 0)) == list(range(20, 0, -1))
        assert list(threads.imap(abs, [-1])) == [1]

    def logs():
        for _ in range(20):
            util.info("an operation")

    return [queues, connections, memory, logs, managers, thread_pools, process, pools, executors]


if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    procession.log_to_file("log", logging.INFO)
    manager, pool, threads = context.Manager(), context.Pool(2), ThreadPool(2)
    executor = procession.ProcessPoolExecutor(2, mp_context=context)
    things = manager, pool, executor, threads, context
    act = acts(*things).__next__
    act()
    for operation in operations(*things):
        with collecting(act, 50):
            operation()
    for ended in (pool, threads):
        ended.close()
        ended.join()
    executor.shutdown()
    manager.shutdown()
""",
}
