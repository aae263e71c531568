"""`green -s 2`: unit tests in two processes.

Needs: green
"""

import pathlib
import re
import subprocess
import sys

TESTS = """
import unittest

class Test(unittest.TestCase):
    def test_good(self):
        pass

    def test_bad(self):
        self.fail("expected")
"""

if __name__ == "__main__":
    folder = pathlib.Path(__file__).with_name("unit")
    folder.mkdir(exist_ok=True)
    for name in ("test_one.py", "test_two.py"):
        (folder / name).write_text(TESTS)
    command = [sys.executable, "-m", "green", "-s", "2", "test_one.py", "test_two.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(
        done.returncode,
        re.findall(r"Ran \d+ tests|using \d+ processes|failures=\d+|passes=\d+", done.stdout),
    )
