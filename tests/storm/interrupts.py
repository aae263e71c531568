"""Ctrl-C at every line.

`python -m tests.storm.interrupts SCENE METHOD POINT` is a program that is interrupted at one.

A program that is interrupted while it makes, uses or ends something must end with one traceback,
its own, and leave no process. A point is a line of the package, or of `threading`, that the main
thread executes in the scene: `FILE:LINE:NUMBER`, where NUMBER counts the executions of that line.
`list` is no point: it prints all points. `none` prints when the scene begins.
"""

from __future__ import annotations

import collections
import contextlib
import dis
import functools
import os
import random
import signal
import subprocess
import sys
import time
import types
import weakref
from typing import Any

from .patience import LOOK, Patience, descriptions, session, session_limit

#: What a program prints when it is interrupted at a line, with the time.
INTERRUPTED = "interrupted at"

#: How CPython's messages begin about an interrupt that it dropped because it came in the callback of
#: a weak reference: where an import releases a lock, and in the collections of `weakref`.
LOST = tuple(
    f"Exception ignored in: <function {callback}"
    for callback in (
        "_get_module_lock.<locals>.cb",
        "WeakValueDictionary.__init__.<locals>.remove",
        "WeakKeyDictionary.__init__.<locals>.remove",
        "WeakSet.__init__.<locals>._remove",
        "_WeakValueDictionary.__init__.<locals>.KeyedRef.remove",
    )
)

FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def identity(item: Any) -> Any:
    return item


def context_of(method: str) -> Any:
    import procession

    return procession.get_context(method)


def imports(method: str) -> None:
    context_of(method)


def pool(method: str) -> None:
    with context_of(method).Pool(2) as pool:
        pool.map(identity, range(4))


def closed_pool(method: str) -> None:
    pool = context_of(method).Pool(2, maxtasksperchild=1)
    pool.apply_async(identity, (1,), callback=identity).get()
    list(pool.imap_unordered(identity, (number for number in range(4))))
    pool.close()
    pool.join()


def executor(method: str) -> None:
    import procession

    with procession.ProcessPoolExecutor(2, mp_context=context_of(method)) as executor:
        executor.submit(identity, 1).result()
        list(executor.map(identity, range(4)))


def queue(method: str) -> None:
    context = context_of(method)
    queue = context.JoinableQueue()
    process = context.Process(target=queue.put, args=(identity,), daemon=True)
    process.start()
    queue.put(identity)
    for _ in range(2):
        queue.get()
        queue.task_done()
    queue.join()
    queue.close()
    process.join()


def manager(method: str) -> None:
    with context_of(method).Manager() as manager:
        manager.list([1]).append(2)


class Echo:
    def echo(self, item: Any) -> Any:
        return item


def actor(method: str) -> None:
    from procession import actor

    with actor.options(context=context_of(method), max_restarts=1)(Echo) as echo:
        echo.echo(1)
        echo.echo([1])
        actor.submit(echo.echo, [2]).result()


def process(method: str) -> None:
    process = context_of(method).Process(target=identity, args=(1,))
    process.start()
    process.join()
    process.close()


SCENES = {
    function.__name__: function
    for function in (imports, pool, closed_pool, executor, actor, queue, manager, process)
}


def main(scene: str, method: str, point: str) -> None:
    times: collections.Counter[str] = collections.Counter()
    points: list[str] = []
    me = os.getpid()
    site, _, number = point.rpartition(":")

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if event == "call":
            return trace if is_counted(frame.f_code.co_filename) else None
        if event == "line" and os.getpid() == me:
            here = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
            if (point != "list" and here != site) or leaves_with(frame) or is_lost(frame):
                return trace
            times[here] += 1
            if point == "list":
                points.append(f"{here}:{times[here]}")
            elif times[here] >= int(number):
                sys.settrace(None)
                print(INTERRUPTED, time.monotonic(), flush=True)
                raise KeyboardInterrupt
        return trace

    if point == "none":
        print("begun", flush=True)
    else:
        sys.settrace(trace)
    SCENES[scene](method)
    sys.settrace(None)
    if point == "list":
        print("\n".join(points))


@functools.cache
def ends_of_with(code: types.CodeType) -> set[int]:
    """Return the offsets where the normal end of a `with` block begins.

    There `__exit__` is called with None three times, and no signal handler runs before that.
    """
    nones = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]
    ends = set()
    for first, second, third in zip(nones, nones[1:], nones[2:], strict=False):
        names = (first.opname, second.opname, third.opname)
        loads = ("LOAD_CONST", "LOAD_CONST", "LOAD_CONST"), ("LOAD_CONST", "DUP_TOP", "DUP_TOP")
        if names in loads and {first.argval, second.argval, third.argval} == {None}:
            ends.add(first.offset)
    return ends


def leaves_with(frame: Any) -> bool:
    """Return whether a frame has reached the end of a `with` block."""
    return frame.f_lasti in ends_of_with(frame.f_code)


