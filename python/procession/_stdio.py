"""Keep lines whole when several processes print to one place.

A line reaches the kernel in one write: standard output and error, as the interpreter opened them, collect text until a
line ends and then hand it over at once. So lines of different processes do not mix, also with ``PYTHONUNBUFFERED=1`` or
``-u`` (where each piece of a `print` would be a write of its own), and a process that is killed loses no line it
printed (where a file or pipe would be written in blocks). Text without a line end appears when the stream is flushed
(``print(..., flush=True)``), at the next line end, or when the process ends.

The limit: the kernel keeps a write whole on a file or terminal, and on a pipe up to PIPE_BUF (4,096 bytes). A longer line
on a pipe can be cut in two when the pipe is nearly full. Lines of more than a mebibyte are written in pieces.

A stream that the program put in place of the interpreter's own is left alone.
"""

from __future__ import annotations

import io
import sys

__all__: list[str] = []

_LONGEST_LINE = 1 << 20


def keep_lines_whole() -> None:
    """Let the interpreter's own standard output and error write whole lines, from now on."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if type(stream) is not io.TextIOWrapper:
            continue
        try:
            if not stream.line_buffering or stream.write_through:
                stream.reconfigure(line_buffering=True, write_through=False)
            stream._CHUNK_SIZE = _LONGEST_LINE  # type: ignore[attr-defined]
        except ValueError:
            pass  # closed or detached: nothing to keep whole
