"""An installation from the sources ends in one line where procession cannot run."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "release"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("maturin") is None or not FOLDER.exists(),
    reason="needs the checkout and maturin",
)

#: The build backend on another system, asked as pip asks it.
ASKED = """
import platform, sys
sys.path.insert(0, sys.argv[1])
import backend
sys.platform, machine, sys.implementation.name = sys.argv[2:5]
platform.machine = lambda: machine
print(backend.get_requires_for_build_wheel())
"""


def ask(*system):
    command = [sys.executable, "-c", ASKED, str(FOLDER), *system]
    environment = {**os.environ, "MATURIN_NO_INSTALL_RUST": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("system", "wrong"),
    [
        (("darwin", "arm64", "cpython"), "darwin"),
        (("win32", "AMD64", "cpython"), "win32"),
        (("linux", "i686", "cpython"), "i686"),
        (("linux", "x86_64", "pypy"), "pypy"),
    ],
)
def test_says_what_is_supported(system, wrong):
    done = ask(*system)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "procession runs on Linux (x86-64 and aarch64) with CPython 3.10 or newer; "
        f"this is {wrong}\n"
    )


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_goes_on_where_procession_runs(machine):
    done = ask("linux", machine, "cpython")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_has_all_hooks_of_maturin():
    names = "get_requires_for_build_sdist build_sdist build_wheel build_editable prepare_metadata_for_build_wheel"
    code = f"import backend; [getattr(backend, name) for name in {names.split()}]"
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, check=True)
