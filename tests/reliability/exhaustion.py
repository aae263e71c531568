"""Programs that use up a resource of their whole process, for the tests of exhaustion.

Each test is its own program, which prints "done" at its end.
"""

from __future__ import annotations

#: Each test is its own program, because it uses up resources of the whole process.
HEAD = """\
import os, resource, sys
import procession

def echo(inbox, outbox):
    for item in iter(inbox.get, None):
        outbox.put(item)

def works():
    inbox, outbox = procession.Queue(), procession.Queue()
    child = procession.Process(target=echo, args=(inbox, outbox))
    child.start()
    for item in (1, b"x" * 500_000, None):
        inbox.put(item)
    assert (outbox.get(), len(outbox.get())) == (1, 500_000)
    child.join()
    assert child.exitcode == 0
    with procession.Lock():
        pass
    return True
"""


def program(text, functions=""):
    return HEAD + functions + "\nif __name__ == '__main__':\n" + text


def run(run_program, text, *args, functions="", timeout=60, **env):
    expect_done(run_program(program(text, functions), *args, env=env, timeout=timeout))


def expect_done(end):
    assert end.returncode == 0, end.stderr
    assert end.stdout.split() == ["done"], end.stdout
