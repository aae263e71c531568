"""The tasks of the pool's fault tests.

Apart from the tests, so that a worker that starts as a new interpreter loads no test runner.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time


def square(x):
    return x * x


def kill_self(_=None):
    os.kill(os.getpid(), signal.SIGKILL)


def stop_self(_=None):
    os.kill(os.getpid(), signal.SIGSTOP)


def segfault(_=None):
    os.kill(os.getpid(), signal.SIGSEGV)


def exit_at_once(code):
    os._exit(code)


def exit_politely(code):
    sys.exit(code)


def fork_and_exit(code):
    """Return the exit code of a child that exits from the task."""
    pid = os.fork()
    if pid == 0:
        sys.exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def interrupt(_=None):
    raise KeyboardInterrupt


def die_on_three(x):
    if x == 3:
        kill_self()
    return x


def fail_on_three(x):
    if x == 3:
        raise KeyError(x)
    return x


def sleep_a_little(x):
    time.sleep(0.0001)  # not synchronisation: the task takes some time
    return x


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.002)
    return path


def log(line):
    """Append the second of two texts to the file of the first."""
    path, text = line
    with open(path, "a") as file:
        print(text, file=file)


def wait_and_die_once(gate, path):
    """Wait for the file `gate`; die if nothing was logged before."""
    wait_for(gate)
    if not os.path.exists(path):
        log((path, "dies"))
        os.kill(os.getpid(), signal.SIGKILL)
    log((path, "again"))


def meet(folder, count):
    """Return this process's pid once so many processes have come here."""
    with open(f"{folder}/{os.getpid()}.met", "w"):
        pass
    while sum(name.endswith(".met") for name in os.listdir(folder)) < count:
        time.sleep(0.002)
    return os.getpid()


def say_and_wait(folder, _=None):
    """Make the file `pid` and wait forever."""
    with open(f"{folder}/new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{folder}/new", f"{folder}/pid")
    wait_for(f"{folder}/never")


def run_out_of_memory(_=None):
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
    try:
        return bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("never")


class UnpicklableFunction(Unpicklable):
    def __call__(self, x):
        return x


class UnloadableThere:
    def __reduce__(self):
        return _explode, ()


def _explode():
    raise RuntimeError("not here")


class Raises:
    """Raises an error of this kind when it is pickled or, if so told, only when it is unpickled."""

    def __init__(self, kind, there=False):
        self.kind, self.there = kind, there

    def __reduce__(self):
        if not self.there:
            _raise(self.kind)
        return _raise, (self.kind,)


class RaisingError(Exception):
    """An exception whose unpickling raises an error of the kind that it was given."""

    def __reduce__(self):
        return _raise, self.args


def _raise(kind):
    raise kind("not to be unpickled")


def return_what_raises(kind):
    return Raises(kind, there=True)


def raise_what_raises(kind):
    raise RaisingError(kind)


class BadRepr:
    def __init__(self, kind):
        self.kind = kind

    def __repr__(self):
        raise self.kind("not to be seen")


class KillsWhoLoadsIt:
    def __reduce__(self):
        return kill_self, ()


class KillsWhoPicklesIt:
    def __reduce__(self):
        kill_self()


def return_unpicklable(_=None):
    return Unpicklable()


def return_unloadable(_=None):
    return UnloadableThere()


def return_what_kills(_=None):
    """Half of the result is pickled when the process dies."""
    return [bytes(1 << 20), KillsWhoPicklesIt()]


#: Functions that unpickling a result calls in its receiver.
when_loaded = []


class TellsWhoLoadsIt:
    def __reduce__(self):
        return _tell, ()


def _tell():
    for function in when_loaded:
        function()
    return "loaded"


def return_what_tells(_=None):
    return TellsWhoLoadsIt()


def return_much(size):
    return bytes(size)


class PickyError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class UnpicklableError(Exception):
    def __reduce__(self):
        raise RuntimeError("never")


class UnloadableError(Exception):
    def __reduce__(self):
        return _explode, ()


def raise_picky(_=None):
    raise PickyError("a", "b")


def raise_unpicklable(_=None):
    raise UnpicklableError("u")


def raise_unloadable(_=None):
    raise UnloadableError("l")


def raise_rich(_=None):
    error = ValueError("with more")
    error.extra = list(range(10))
    error.__notes__ = ["one note", "another"]
    raise error


def raise_group(_=None):
    raise ExceptionGroup("two", [ValueError(1), OSError(2, "no")])  # noqa: F821


def raise_cyclic(_=None):
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def raise_with_many_causes(_=None):
    error = ValueError("the last of many")
    at = error
    for number in range(3000):
        at.__cause__ = ValueError(number)
        at = at.__cause__
    raise error


def raise_huge(_=None):
    raise ValueError("x" * (5 << 20))


def raise_cancelled(_=None):
    import asyncio  # not in each worker

    raise asyncio.CancelledError("no Exception")


def stop_on_three(x):
    if x == 3:
        raise StopIteration(x)
    return x


def fork_and_return(_=None):
    """Return in both processes; 0 in the child."""
    return os.fork()


def recurse(n=0):
    return recurse(n + 1)


def fail_to_start(text):
    raise OSError(text)


def die_once(path):
    """Kill the first process that calls this."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    kill_self()


def note_and_die(path):
    with open(path, "a") as file:
        file.write("x")
    kill_self()


def identify(_=None):
    return os.getpid()


def touch(path):
    """Make a file that is not there yet."""
    open(path, "x").close()
