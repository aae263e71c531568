"""Below valgrind a process sees other addresses than the kernel names."""

import shutil
import subprocess
import sys

import pytest

from tests.conftest import PACKAGE_FOLDER

PROGRAM = f"""
import sys
sys.path.insert(0, {PACKAGE_FOLDER!r})
import procession
queue, lock, value = procession.Queue(), procession.Lock(), procession.Value("i", 3)
with lock:
    queue.put((value.value, bytes(100_000)))
    print(len(queue.get(timeout=100)[1]))
"""


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_program_runs():
    command = ["valgrind", "--quiet", "--tool=none", sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stdout) == (0, "100000\n"), done.stderr
