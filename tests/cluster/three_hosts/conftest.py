"""Fixtures of the tests on a cluster: three hosts, and programs that run there or with fork here.

`make cluster` runs these tests. Elsewhere Ray is not installed, and all of them are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.cluster.hosts import NO_RAY, Hosts, lacking
from tests.conftest import PACKAGE_FOLDER

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
#: Seconds after which a program has hung. Some seconds before, it says where, and ends.
LIMIT = 100
#: A line that Ray prints in a driver: what its node has to say, as that another one is dead. Those
#: that follow its first one begin with a tab.
RAYS_OWN = re.compile(r"^(?:(?:\x1b\[\d+m)?\(raylet\b|\t\(\d\)).*\n?", re.MULTILINE)


def pytest_addoption(parser):
    parser.addoption("--storms", type=int, default=8, help="processes that the storm kills")


def pytest_collection_modifyitems(items):
    if importlib.util.find_spec("ray") is None:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=NO_RAY))


@pytest.fixture(scope="session")
def three_hosts():
    """Three hosts for all tests of a run: `hosts` has them whole."""
    if reason := lacking():
        pytest.skip(reason)
    with Hosts() as hosts:
        yield hosts


@pytest.fixture
def hosts(three_hosts):
    """Three hosts, all of which are up and connected when the test begins."""
    three_hosts.repair()
    return three_hosts


class Program:
    """A running program of the folder `programs`; what it prints is read line by line.

    Its standard error goes to the file `errors`: a pipe that nobody reads would stop it.
    """

    def __init__(self, process, errors):
        self.process, self.errors = process, errors

    def line(self):
        """Return the next line that it prints; without its end, and "" once there is none."""
        while RAYS_OWN.match(line := self.process.stdout.readline()):
            pass
        return line.rstrip("\n")

    def say(self, word):
        """Write a line to its standard input."""
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self):
        """Wait for its end, and return what else it printed and wrote to standard error."""
        try:
            out, _ = self.process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            out, _ = self.process.communicate()
        finally:
            self.kill()
        return RAYS_OWN.sub("", out), self.errors.read_text(errors="replace")

    def send(self, number):
        """Send a signal to it, and not to the command that entered its host."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]) if "nsenter" in self.process.args[0] else pid, number)

    def kill(self, number=signal.SIGKILL):
        """End it, and with it the command that entered its host."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass
        self.process.wait()


@pytest.fixture
def begin(tmp_path, request):
    """Return a function that starts a program: `begin(method, name, *args)`.

    With "ray" it runs on the first of three hosts. Its folder exists on that host alone.
    `launcher`: arguments of the interpreter before the program.
    """
    started = []

    def run(method, name, *args, launcher=()):
        command = [sys.executable, *launcher]
        streams = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        errors = tmp_path / f"errors{len(started)}"
        if method == "ray":
            head = request.getfixturevalue("hosts")[0]
            shutil.copytree(PROGRAMS, head.path("programs"), dirs_exist_ok=True)
            command.append(f"{head.hosts.folder}/programs/{name}")
            with errors.open("wb") as stderr:
                process = head.popen([*command, *args], stderr=stderr, **streams)
        else:
            shutil.copytree(PROGRAMS, tmp_path / "programs", dirs_exist_ok=True)
            command.append(str(tmp_path / "programs" / name))
            with errors.open("wb") as stderr:
                process = subprocess.Popen(
                    [*command, *args],
                    text=True,
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
                    stderr=stderr,
                    **streams,
                )
        started.append(Program(process, errors))
        return started[-1]

    yield run
    for program in started:
        program.kill()
