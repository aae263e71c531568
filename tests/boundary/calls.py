"""Interrupts at calls: a signal handler may run before the first line of a function."""

from __future__ import annotations

import os
import sys

import procession

_FOLDER = os.path.dirname(procession.__file__)


def at_call(number, function):
    """Call a function; raise KeyboardInterrupt at the begin of the package's call with this number."""
    left = number

    def trace(frame, event, arg):
        nonlocal left
        if frame.f_code.co_filename.startswith(_FOLDER):
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(None)
