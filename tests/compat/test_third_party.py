"""Libraries that build on `multiprocessing`, where it matters that procession is what they use.

Each is skipped if it is not installed. `tests/integration` has a program for many more packages.
"""

from __future__ import annotations

import pytest

JOBLIB = """
import multiprocessing, sys
from joblib import Parallel, delayed
import numpy as np

def double(x):
    return x * 2

def total(array):
    return float(array.sum())

class Refused(Exception):
    pass

def refuse(x):
    raise Refused(x)

if __name__ == "__main__":
    run = Parallel(n_jobs=2, backend=sys.argv[1])
    print(multiprocessing.__name__, run(delayed(double)(n) for n in range(5)))
    print(run(delayed(total)(np.ones(300_000)) for _ in range(3)))
    try:
        run(delayed(refuse)(7) for _ in range(2))
    except Refused as error:
        print("refused", error)
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(pool.apply(double, (4,)))
"""


@pytest.mark.parametrize("backend", ["multiprocessing", "loky"])
@pytest.mark.parametrize("under", ["run", "installed"])
def test_joblib(run_program, backend, under):
    pytest.importorskip("joblib")
    pytest.importorskip("numpy")
    text = JOBLIB
    if under == "installed":
        text = "import procession\nprocession.install()\n" + JOBLIB
    done = run_program(text, backend, under="run" if under == "run" else "plain")
    expected = "procession [0, 2, 4, 6, 8]\n[300000.0, 300000.0, 300000.0]\nrefused 7\n8\n"
    assert (done.stdout, done.stderr) == (expected, "")


MPIRE = """
import sys, time
from mpire import WorkerPool

def double(x):
    return x * 2

def pick(shared, x):
    return shared[x]

def begin(state):
    state["base"] = 5

def add(state, x):
    return state["base"] + x

def end(state):
    return state["base"]

if __name__ == "__main__":
    method = sys.argv[1]
    with WorkerPool(n_jobs=2, start_method=method) as pool:
        print(pool.map(double, range(5)), sorted(pool.imap_unordered(double, range(3))), pool.apply_async(double, 4).get())
    with WorkerPool(n_jobs=2, start_method=method, shared_objects=[1, 2, 3]) as pool:
        print(pool.map(pick, range(3)))
    with WorkerPool(n_jobs=2, start_method=method, use_worker_state=True, enable_insights=True) as pool:
        print(pool.map(add, range(3), worker_init=begin, worker_exit=end), pool.get_exit_results(), sum(pool.get_insights()["n_completed_tasks"]))
    try:
        with WorkerPool(n_jobs=2, start_method=method) as pool:
            pool.map(time.sleep, [0.01, 60], task_timeout=0.3)
    except TimeoutError:
        print("timed out")
"""


def test_mpire(run_program, method):
    pytest.importorskip("mpire")
    done = run_program(MPIRE, method, under="run")
    expected = "[0, 2, 4, 6, 8] [0, 2, 4] 8\n[1, 2, 3]\n[5, 6, 7] [5, 5] 3\ntimed out\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_tqdm(run_program, method):
    pytest.importorskip("tqdm")
    text = """
from tqdm.contrib.concurrent import process_map
import multiprocessing

def double(x):
    return x * 2

if __name__ == "__main__":
    print(multiprocessing.__name__, process_map(double, range(5), max_workers=2, chunksize=2, disable=True))
"""
    done = run_program(text, flags=["-m", "procession", "run", "--start-method", method])
    assert (done.stdout, done.stderr) == ("procession [0, 2, 4, 6, 8]\n", "")


FUTURES = """
import asyncio, concurrent.futures, multiprocessing, sys

def double(x):
    return x * 2

async def ask(executor):
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(executor, double, n) for n in range(3)))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        print(multiprocessing.__name__, list(executor.map(double, range(5))), asyncio.run(ask(executor)))
"""


def test_concurrent_futures(run_program, method):
    done = run_program(FUTURES, method, under="run")
    assert (done.stdout, done.stderr) == ("procession [0, 2, 4, 6, 8] [0, 2, 4]\n", "")


#: joblib's own tests of arrays that a pool shares, and of its process backend.
JOBLIB_OWN = (
    "test_pool_with_memmap or test_memmapping_pool_for_large_arrays or test_memmap_returned"
)


@pytest.mark.parametrize("under", ["plain", "run"])
def test_joblib_by_its_own_tests(run_program, under):
    pytest.importorskip("joblib")
    pytest.importorskip("numpy")
    arguments = ["-q", "-p", "no:cacheprovider", "--pyargs", "joblib.test.test_memmapping"]
    chosen = f"({JOBLIB_OWN}) and multiprocessing"
    text = f"import pytest, sys; sys.exit(pytest.main({[*arguments, '-k', chosen]}))"
    done = run_program(text, under=under, timeout=110)
    assert done.returncode == 0, done.stdout


def test_pytest_xdist(run_program, tmp_path):
    pytest.importorskip("xdist")
    (tmp_path / "test_inner.py").write_text("""
import multiprocessing, os

def test_pool():
    assert multiprocessing.__name__ == "procession" and os.environ["PYTEST_XDIST_WORKER"]
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
""")
    text = "import pytest, sys; sys.exit(pytest.main(['-q', '-n', '2', '-p', 'no:cacheprovider', 'test_inner.py']))"
    done = run_program(text, under="run")
    assert done.returncode == 0, done.stdout
