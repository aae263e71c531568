"""What a pool's forked workers do not do each on its own, because their parent has done it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, procession

def loaded():
    return set(sys.modules)

with procession.get_context("fork").Pool(1) as pool:
    print(*pool.apply(loaded) - loaded())
"""


def test_a_forked_worker_imports_nothing():
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert program.stdout.split() == []
