"""Ctrl-C at every line: `python -m tests.storm.interrupts SCENE METHOD POINT` is a program that gets it at one.

A program that is interrupted while it makes, uses or ends something ends with one traceback, its own, and leaves no process. `POINT` counts the
lines of the package, and of `threading`, that the main thread executes in `SCENE`; 0 is none, and prints how many there are; -1 is none,
and prints when the scene begins.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

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
    queue = context_of(method).JoinableQueue()
    queue.put(identity)
    queue.get()
    queue.task_done()
    queue.join()
    queue.close()


def manager(method: str) -> None:
    with context_of(method).Manager() as manager:
        manager.list([1]).append(2)


def process(method: str) -> None:
    process = context_of(method).Process(target=identity, args=(1,))
    process.start()
    process.join()
    process.close()


SCENES = {
    function.__name__: function
    for function in (imports, pool, closed_pool, executor, queue, manager, process)
}


def main(scene: str, method: str, point: str) -> None:
    wanted, lines, me = int(point), 0, os.getpid()

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal lines
        if event == "call":
            return trace if is_counted(frame.f_code.co_filename) else None
        if event == "line":
            lines += 1
            if 0 < wanted <= lines and os.getpid() == me and not is_lost(frame):
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    if wanted < 0:
        print("begun", flush=True)
    sys.settrace(trace)
    SCENES[scene](method)
    sys.settrace(None)
    if wanted == 0:
        print(lines)


def is_lost(frame: Any) -> bool:
    """Whether what is raised in a frame goes nowhere: it belongs to a finalizer that the collector runs."""
    while frame is not None:
        weak = frame.f_code.co_name == "__call__" and frame.f_locals.get("wr") is not None
        if weak or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def is_counted(file: str) -> bool:
    """Whether the lines of a file are: the package's, but for the many that only look at a program's text, and those that start threads."""
    ours = "/procession/" in file and "_by_value" not in file
    return ours or file.endswith("/threading.py")


def start(scene: str, method: str, point: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storm.interrupts", scene, method, str(point)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=FOLDER,
        start_new_session=True,
    )


def lines_of(scene: str, method: str) -> int:
    """How many lines the main thread executes."""
    with start(scene, method, 0) as program:
        out, err = program.communicate(timeout=60)
        assert (program.returncode, err) == (0, ""), err
        return int(out)


def check(program: subprocess.Popen[str], patience: float) -> None:
    """AssertionError unless the program ends with at most one traceback, an interrupt's, and leaves no process of its session."""
    try:
        _, err = program.communicate(timeout=patience)
        assert program.returncode in (0, -signal.SIGINT), f"{program.returncode}: {err}"
        shown = err.count("Traceback (most recent call last)")
        shown -= err.count("During handling of the above exception, another exception occurred")
        # None, if it came when the program was over and the interpreter about to end.
        assert shown == (program.returncode != 0) or not err, err
        assert not err or err.endswith("KeyboardInterrupt\n"), err
        end = time.monotonic() + patience
        while members := session(program.pid):
            assert time.monotonic() < end, f"left behind: {members}"
            time.sleep(0.01)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it hangs: {session(program.pid)}") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        program.stdout.close()  # type: ignore[union-attr]
        program.stderr.close()  # type: ignore[union-attr]


def session(leader: int) -> list[str]:
    """The command lines of the processes of a session."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/stat") as file:
                state, _parent, _group, number = file.read().rpartition(")")[2].split()[:4]
            if int(number) == leader and state not in "ZX":
                with open(f"/proc/{entry}/cmdline") as file:
                    members.append(f"{entry} {file.read()}")
    return members


def at_line(scene: str, method: str, point: int, patience: float = 60) -> None:
    """Interrupt a program at a line of its own."""
    try:
        check(start(scene, method, point), patience)
    except AssertionError as error:
        raise AssertionError(f"{scene} by {method}, interrupted at line {point}: {error}") from None


def at_random(scene: str, method: str, seed: int, patience: float = 60) -> None:
    """Interrupt a program after a random time, it alone or all its processes."""
    chance = random.Random(seed)
    program = start(scene, method, -1)
    assert program.stdout is not None
    program.stdout.readline()  # the interpreter's own start is its own business
    # Not synchronisation: it only varies where the interrupt falls.
    time.sleep(chance.uniform(0, 0.3))
    send = chance.choice((os.kill, os.killpg))
    with contextlib.suppress(ProcessLookupError):
        send(program.pid, signal.SIGINT)
    try:
        check(program, patience)
    except AssertionError as error:
        text = f"{scene} by {method}, interrupted with seed {seed}: {error}"
        raise AssertionError(text) from None


def storm(context: Any, seed: int, count: int) -> str:
    """Interrupt `count` programs of each kind: half of them at lines of their own, half at random moments. What to say of it."""
    method, chance = context.get_start_method(), random.Random(seed)
    for scene in SCENES:
        lines = lines_of(scene, method)
        for number in range(count // 2):
            at_line(scene, method, chance.randint(1, lines))
            at_random(scene, method, seed * count + number)
    return f"{count // 2 * 2 * len(SCENES)} programs ended with one traceback and left nothing"


if __name__ == "__main__":
    main(*sys.argv[1:])
