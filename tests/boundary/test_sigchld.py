"""SIGCHLD ignored, or with SA_NOCLDWAIT.

The kernel reaps children, and still each end is seen with its exit code.
"""

from __future__ import annotations

import platform
import signal

import pytest

#: Three ways to make the kernel reap children.
IGNORED = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
NO_ZOMBIES = """
class SigAction(ctypes.Structure):  # glibc's, on Linux
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p)]
action = SigAction(flags=2)  # SA_NOCLDWAIT, the default handler
assert ctypes.CDLL(None).sigaction(int(signal.SIGCHLD), ctypes.byref(action), None) == 0
"""
INHERITED = "assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN"

PROGRAM = """
import ctypes, os, signal, sys
import procession

def leave(code):
    sys.exit(code)

def raising():
    raise ValueError("on purpose")

def waiting(event):
    event.wait()
    os._exit(6)

def double(x):
    return 2 * x

def nested(queue):
    child = procession.get_context(sys.argv[1]).Process(target=leave, args=(9,))
    child.start()
    child.join()
    queue.put(child.exitcode)

if __name__ == "__main__":
    {setting}
    ctx = procession.get_context(sys.argv[1])

    def end(target, *args, then=None):
        process = ctx.Process(target=target, args=args)
        process.start()
        if then is not None:
            then(process)
        process.join()
        return process.exitcode

    event, queue = ctx.Event(), ctx.SimpleQueue()
    sys.stderr = open(os.devnull, "w")
    print(end(leave, 0), end(leave, 7), end(raising))
    print(end(waiting, ctx.Event(), then=lambda process: process.kill()))
    print(end(waiting, event, then=lambda process: event.set()))
    print(end(nested, queue), queue.get())
    with ctx.Pool(2) as pool:
        print(pool.map(double, range(5)))
"""

#: Linux 6.15 and later keep the status of a reaped process for holders of a pidfd.
KEEPS_STATUS = tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 15)


@pytest.mark.parametrize(
    "setting", [IGNORED, NO_ZOMBIES, INHERITED], ids=["ignored", "no_zombies", "inherited"]
)
def test_exit_codes_are_known(run_program, method, setting):
    before = signal.getsignal(signal.SIGCHLD)
    if setting is INHERITED:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # `subprocess` passes this on to its children
    try:
        indented = setting.strip().replace("\n", "\n    ")
        done = run_program(PROGRAM.replace("{setting}", indented), method)
    finally:
        signal.signal(signal.SIGCHLD, before)
    keeps = KEEPS_STATUS or method == "forkserver"
    assert done.stdout.splitlines() == [
        "0 7 1",
        "-9" if keeps else "255",
        "6" if keeps else "255",
        "0 9",
        "[0, 2, 4, 6, 8]",
    ], done.stderr
    assert done.returncode == 0
