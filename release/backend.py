"""The build backend: maturin's, after a look at whether procession can run here at all.

On another system a build would end in a compiler's long report. This one ends in one line.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

import maturin
from maturin import *  # noqa: F403  the hooks of PEP 517 and PEP 660

SUPPORTED = "procession runs on Linux (x86-64 and aarch64) with CPython 3.10 or newer"


def obstacle(system: str, machine: str, implementation: str) -> str | None:
    """Return, in one line, why procession cannot run here, or None."""
    wrong = [
        name
        for name, known in (
            (system, ("linux",)),
            (machine, ("x86_64", "aarch64")),
            (implementation, ("cpython",)),
        )
        if name not in known
    ]
    return f"{SUPPORTED}; this is {wrong[0]}" if wrong else None


# The hook that every installation from the sources calls first.
def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Return what a build needs besides `pyproject.toml`. Exits where procession cannot run."""
    reason = obstacle(sys.platform, platform.machine(), sys.implementation.name)
    if reason is not None:
        sys.exit(reason)
    return maturin.get_requires_for_build_wheel(config_settings)


get_requires_for_build_editable = get_requires_for_build_wheel
