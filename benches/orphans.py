"""Measure how soon after SIGKILL of a family's root the last of its processes is gone.

For each kind of process and each start method, a root starts some processes and is killed, several
times. Prints the number of families and processes, and the milliseconds until a process had ended,
as median and worst.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pathlib
import select
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any, NoReturn

import procession
from procession import managers

LATEST = 60.0
"""Seconds after which a process that is still alive counts as left over."""


def busy(*_: Any) -> None:
    while True:
        pass


def hold_interpreter(*_: Any) -> None:
    """Run a loop in C that holds the interpreter's lock, and have a handler that would need it."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    max(itertools.repeat(0))


def sleep(*_: Any) -> None:
    time.sleep(1000)


def call(function: Any) -> None:
    function()


def nested(method: str) -> None:
    procession.get_context(method).Process(target=sleep, daemon=True).start()
    time.sleep(1000)


def daemons(ctx: Any, target: Any, *args: Any) -> Any:
    children = [ctx.Process(target=target, args=args, daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    return children


def from_a_thread(ctx: Any) -> None:
    thread = threading.Thread(target=daemons, args=(ctx, sleep))
    thread.start()
    thread.join()


def held(lock: Any) -> Any:
    lock.acquire()
    return lock


def working(pool: Any, target: Any) -> Any:
    return pool, pool.map_async(target, range(2), chunksize=1)


def executing(ctx: Any, target: Any) -> Any:
    executor = procession.ProcessPoolExecutor(2, mp_context=ctx)
    futures: list[Future[Any]] = [executor.submit(target, n) for n in range(2)]
    return executor, futures


def idle_executor(ctx: Any) -> Any:
    executor, futures = executing(ctx, abs)
    return executor, [future.result() for future in futures]


def manager(ctx: Any) -> Any:
    one = managers.SyncManager(ctx=ctx)
    one.start()
    return one, one.dict()


KINDS: dict[str, Any] = {
    "daemon, busy": lambda ctx: daemons(ctx, busy),
    "daemon, in sleep": lambda ctx: daemons(ctx, sleep),
    "daemon, in a queue's get": lambda ctx: daemons(ctx, call, ctx.Queue().get),
    "daemon, at a lock": lambda ctx: daemons(ctx, call, held(ctx.Lock()).acquire),
    "daemon, in C, holding the interpreter": lambda ctx: daemons(ctx, hold_interpreter),
    "daemon, started by a thread": from_a_thread,
    "die_with_parent, and its daemon": lambda ctx: ctx.Process(
        target=nested, args=(ctx.get_start_method(),), die_with_parent=True
    ).start(),
    "pool worker, idle": lambda ctx: ctx.Pool(2),
    "pool worker, busy": lambda ctx: working(ctx.Pool(2), busy),
    "pool worker, in C": lambda ctx: working(ctx.Pool(2), hold_interpreter),
    "executor worker, idle": idle_executor,
    "executor worker, busy": lambda ctx: executing(ctx, busy),
    "executor worker, in C": lambda ctx: executing(ctx, hold_interpreter),
    "manager's server": manager,
}


def be_root(kind: str, method: str) -> NoReturn:
    """Start the processes to be left behind, and wait to be killed."""
    keep = KINDS[kind](procession.get_context(method))
    # Time for the processes to reach the state to be tested.
    time.sleep(0.3)
    print("ready", flush=True)
    time.sleep(1000)
    sys.exit(f"the root was not killed within 1,000 s: {keep}")


def session(leader: int) -> list[int]:
    """Return the pids of a session's processes, except its leader's."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != leader:
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def watch(leader: int) -> dict[int, int]:
    """Return descriptors that report the ends of a session's processes, with their pids."""
    ends = {}
    for pid in session(leader):
        with contextlib.suppress(ProcessLookupError):
            ends[os.pidfd_open(pid)] = pid
    return ends


def measure(kind: str, method: str) -> list[float]:
    """Return the milliseconds from SIGKILL of the root to the end of each process that it left."""
    root = subprocess.Popen(
        [sys.executable, __file__, "--root", kind, method],
        stdout=subprocess.PIPE,
        # A process that waits for a lock of the root's reports its death.
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert root.stdout is not None and root.stdout.readline() == b"ready\n", kind
    ends = watch(root.pid)
    assert ends, kind
    root.kill()
    killed, took = time.monotonic(), []
    while ends:
        ready, _, _ = select.select(ends, [], [], LATEST)
        now = time.monotonic()
        if not ready:
            raise SystemExit(f"{kind}, {method}: left over after {LATEST} s: {list(ends.values())}")
        for fd in ready:
            took.append((now - killed) * 1000)
            del ends[fd]
            os.close(fd)
        # Processes that were started just before their parent learned of the death.
        ends = ends or watch(root.pid)
    root.wait()
    root.stdout.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {'; '.join(KINDS)}")
    parser.add_argument("--times", type=int, default=5, help="families of each kind and method (5)")
    parser.add_argument("--root", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.root:
        be_root(*options.root)
    before = set(os.listdir("/dev/shm"))
    print("| what is left | families | processes | median | worst |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind in options.kinds or KINDS:
        families = [
            measure(kind, method)
            for method in ("fork", "spawn", "forkserver")
            for _ in range(options.times)
        ]
        took = [each for family in families for each in family]
        print(
            f"| {kind} | {len(families)} | {len(took)} "
            f"| {statistics.median(took):.0f} ms | {max(took):.0f} ms |",
            flush=True,
        )
    left = set(os.listdir("/dev/shm")) - before
    print(f"\nleft in /dev/shm: {len(left)}")


if __name__ == "__main__":
    main()
