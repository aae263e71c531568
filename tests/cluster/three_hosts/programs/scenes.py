"""What a program of scenes consists of: ``PROGRAM.py METHOD`` runs its scenes in their order.

Each scene is a function of a context. It asserts what it sees, and the program prints "NAME ok", or
the error and "NAME failed".
"""

from __future__ import annotations

import faulthandler
import inspect
import socket
import sys
import time
import traceback

import procession

#: Seconds that no wait of a passing scene takes.
LONG = 30
#: Seconds after which a program says where it hangs, and ends.
LIMIT = 90


def context_of(method):
    """Return the context of a start method; with "ray", each process goes to the next host."""
    if method == "ray":
        return procession.get_context("ray", strategy="spread")
    return procession.get_context(method)


def host():
    return socket.gethostname()


def hosts_of(method):
    """Return how many hosts a program with this start method has."""
    return 3 if method == "ray" else 1


def until(condition):
    """Return once the condition is true."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def started(ctx, target, *args, times=1, **options):
    """Start a function in as many processes, and return these."""
    processes = [ctx.Process(target=target, args=args, **options) for _ in range(times)]
    for process in processes:
        process.start()
    return processes


def joined(processes):
    """Join processes, all of which end without a failure."""
    for process in processes:
        process.join(LONG)
    codes = [process.exitcode for process in processes]
    assert codes == [0] * len(processes), codes


def main():
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    method, *names = sys.argv[1:]
    ctx = context_of(method)
    for name, scene in scenes_of("__main__").items():
        if names and name not in names:
            continue
        try:
            scene(ctx)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            print(name, "failed", flush=True)
        else:
            print(name, "ok", flush=True)
    faulthandler.cancel_dump_traceback_later()


def scenes_of(module):
    """Return the scenes of a module: its own functions whose first parameter is `ctx`."""
    functions = inspect.getmembers(sys.modules[module], inspect.isfunction)
    own = [(name, function) for name, function in functions if function.__module__ == module]
    own = [pair for pair in own if next(iter(inspect.signature(pair[1]).parameters), "") == "ctx"]
    return dict(sorted(own, key=lambda pair: pair[1].__code__.co_firstlineno))
