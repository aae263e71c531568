"""Workers of pools have their own children and pools, and none of them is left when a worker ends.

Also the default number of a pool's workers.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import pytest

import procession
from procession import pool as pool_module
from tests.waiting import is_running, read_once_there, until_ended

pytestmark = pytest.mark.timeout(60)


def square(x):
    return x * x


def squares(n):
    with procession.Pool(2) as pool:
        return pool.map(square, range(n))


def squares_by_executor(n):
    with procession.ProcessPoolExecutor(2, procession.get_context("fork")) as executor:
        return list(executor.map(square, range(n)))


def child_exitcode(code):
    child = procession.Process(target=sys.exit, args=(code,))
    child.start()
    child.join()
    return child.exitcode


def sleep_for_ever(*_):
    while True:
        time.sleep(10)  # until it is killed


def hold_descendants(folder):
    """Write the pids of a child, of a non-daemonic child and of a pool's workers, all busy.

    Then be busy.
    """
    fork = procession.get_context("fork")
    children = [fork.Process(target=sleep_for_ever, daemon=daemon) for daemon in (None, False)]
    for child in children:
        child.start()
    pool = fork.Pool(2)
    pool.map(square, range(4), 1)
    pool.apply_async(sleep_for_ever)
    pids = [child.pid for child in [*children, *pool._pool]]
    (pathlib.Path(folder) / "new").write_text(" ".join(map(str, pids)))
    os.rename(f"{folder}/new", f"{folder}/pids")
    sleep_for_ever()


@pytest.mark.parametrize("task", [squares, squares_by_executor])
def test_pools_within_pools(ctx, task):
    with ctx.Pool(2) as pool:
        assert pool.map_async(task, [3, 4]).get(40) == [[0, 1, 4], [0, 1, 4, 9]]


def test_children_of_workers(ctx):
    with ctx.Pool(2) as pool:
        assert pool.map_async(child_exitcode, [0, 3, 4]).get(40) == [0, 3, 4]


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_nobody_outlives_a_worker(ctx, tmp_path, end):
    with ctx.Pool(1) as pool:
        pool.apply_async(hold_descendants, (str(tmp_path),))
        pids = [int(pid) for pid in read_once_there(tmp_path / "pids").split()]
        assert len(pids) == 4
        assert all(map(is_running, pids))
        if end == "kill":
            pool._pool[0].kill()
            until_ended(pids)
            assert pool.apply_async(square, (3,)).get(20) == 9
        else:
            pool.terminate()
            until_ended(pids)


def test_default_size():
    with procession.Pool() as pool:
        assert len(pool._pool) == pool_module._usable_cpus() <= len(os.sched_getaffinity(0))


def test_default_size_follows_affinity():
    program = "from procession.pool import _usable_cpus as f; import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(f())"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "1\n"


@pytest.fixture
def group():
    """Make a control group with a parent that may use one processor."""
    unified = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()
    root = pathlib.Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/cpu")
    parent = root / f"procession-test-{os.getpid()}"
    child = parent / "slice"
    try:
        child.mkdir(parents=True)
        if unified:
            (parent / "cpu.max").write_text("100000 100000")
        else:
            (parent / "cpu.cfs_quota_us").write_text("100000")
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    else:
        yield child
    finally:
        for folder in (child, parent):
            if folder.exists():
                folder.rmdir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor, whatever the quota")
def test_default_size_follows_the_quota_of_a_group_above(group):
    program = (
        f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
        "from procession.pool import _usable_cpus as f; print(f())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("1\n", "")
