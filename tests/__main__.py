"""Run the tests: `python -m tests [--jobs N] [arguments of pytest]`.

Each folder runs in a pytest of its own, two of them side by side, and what a folder printed is shown
once it is through. Folders of `--ignore` are left out. If an argument names what to run, one pytest
gets all arguments. The exit code is 0 if no test failed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
#: The folders that take longest, in the order in which they begin; all others follow.
LONGEST = ("storm", "programs", "boundary", "pool", "executor", "compat", "reliability", "process")
#: Options of pytest whose value is the next argument.
WITH_VALUE = ("--ignore", "--deselect", "-k", "-m", "-p", "-o", "-W", "-r", "--maxfail")
NO_TESTS = 5
"""The exit code of pytest where nothing was selected."""


def folders() -> list[str]:
    """Return the folders that have tests, those that take longest first."""
    names = {file.relative_to(HERE).parts[0] for file in HERE.glob("*/**/test_*.py")}
    return [name for name in LONGEST if name in names] + sorted(names - set(LONGEST))


def names_a_place(arguments: list[str]) -> bool:
    """Whether an argument says what to run, as a file or folder."""
    before = ["", *arguments]
    return any(
        not one.startswith("-") and last not in WITH_VALUE
        for last, one in zip(before, arguments, strict=False)
    )


def run(folder: str, arguments: list[str]) -> int:
    """Run a folder's tests; print what they printed, and return pytest's exit code."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", f"tests/{folder}", *arguments]
    done = subprocess.run(
        command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    head = f"== tests/{folder}, {time.monotonic() - begin:.0f} s\n".encode()
    sys.stdout.buffer.write(head + done.stdout)
    sys.stdout.buffer.flush()
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__, add_help=False)
    parser.add_argument("--jobs", type=int, default=2)
    options, arguments = parser.parse_known_args()
    if names_a_place(arguments):
        os.execv(sys.executable, [sys.executable, "-m", "pytest", "-q", *arguments])
    ignored = {
        one for last, one in zip(["", *arguments], arguments, strict=False) if last == "--ignore"
    }
    names = [name for name in folders() if f"tests/{name}" not in ignored]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as runners:
        codes = dict(zip(names, runners.map(lambda name: run(name, arguments), names), strict=True))
    failed = [name for name, code in codes.items() if code not in (0, NO_TESTS)]
    if all(code == NO_TESTS for code in codes.values()):
        print("no test was selected")
        return NO_TESTS
    print(f"{len(names)} folders; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
