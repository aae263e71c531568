"""Fixtures that run a test over start methods, both implementations, and fresh interpreters.

Test modules import the list of start methods and the package's folder from here.
"""

from __future__ import annotations

import gc
import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

import procession

METHODS = ["fork", "spawn", "forkserver"]

# A run in the background inherits SIGINT ignored, and so would the programs that are tested with
# Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: The folder that makes `procession` importable in a fresh interpreter.
PACKAGE_FOLDER = str(pathlib.Path(procession.__file__).parent.parent)

_OWN_NAME = re.compile(r"^( *import .*?)\bmultiprocessing\b(?!\.| as)", re.MULTILINE)
_OWN_PART = re.compile(r"^( *(?:import|from) (?:\w+, )*)multiprocessing\b", re.MULTILINE)


@pytest.fixture(params=METHODS)
def method(request):
    """A start method."""
    return request.param


@pytest.fixture
def ctx(method):
    """procession's context of a start method."""
    return procession.get_context(method)


@pytest.fixture(params=["multiprocessing", "procession"])
def package(request):
    """The standard library's package, and procession: for behaviour that both have."""
    return importlib.import_module(request.param)


@pytest.fixture
def both(package, method):
    """A context of a start method, of both packages."""
    return package.get_context(method)


@pytest.fixture(params=["plain", "import", "run"])
def under(request):
    """How to run a program with the line `import multiprocessing`; see `run_program`."""
    return request.param


@pytest.fixture
def alone():
    """Return a function that runs a function in a child of fork.

    No thread that an earlier test left behind opens or closes descriptors there.
    """

    def run(function):
        def without_garbage():
            gc.collect()
            function()

        process = procession.get_context("fork").Process(target=without_garbage)
        process.start()
        process.join()
        assert process.exitcode == 0

    return run


@pytest.fixture
def run_program(tmp_path):
    """Run the text of a program in a fresh interpreter.

    Return the completed process, output as text.

    `under`: "plain", with the standard library; "import", with procession imported in its place;
    "run", the unchanged text under `procession run`. `args` are the program's, `flags` the
    interpreter's.
    """

    def run(
        text, *args, under="plain", flags=(), env=None, timeout=60, name="program.py", stdin=None
    ):
        if under == "import":
            text = _OWN_NAME.sub(r"\1procession as multiprocessing", text)
            text = _OWN_PART.sub(r"\1procession", text)
            assert "procession" in text
        script = tmp_path / name
        script.write_text(text)
        command = [sys.executable, *flags]
        if under == "run":
            command += ["-m", "procession", "run"]
        environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER, **(env or {})}
        return subprocess.run(
            [*command, str(script), *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            cwd=tmp_path,
            input=stdin,
        )

    return run
