"""Install each wheel of `dist/` into a fresh environment, and test what was installed: `make test-wheels`.

The tests that run are copied into a folder without the package, so they can only meet the wheel.
`--sdist` builds a wheel from the sdist first, without an index of packages. A wheel for a version,
libc or processor that is not at hand is left out, and a line says so.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

from interpreters import interpreters

ROOT = pathlib.Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
#: The slice: each part of the package once, over all start methods.
SLICE = (
    "tests/boundary/test_imports.py",
    "tests/compat/test_names.py",
    "tests/compat/test_version.py",
    "tests/executor/test_calls.py",
    "tests/managers/test_types.py",
    "tests/pool/test_calls.py",
    "tests/queues/test_queue.py",
)
NAME = re.compile(r"procession-[^-]+-cp(\d)(\d+)-cp\d+(t?)-(\w+?)_(x86_64|aarch64)(?:\.\S+)?\.whl")


def run(*command: object, folder: pathlib.Path, **environment: str) -> None:
    """Run a command. Exit with its output if it fails."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**clean, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\n{' '.join(map(str, command[:5]))} ... failed")


def environment_of(python: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Make a fresh virtual environment with what the tests need; return its interpreter."""
    run(python, "-m", "venv", folder / "venv", folder=folder)
    own = folder / "venv" / "bin" / "python"
    packages = ("pytest", "pytest-timeout", "numpy")
    run(own, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages, folder=folder)
    return own


def obstacle(wheel: pathlib.Path) -> str | None:
    """Return why the wheel cannot be tried here, or None."""
    match = NAME.fullmatch(wheel.name)
    if match is None:
        return "its name is not understood"
    major, minor, threaded, libc, machine = match.groups()
    if machine != platform.machine():
        return f"this machine is no {machine}"
    if ("musl" in libc) != (platform.libc_ver()[0] != "glibc"):
        return "the Pythons here have another libc"
    if threaded or f"{major}.{minor}" not in interpreters():
        return f"no interpreter {major}.{minor}{threaded} is at hand"
    return None


def test(wheel: pathlib.Path, chosen: list[str]) -> None:
    """Install a wheel and run the tests against it."""
    match = NAME.fullmatch(wheel.name)
    assert match is not None  # as `obstacle` has checked
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        folder = pathlib.Path(name)
        own = environment_of(interpreters()[f"{match[1]}.{match[2]}"], folder)
        run(own, "-m", "pip", "install", "--quiet", wheel, folder=folder)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", folder)
        where = "import procession, sys; sys.exit(not procession.__file__.startswith(sys.prefix))"
        run(own, "-c", where, folder=folder)
        # Without the folder of the process on the path, as `python -m` would have it.
        pytest = folder / "venv" / "bin" / "pytest"
        plain = ("-q", "-p", "no:cacheprovider")
        run(pytest, *plain, *chosen, folder=folder, PYTHONPATH=str(folder))
    print(f"{wheel.name}: installed and tested")


def from_sdist(folder: pathlib.Path) -> pathlib.Path:
    """Build a wheel of the sdist with this interpreter, without an index; crates may be fetched."""
    (sdist,) = DIST.glob("*.tar.gz")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder]
    target = str(ROOT / "target")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        *options,
        sdist,
        folder=folder,
        CARGO_TARGET_DIR=target,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--sdist", action="store_true", help="the sdist alone")
    parser.add_argument("--python", help="the wheels for this version alone, such as 3.11")
    parser.add_argument("--all", action="store_true", help="fail if a wheel cannot be tried")
    parser.add_argument("tests", nargs="*", default=SLICE, help="default: a slice of all parts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sdist-") as name:
        wheels = [from_sdist(pathlib.Path(name))] if options.sdist else sorted(DIST.glob("*.whl"))
        if options.python is not None:
            tag = f"-cp{options.python.replace('.', '')}-"
            wheels = [wheel for wheel in wheels if tag in wheel.name]
        if not wheels:
            sys.exit("no such wheel is in dist/: `make wheels` builds them")
        left_out = 0
        for wheel in wheels:
            reason = obstacle(wheel)
            if reason is None:
                test(wheel, options.tests)
            else:
                left_out += 1
                print(f"{wheel.name}: left out, since {reason}")
        if options.all and left_out:
            sys.exit(f"{left_out} of {len(wheels)} wheels could not be tried")


if __name__ == "__main__":
    main()
