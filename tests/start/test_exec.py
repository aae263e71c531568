"""A forked child that executes a program leaves the family: it pins and holds nothing.

Its parent then gets back all that existed at the fork.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

import procession
from procession import _procession


def popen():
    """Python runs the function in the child, after a fork with all its hooks."""
    return subprocess.Popen(["sleep", "1000"], preexec_fn=lambda: None).pid


def fork_and_exec():
    """Fork and exec by hand, as programs do; return once the program runs."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "1000"])
    os.close(writer)
    assert os.read(reader, 1) == b""  # closed on exec
    os.close(reader)
    return pid


def daemon():
    """Fork a copy of this process that first closes every descriptor."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(writer, 1)
        os.closerange(3, 4096)
        os.execvp("sh", ["sh", "-c", "echo; exec sleep 1000 >/dev/null"])
    os.close(writer)
    assert os.read(reader, 1) == b"\n"
    os.close(reader)
    return pid


@pytest.mark.parametrize("start", [popen, fork_and_exec, daemon], ids=lambda start: start.__name__)
def test_what_existed_at_the_fork_is_given_back(alone, start):
    def check():
        queue, lock = procession.Queue(), procession.Lock()
        for number in range(5):
            queue.put(bytes([number]) * 1_000_000)
        pid = start()
        try:
            for number in range(5):
                assert queue.get() == bytes([number]) * 1_000_000
            del queue, lock
            assert _procession.counters()["deferred"] == 0
            assert pid not in [member["pid"] for member in _procession.members()]
            os.kill(pid, 0)  # it is alive
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    alone(check)
