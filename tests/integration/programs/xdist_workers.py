"""`pytest -n 2`: tests that open pools, in two workers.

Needs: pytest-xdist
"""

import pathlib
import re
import subprocess
import sys

TESTS = """
import multiprocessing, os
import pytest

@pytest.mark.parametrize("count", range(4))
def test_pool(count):
    assert os.environ["PYTEST_XDIST_WORKER"]
    with multiprocessing.get_context(%r).Pool(2) as pool:
        assert pool.map(abs, range(-count, 0)) == list(range(count, 0, -1))
"""

if __name__ == "__main__":
    path = pathlib.Path(__file__).with_name("test_inner.py")
    path.write_text(TESTS % sys.argv[1])
    command = [
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        path.name,
    ]
    done = subprocess.run(
        [sys.executable, *command], cwd=path.parent, capture_output=True, text=True
    )
    print(done.returncode, re.findall(r"\d+ passed|\d+ failed", done.stdout))
