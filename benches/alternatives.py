"""Ask the alternatives the same questions: ``python benches/alternatives.py [library ...]``.

Prints the table of README.md. Each answer is what a program saw that ran in an interpreter of its
own, with two workers. "waits for ever" means: 20 s passed without an answer. Libraries that are not
installed are listed at the end; ``make .build/peers-3.11``, with the version of the interpreter,
installs them into a folder for ``PYTHONPATH``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

LIMIT = 20.0
WORKERS = 2

#: Starts a call, and returns the function that waits for its result.
Submit = Callable[[Callable[[Any], Any], Any], Callable[[], Any]]


@contextmanager
def pool_of(library: str) -> Iterator[Submit]:
    with importlib.import_module(library).Pool(WORKERS) as pool:
        yield lambda f, x: pool.apply_async(f, (x,)).get


@contextmanager
def executor_of(library: str) -> Iterator[Submit]:
    with importlib.import_module(library).ProcessPoolExecutor(WORKERS) as executor:
        yield lambda f, x: executor.submit(f, x).result


@contextmanager
def pebble(_: str) -> Iterator[Submit]:
    import pebble

    with pebble.ProcessPool(WORKERS) as pool:
        yield lambda f, x: pool.schedule(f, args=(x,)).result


@contextmanager
def mpire(_: str) -> Iterator[Submit]:
    import mpire

    with mpire.WorkerPool(WORKERS) as pool:
        yield lambda f, x: pool.apply_async(f, (x,)).get


@contextmanager
def joblib(_: str) -> Iterator[Submit]:
    """All tasks are one call, which begins when the first result is asked for."""
    import joblib

    tasks: list[Any] = []

    @functools.cache
    def results() -> list[Any] | BaseException:
        try:
            return joblib.Parallel(WORKERS)(tasks)
        except Exception as error:
            return error

    def submit(function: Callable[[Any], Any], item: Any) -> Callable[[], Any]:
        tasks.append(joblib.delayed(function)(item))
        number = len(tasks) - 1

        def wait() -> Any:
            if isinstance(found := results(), BaseException):
                raise found
            return found[number]

        return wait

    yield submit


@contextmanager
def ray(_: str) -> Iterator[Submit]:
    import ray

    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            yield lambda f, x: functools.partial(ray.get, ray.remote(max_retries=0)(f).remote(x))
        finally:
            ray.shutdown()


LIBRARIES: dict[str, Callable[[str], Any]] = {
    "procession": pool_of,
    "multiprocessing": pool_of,
    "concurrent.futures": executor_of,
    "multiprocess": pool_of,
    "billiard": pool_of,
    "loky": executor_of,
    "joblib": joblib,
    "pebble": pebble,
    "mpire": mpire,
    "ray": ray,
}


def outcome(wait: Callable[[], Any]) -> str:
    """Return "result", or the name of the error's type; a thread that is left waiting says nothing."""
    found = ["waits for ever"]

    def ask() -> None:
        try:
            wait()
            found[0] = "result"
        except BaseException as error:
            found[0] = type(error).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(LIMIT)
    return found[0]


def plain(_: int) -> int:
    time.sleep(0.1)
    return os.getpid()