def is_lost(frame: Any) -> bool:
    """Return whether an exception raised in a frame is lost.

    It is lost in a finalizer, and in a callback for an object that is gone.
    """
    while frame is not None:
        dead = any(isinstance(v, weakref.ref) and v() is None for v in frame.f_locals.values())
        if dead or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def is_counted(file: str) -> bool:
    """Return whether the lines of a file are counted.

    They are those of the package and of `threading`, which starts threads. The many lines of the
    package that only analyse a program's text are not counted.
    """
    ours = "/procession/" in file and ("_pickling" not in file or file.endswith("queue_ends.py"))
    return ours or file.endswith("/threading.py")


def start(scene: str, method: str, point: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storm.interrupts", scene, method, point],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=FOLDER,
        start_new_session=True,
    )


def points_of(scene: str, method: str) -> list[str]:
    """Return the lines that the main thread executes, in order."""
    program = start(scene, method, "list")
    out, err = outcome(program, session_limit(program.pid, 60))
    assert (program.returncode, err) == (0, ""), err
    return out.split()


def judge(code: int, err: str) -> None:
    """Raise AssertionError unless a program ended with at most one traceback, an interrupt's."""
    if (
        code == 0
        and err.startswith(LOST)
        and err.endswith(("KeyboardInterrupt: \n", "KeyboardInterrupt\n"))
    ):
        return
    assert code in (0, -signal.SIGINT), f"{code}: {err}"
    shown = err.count("Traceback (most recent call last)")
    shown -= err.count("During handling of the above exception, another exception occurred")
    # The error of a module of CPython 3.15 that imports lazily is the cause of the interrupt.
    shown -= err.count("The above exception was the direct cause of the following exception")
    # No traceback if the interrupt came when the program was done and the interpreter about to end.
    assert shown == (code != 0) or not err, err
    # Python 3.11 and newer add notes to an exception: of the pickler, of classes that are made.
    _, interrupt, notes = err.rpartition("KeyboardInterrupt\n")
    assert not err or (interrupt and "  File " not in notes), err


def time_of_interrupt(out: str) -> float | None:
    """Return when a program was interrupted at its line, from what it printed."""
    return float(out.rpartition(INTERRUPTED)[2].split()[0]) if INTERRUPTED in out else None


def outcome(program: subprocess.Popen[str], patience: Patience) -> tuple[str, str]:
    """Wait until a program and all processes of its session have ended; return what it printed.

    Raises AssertionError if they do not end within the limit.
    """
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = program.communicate(timeout=LOOK)
                break
            assert not patience.is_over(), f"it hangs: {descriptions(session(program.pid))}"
        while session(program.pid):
            assert not patience.is_over(), (
                f"left behind: {descriptions(session(program.pid))}\n{err}"
            )
            time.sleep(0.01)
        return out, err
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        program.stdout.close()  # type: ignore[union-attr]
        program.stderr.close()  # type: ignore[union-attr]


def check(program: subprocess.Popen[str], timeout: float, since: float | None = None) -> float:
    """Return how many seconds after its interrupt the program was gone.

    Raises AssertionError unless it ends as `judge` demands and leaves no process of its session.
    """
    out, err = outcome(program, session_limit(program.pid, timeout))
    end = time.monotonic()
    judge(program.returncode, err)
    since = time_of_interrupt(out) or since
    return 0 if since is None else end - since


def at_line(scene: str, method: str, point: str, timeout: float = 60) -> float:
    """Interrupt a program at a line of its own; return how many seconds it took to end."""
    try:
        return check(start(scene, method, point), timeout)
    except AssertionError as error:
        raise AssertionError(f"{scene} by {method}, interrupted at {point}: {error}") from None


def at_random(scene: str, method: str, seed: int, timeout: float = 60) -> float:
    """Interrupt a program, or all its processes, after a random time.

    Return how many seconds it took to end.
    """
    chance = random.Random(seed)
    program = start(scene, method, "none")
    assert program.stdout is not None
    program.stdout.readline()  # the start of the interpreter itself is not tested
    # Not synchronisation: it only varies where the interrupt falls.
    time.sleep(chance.uniform(0, 0.3))
    send = chance.choice((os.kill, os.killpg))
    with contextlib.suppress(ProcessLookupError):
        send(program.pid, signal.SIGINT)
    try:
        return check(program, timeout, time.monotonic())
    except AssertionError as error:
        text = f"{scene} by {method}, interrupted with seed {seed} ({send.__name__}): {error}"
        raise AssertionError(text) from None


def storm(context: Any, seed: int, count: int) -> str:
    """Interrupt `count` programs of each kind; return a summary.

    Half of them are interrupted at lines of their own, half at random moments.
    """
    method, chance = context.get_start_method(), random.Random(seed)
    seconds = []
    for scene in SCENES:
        points = points_of(scene, method)
        for number in range(count // 2):
            seconds.append(at_line(scene, method, chance.choice(points)))
            seconds.append(at_random(scene, method, seed * count + number))
    return f"{len(seconds)} programs ended with one traceback and left nothing, {slow(seconds)}"


def slow(seconds: list[float]) -> str:
    """Return a summary of the times that programs took to end."""
    late = sum(took > 2 for took in seconds)
    return f"{late} of them later than 2 s, the last after {max(seconds, default=0):.2f} s"


if __name__ == "__main__":
    main(*sys.argv[1:])
