"""The storms of `make storm`, some seconds long, and the soak of `make soak`, a minute.

The other files of this folder are the programs.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import procession
from tests.conftest import PACKAGE_FOLDER
from tests.storm.scenes import SCENES

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("scene", SCENES)
def test_a_short_storm(scene):
    assert SCENES[scene](procession.get_context("fork"), seed=1, kills=12)


def test_a_storm_of_forkserver_children():
    assert SCENES["queues"](procession.get_context("forkserver"), seed=2, kills=12)


@pytest.mark.timeout(400)
def test_a_soak_of_a_minute():
    """In a new interpreter: what earlier tests left behind ends at any time."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.storm.soak", "--seconds", "60", "--part", "10"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=pathlib.Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("not as it was: nothing\n")