def die_at_two(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(number)


class Bad:
    """An object that fails when it is pickled, or when it is unpickled."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        if self.where == "here":
            raise ValueError("it cannot be pickled")
        return fail, ()


def fail() -> None:
    raise ValueError("it cannot be unpickled")


def bad(_: Any) -> Bad:
    return Bad("here")


def a_worker_is_killed(library: str) -> str:
    """Six tasks, of which one kills its worker."""
    with LIBRARIES[library](library) as submit:
        waits = [submit(die_at_two, number) for number in range(6)]
        outcomes = [outcome(wait) for wait in waits]
        if "waits for ever" in outcomes:
            return leave("waits for ever")
        failed = sum(found != "result" for found in outcomes)
    return leave("its task fails" if failed == 1 else "other tasks fail")


def a_result_fails(library: str) -> str:
    """A result that cannot be pickled."""
    with LIBRARIES[library](library) as submit:
        return leave(outcome(submit(bad, 0)), "error")


def an_argument_fails(library: str) -> str:
    """An argument that a worker cannot unpickle, and then a good one."""
    with LIBRARIES[library](library) as submit:
        first = outcome(submit(plain, Bad("there")))
        if first == "waits for ever":
            return leave(first)
        second = outcome(lambda: submit(plain, 0)())
    return leave("error" if second == "result" else "ends the pool")


def a_lambda(library: str) -> str:
    """A lambda as the task."""
    with LIBRARIES[library](library) as submit:
        try:
            wait = submit(lambda x: x, 0)
        except Exception:
            return leave("no")
        return leave("yes" if outcome(wait) == "result" else "no")


def beat(path: str) -> None:
    while True:
        pathlib.Path(path).touch()
        time.sleep(0.01)


def a_time_limit(library: str) -> str:
    """A task without an end, and the library's own limit of time, if it has one."""
    path = tempfile.mkstemp()[1]
    module = importlib.import_module(library)
    if library == "procession":
        with module.Pool(WORKERS, task_timeout=1) as pool:
            found = outcome(pool.apply_async(beat, (path,)).get)
            return leave(ended(path, found))
    if library == "billiard":
        with importlib.import_module("billiard.pool").Pool(WORKERS, enable_timeouts=True) as pool:
            found = outcome(pool.apply_async(beat, (path,), timeout=1).get)
            return leave(ended(path, found))
    if library == "pebble":
        with module.ProcessPool(WORKERS) as pool:
            found = outcome(pool.schedule(beat, args=(path,), timeout=1).result)
            return leave(ended(path, found))
    if library == "mpire":
        with module.WorkerPool(WORKERS) as pool:
            found = outcome(pool.apply_async(beat, (path,), task_timeout=1).get)
            return leave(ended(path, found))
    if library == "joblib":
        with module.Parallel(WORKERS, timeout=10) as parallel:
            parallel(module.delayed(plain)(number) for number in range(4))  # starts the workers
            found = outcome(lambda: parallel(module.delayed(beat)(path) for _ in range(2)))
            return leave(ended(path, found))
    return "no option"


def ended(path: str, found: str) -> str:
    if found == "waits for ever":
        return found
    before = None
    for _ in range(100):
        if (now := os.stat(path).st_mtime_ns) == before:
            return "stops it"
        before = now
        time.sleep(0.1)
    return "it runs on"


def hold(lock: Any, held: Any) -> None:
    lock.acquire()
    held.set()
    time.sleep(LIMIT * 3)


def a_holder_is_killed(library: str) -> str:
    """The process that holds a lock is killed; another one waits for the lock."""
    module = importlib.import_module(library)
    if not (hasattr(module, "Lock") and hasattr(module, "Process")):
        return "no locks"
    lock, held = module.Lock(), module.Event()
    holder = module.Process(target=hold, args=(lock, held))
    holder.start()
    held.wait()
    os.kill(holder.pid, signal.SIGKILL)
    found = outcome(lock.acquire)
    return leave("error" if found not in ("result", "waits for ever") else found)


def the_names(library: str) -> str:
    """How many of the names of `multiprocessing` the library has."""
    import multiprocessing

    module = importlib.import_module("ray.util.multiprocessing" if library == "ray" else library)
    names = multiprocessing.__all__
    there = sum(hasattr(module, name) for name in names)
    return "all" if there == len(names) else f"{there} of {len(names)}"


QUESTIONS: dict[str, Callable[[str], str]] = {
    "a worker is killed": a_worker_is_killed,
    "a result cannot be pickled": a_result_fails,
    "an argument cannot be unpickled": an_argument_fails,
    "a task has no end": a_time_limit,
    "a lock's holder is killed": a_holder_is_killed,
    "lambdas as tasks": a_lambda,
    "names of `multiprocessing`": the_names,
}


def leave(found: str, error: str | None = None) -> str:
    """Print the answer and end at once: what hangs would keep the interpreter."""
    if error and found not in ("waits for ever", "result"):
        found = error
    print(found, flush=True)
    os._exit(0)


def ask(question: str, library: str) -> str:
    """Ask in an interpreter of its own, and end all that it started.

    Workers that outlive it keep its streams open, so those are files.
    """
    code = f"import alternatives as a; a.leave(a.QUESTIONS[{question!r}]({library!r}))"
    path = os.pathsep.join([str(pathlib.Path(__file__).parent), *sys.path[1:]])
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        try:
            child.wait(10 * LIMIT)
        except subprocess.TimeoutExpired:
            return "waits for ever"
        finally:
            with suppress(ProcessLookupError):  # nothing was left
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        answer = out.read().strip().rpartition("\n")[2]
        if not answer:
            err.seek(0)
            raise RuntimeError(f"{library}, {question}: {err.read()}")
        return answer


def row(library: str) -> str:
    answers = [ask(question, library) for question in QUESTIONS]
    shown = f"**{library}**" if library == "procession" else library
    return f"| {shown} | {' | '.join(answers)} |"


def main() -> None:
    libraries = sys.argv[1:] or list(LIBRARIES)
    print("| |", " | ".join(QUESTIONS), "|")
    print("|", " | ".join(["---"] * (len(QUESTIONS) + 1)), "|")
    missing = [
        name for name in libraries if importlib.util.find_spec(name.partition(".")[0]) is None
    ]
    for library in libraries:
        if library not in missing:
            print(row(library), flush=True)
    if missing:
        print("Not installed:", *missing)


if __name__ == "__main__":
    main()
