"""The version has one place, `Cargo.toml`, and is the same wherever it is said."""

from __future__ import annotations

import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

import procession

MANIFEST = pathlib.Path(__file__).parents[2] / "Cargo.toml"


def test_module_and_metadata_agree():
    assert procession.__version__ == importlib.metadata.version("procession")


def test_it_is_the_workspace_s():
    if not MANIFEST.exists():
        pytest.skip("the tests stand without the sources")
    version = re.search(r'^version = "(.*?)"', MANIFEST.read_text(), re.MULTILINE)
    assert version is not None and version.group(1) == procession.__version__


def test_the_command_prints_it():
    command = [sys.executable, "-m", "procession", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"procession {procession.__version__}\n"
