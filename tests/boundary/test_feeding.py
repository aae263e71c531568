"""Signal handlers at every line of the package where `imap` with `buffersize` feeds a pool."""

from __future__ import annotations

import pathlib

import pytest

from tests.conftest import PACKAGE_FOLDER

PATH = f"{PACKAGE_FOLDER}:{pathlib.Path(__file__).parents[2]}"

#: A handler raises, or takes a result itself, at each line of the package that a call runs. Then threads take the
#: others: none waits for a task that was not queued. In the middle of feeding no handler takes results: it would wait
#: for a task that only the code that it interrupts can queue, if other threads take those before it.
PROGRAM = """
import faulthandler, os, sys, threading
import procession
from tests.storm.interrupts import leaves_with

faulthandler.dump_traceback_later(100, exit=True)
FOLDER = os.path.dirname(procession.__file__)

class Raised(BaseException):
    pass

def square(x):
    return x * x

def feeds(frame):
    "Return whether a frame lies in the function that queues tasks of an imap."
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<lambda>" and code.co_filename == os.path.join(FOLDER, "pool.py"):
            return True
        frame = frame.f_back
    return False

def at(line, step, handle):
    "Call `step`, and `handle` before the line with this number; return whether there was one."
    left = line
    def trace(frame, event, arg):
        nonlocal left
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line" and left >= 0 and not leaves_with(frame):
            if handle.__name__ == "takes" and feeds(frame):
                return trace
            left -= 1
            if left < 0:
                sys.settrace(None)
                handle()
        return trace
    sys.settrace(trace)
    try:
        step()
    except Raised:
        pass
    except StopIteration:
        pass
    finally:
        sys.settrace(None)
    return left < 0

def try_line(pool, kind, how, line):
    taken = []
    results = getattr(pool, kind)(square, range(20), buffersize=2)
    # A thread waits already: it relies on the thread that takes the result before.
    waiting = threading.Thread(target=take, args=(results, taken))
    def step():
        waiting.start()
        for _ in range(3):
            taken.append(next(results))
    def raises():
        raise Raised
    def takes():
        taken.append(next(results))
    was = at(line, step, {"raises": raises, "takes": takes}[how])
    if waiting.ident is None:
        waiting.start()
    waiting.join(20)
    assert not waiting.is_alive(), (line, taken)
    # One result may have been lost on its way from the call that was interrupted.
    assert 19 <= len(set(taken)) <= 20 and len(set(taken)) == len(taken), (line, taken)
    return was

def take(results, taken):
    try:
        for result in results:
            taken.append(result)
    except Raised:
        pass

if __name__ == "__main__":
    kind, how = sys.argv[1:]
    with procession.get_context("fork").Pool(1) as pool:
        line = 0
        while try_line(pool, kind, how, line):
            line += 1
        print(line > 5)
"""


@pytest.mark.parametrize("how", ["raises", "takes"])
@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_a_handler_at_every_line(run_program, kind, how):
    done = run_program(PROGRAM, kind, how, env={"PYTHONPATH": PATH}, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
