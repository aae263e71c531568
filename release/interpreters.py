"""The Pythons at hand: those on the PATH, and those that a version manager keeps in the home."""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import subprocess

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")


@functools.cache
def interpreters() -> dict[str, pathlib.Path]:
    """Return an interpreter for each version that is at hand.

    The environment variable PROCESSION_PYTHONS may name more, between colons. A name on the PATH
    may be a shim without an interpreter behind it, so each candidate is run.
    """
    named = [*filter(None, os.environ.get("PROCESSION_PYTHONS", "").split(":"))]
    kept = pathlib.Path.home() / ".pyenv" / "versions"
    found: dict[str, pathlib.Path] = {}
    for version in VERSIONS:
        name = f"python{version}"
        candidates = [path for path in named if path.endswith(name)]
        candidates += [shutil.which(name) or "", *map(str, kept.glob(f"{version}.*/bin/{name}"))]
        for candidate in filter(None, candidates):
            code = "import sys; print('%d.%d %s' % (*sys.version_info[:2], sys.executable))"
            done = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
            said, _, path = done.stdout.strip().partition(" ")
            if done.returncode == 0 and said == version:
                found[version] = pathlib.Path(path)
                break
    return found
