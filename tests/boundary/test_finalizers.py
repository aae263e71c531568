"""Finalizers and signal handlers that use the package in the middle of its own code.

The garbage collector runs finalizers in whatever thread allocates, and a signal handler runs between
any two bytecodes of the main thread. Either may find the thread with a lock of the package, or with a
call under way.
"""

from __future__ import annotations

import pytest

from tests.boundary.finalizer_programs import BEGIN, PROGRAMS

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", PROGRAMS)
def test_finalizers_and_handlers_may_use_the_package(run_program, method, name):
    if method != "fork" and "sys.argv" not in PROGRAMS[name]:
        pytest.skip("is the same by every start method")
    done = run_program(BEGIN + PROGRAMS[name], method, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Error" not in done.stderr and "Exception" not in done.stderr, done.stderr
