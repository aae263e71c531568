"""procession's executor in place of that of `concurrent.futures`, where a program asks for it.

Programs use it without a change of their own.
"""

from __future__ import annotations

import pytest

PROGRAM = """
{first}
import asyncio, concurrent.futures, os, subprocess, sys
from concurrent.futures import ProcessPoolExecutor, as_completed
import concurrent.futures.process as futures_process
import multiprocessing

class Own(ProcessPoolExecutor):
    pass

def double(x):
    return x * 2

def die():
    os._exit(3)

def name():
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(1) as executor:
        return type(executor).__module__, executor.submit(double, 4).result()

async def ask(executor):
    return await asyncio.get_running_loop().run_in_executor(executor, double, 5)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    assert futures_process.ProcessPoolExecutor is concurrent.futures.ProcessPoolExecutor
    with Own(2) as executor:
        print(ProcessPoolExecutor.__module__, isinstance(executor, concurrent.futures.Executor))
        print(list(executor.map(double, range(4))), asyncio.run(ask(executor)))
        print(sorted(future.result() for future in as_completed([executor.submit(double, n) for n in (1, 2)])))
        try:
            executor.submit(die).result()
        except futures_process.BrokenProcessPool as error:
            print("broken", isinstance(error, concurrent.futures.BrokenExecutor))
        print(executor.submit(double, 8).result())
        print(executor.submit(name).result())
    print(subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True).stdout, end="")

""".replace(
    "SHOW",
    "'from concurrent.futures import process; print(process.ProcessPoolExecutor.__module__)'",
)
EXPECTED = """procession._executor.executor True
[0, 2, 4, 6] 10
[2, 4]
broken True
16
('procession._executor.executor', 8)
"""


@pytest.mark.parametrize("way", ["run", "install", "procession first"])
def test_the_executor_is_ours_everywhere(run_program, method, way):
    if way == "run":
        flags = ["-m", "procession", "run", "--executor", "--start-method", "spawn"]
        done = run_program(PROGRAM.format(first=""), method, flags=flags)
        beneath = "procession._executor.executor"
    else:
        first = "import procession; procession.install(executor=True)"
        if way == "procession first":
            first += "; procession.ProcessPoolExecutor"
        done = run_program(PROGRAM.format(first=first), method)
        beneath = "concurrent.futures.process"
    assert (done.stdout, done.stderr) == (f"{EXPECTED}{beneath}\n", "")


def test_it_is_the_standard_library_s_unless_asked_for(run_program):
    text = (
        "from concurrent.futures import ProcessPoolExecutor; print(ProcessPoolExecutor.__module__)"
    )
    done = run_program(text, under="run")
    assert (done.stdout, done.stderr) == ("concurrent.futures.process\n", "")


@pytest.mark.parametrize("first", ["import concurrent.futures.process", "import multiprocessing"])
def test_it_is_refused_once_the_other_is_loaded(run_program, first):
    text = f"""
import procession
{first}
try:
    procession.install(executor=True)
except RuntimeError as error:
    print("imported" in str(error))
from concurrent.futures import ProcessPoolExecutor
print(ProcessPoolExecutor.__module__)
"""
    done = run_program(text)
    assert done.stdout in ("True\nconcurrent.futures.process\n",), done.stderr


def test_a_changed_pool_leaves_the_executor_alone(run_program, method):
    text = """
import sys
import procession
from procession import pool

def refuse(*args):
    raise RuntimeError

if __name__ == "__main__":
    pool.worker = refuse
    with procession.ProcessPoolExecutor(1, procession.get_context(sys.argv[1])) as executor:
        print(executor.submit(abs, -1).result())
    with pool.ThreadPool(1) as threads:
        print(threads.apply(abs, (-2,)))
"""
    done = run_program(text, method)
    assert (done.stdout, done.stderr) == ("1\n2\n", "")
