"""Signal handlers that use the package while the interrupted code first uses it, at any point.

Children of one program repeat that first use, each with the signal at another line.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(300)

#: Each point of a first use (an executed line of the package, or of a module that it imports) is
#: tried in its own child.
PROGRAM = """
import os, signal, sys, time
import procession

ctx = procession.get_context("fork")
queue, other, lock, event = ctx.SimpleQueue(), ctx.Queue(), ctx.RLock(), ctx.Event()
queue_of_handler = ctx.SimpleQueue()


class Own:
    pass


def put(what):
    other.put(what)
    other.get()


def pool():
    with ctx.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1


def executor():
    with procession.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        assert executor.submit(abs, -1).result() == 1


def pipe():
    one, another = ctx.Pipe()
    one.send(Own())
    another.recv()


def start(method):
    process = procession.get_context(method).Process(target=int)
    process.start()
    process.join()
    assert process.exitcode == 0


def acquire():
    with lock:
        pass
    event.wait(0.001)


def fill(sender):
    "Have a child put functions that only their values can carry: this process has not made such a pickle."
    process = procession.get_context(sender).Process(target=put_functions, args=(sent,))
    process.start()
    process.join()
    assert process.exitcode == 0


def put_functions(sent):
    for _ in range(100):
        sent.put(lambda: Own)


sent = ctx.SimpleQueue()


def take():
    assert sent.get()().__name__ == "Own"


FIRST = {
    "put": lambda: put(Own()),
    "get_lambda": take,
    "put_lambda": lambda: put(lambda: Own),
    "acquire": acquire,
    "lock": ctx.Lock,
    "pipe": pipe,
    "value": lambda: ctx.Value("i"),
    "pool": pool,
    "executor": executor,
    "fork": lambda: start("fork"),
    "spawn": lambda: start("spawn"),
    "forkserver": lambda: start("forkserver"),
}


def importing():
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    return any(getattr(spec, "_initializing", False) for spec in specs)


def handle(signum, frame):
    # It runs within the trace function, where nothing is traced.
    if first_name == "get_lambda":
        take()
    if first_name == "put_lambda":
        # Whatever the interrupted code is importing for that.
        queue_of_handler.put(lambda: 1)
        assert queue_of_handler.get()() == 1
    try:
        queue_of_handler.put(Own())
        queue_of_handler.get()
        acquire()
        start("fork")
        if first_name in ("spawn", "forkserver"):
            start(first_name)
    except (ImportError, AttributeError, NameError):
        # The interrupted code is importing what the handler needs: then it fails, as with any package.
        # A function of that module may miss a name that is defined further down.
        if not importing():
            raise


def at(point):
    "Run the first use, with a signal at the line with this number; how many lines there were."
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return None  # some of its lines cannot be interrupted by an import
        if event == "line":
            lines += 1
            if lines == point:
                signal.raise_signal(signal.SIGUSR1)
        return trace

    sys.settrace(trace)
    try:
        first()
    finally:
        sys.settrace(None)
    return lines


def in_child(function, *args):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writing, str(function(*args)).encode())
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.monotonic() + 30
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            print("stuck at", *args)
            os.kill(pid, signal.SIGABRT)
            os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    os.close(writing)
    with open(reading) as pipe:
        return int(pipe.read() or 0)


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    first_name, points = sys.argv[1], int(sys.argv[2])
    first = FIRST[first_name]
    if first_name == "get_lambda":
        fill(sys.argv[3])
    signal.signal(signal.SIGUSR1, handle)
    lines = in_child(at, 0)
    assert lines > 0
    for point in range(1, lines + 1, max(1, lines // points)):
        in_child(at, point)
"""

FIRST = (
    "put",
    "put_lambda",
    "get_lambda",
    "acquire",
    "lock",
    "pipe",
    "value",
    "pool",
    "executor",
    "fork",
    "spawn",
    "forkserver",
)


@pytest.mark.parametrize("first", FIRST)
def test_a_handler_that_uses_the_package_at_its_first_use(run_program, first):
    done = run_program(PROGRAM, first, "25", "fork", timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("sender", ["spawn", "forkserver"])
def test_a_handler_at_the_first_function_from_another_main_module(run_program, sender):
    done = run_program(PROGRAM, "get_lambda", "25", sender, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


#: A timer's handler puts items while the program first uses its queue: some of its calls interrupt others of it.
TIMER = """
import signal, sys
import procession

def child(queue):
    signal.signal(signal.SIGALRM, lambda *_: queue.put({"a": 1}))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    for _ in range(50):
        assert queue.get(timeout=30) == {"a": 1}
    signal.setitimer(signal.ITIMER_REAL, 0)

if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    for _ in range(5):
        process = context.Process(target=child, args=(context.Queue(),))
        process.start()
        process.join()
        print(process.exitcode)
"""


def test_a_timer_s_handler_puts_while_a_child_begins(run_program, method):
    done = run_program(TIMER, method)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n" * 5, "")


#: A child that cannot import anything any more, as after `chroot` or `setuid`, uses what it was given.
CONFINED = """
import os, sys
import procession

def child(queue, simple, lock, event):
    if os.geteuid() == 0:
        os.chroot("/proc/self/fdinfo")
        os.chdir("/")
    sys.path.clear()
    with lock:
        queue.put({"a": [1]})
    simple.put(ValueError("text"))
    assert queue.get(timeout=30) == {"a": [1]}
    event.set()

if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    queue, simple, lock, event = context.Queue(), context.SimpleQueue(), context.RLock(), context.Event()
    process = context.Process(target=child, args=(queue, simple, lock, event))
    process.start()
    process.join()
    print(process.exitcode, event.is_set(), not simple.empty() and simple.get())
"""


def test_a_child_that_can_import_nothing_uses_what_it_was_given(run_program, method):
    done = run_program(CONFINED, method)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 True text\n", "")


#: A handler interrupts the import of a module that pickling by value needs: where the import system looks for it,
#: and where the module runs.
IMPORTING = """
import signal, sys
import procession

queue = procession.get_context("fork").SimpleQueue()

def handle(*_):
    queue.put(lambda: 1)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "symtable":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGUSR1)

def trace(frame, event, arg):
    if frame.f_code.co_filename.endswith("/symtable.py"):
        sys.settrace(None)
        signal.raise_signal(signal.SIGUSR1)

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, handle)
    if sys.argv[1] == "finder":
        sys.meta_path.insert(0, Finder())
    else:
        sys.settrace(trace)
    import symtable
    queue.put(lambda: 2)
    while not queue.empty():
        print(queue.get()())
"""


@pytest.mark.parametrize("place", ["finder", "module"])
def test_a_handler_that_interrupts_an_import_which_it_needs(run_program, place):
    """It cannot wait for a thread that would wait for the code that it interrupts."""
    done = run_program(IMPORTING, place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n2\n", "")


#: A handler forks at some moment of the first use; parent and child use it to the end.
FORKING = """
import os, signal, sys, time
import procession

def handle(*_):
    global child
    child = os.fork()

def at(seconds):
    global child
    child = None
    queue = procession.get_context("fork").SimpleQueue()
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    queue.put(lambda: 1)
    assert queue.get()() == 1
    while child is None:
        signal.pause()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == 0, code

if __name__ == "__main__":
    for step in range(1, 40, 3):
        pid = os.fork()
        if pid == 0:
            at(step / 1000)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, step
"""


def test_a_handler_that_forks_at_the_first_use(run_program):
    # The import runs in another thread, and Python 3.12 and newer warn of a fork beside one.
    flags = ("-W", "ignore::DeprecationWarning")
    done = run_program(FORKING, timeout=240, flags=flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
