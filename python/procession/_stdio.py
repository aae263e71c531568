"""Keep lines whole when several processes print to one place.

Text reaches the kernel in writes that end with a line, so lines of different processes do not mix.
When it is written depends on the process:

- In a **child**, standard output and error, as the interpreter opened them, write each line as it
  ends. A child that is killed loses no line that it printed, although it would write in blocks to a
  file or pipe by default. With ``PYTHONUNBUFFERED=1`` or ``-u`` a line is one write, where each
  piece of a `print` would be one by default.
- A process that **starts** children writes as before its first child, in blocks of lines to a file
  or pipe, but each block ends with a line. It flushes its streams before each start.

Text without a line end appears when the stream is flushed (``print(..., flush=True)``), with the
next line end, or when the process ends.

The limits:

- The kernel keeps a write whole on a file or terminal, and on a pipe up to PIPE_BUF (4,096 bytes). A
  longer line on a pipe can be split in two when the pipe is nearly full.
- Lines of more than a mebibyte are written in pieces. In a process that starts children and writes
  in blocks, this holds for lines of more than 8 KiB: as before its first child, no more than that
  waits for a line end.
- On a pipe in non-blocking mode, a `BlockingIOError` counts in its ``characters_written`` from the
  last piece that was passed on, not from the start of the data of the failed call.

A stream that the program put in place of the interpreter's own is left alone.
"""

from __future__ import annotations

import io
import os
import stat
import sys

from ._procession import Lines

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

_LONGEST_LINE = 1 << 20
_PIPE_BUF = 4096
#: The methods of a buffer that know of text which waits for its line end.
_REPLACED = ("flush", "seek", "tell", "truncate", "write")


def keep_lines_whole(*, in_child: bool) -> None:
    """Make the interpreter's own standard output and error write whole lines from now on."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if type(stream) is not io.TextIOWrapper:
            continue
        try:
            if in_child or stream.line_buffering or stream.write_through:
                _write_each_line(stream)
            else:
                _write_blocks_of_lines(stream.buffer)
        except (OSError, ValueError):
            pass  # closed or detached: there is nothing to keep whole


def flush_replaced() -> None:
    """Flush the interpreter's own streams where the program put others in their place.

    Text that waits in them when a process forks would be the child's too, and written twice.
    """
    for own, current in ((sys.__stdout__, sys.stdout), (sys.__stderr__, sys.stderr)):
        if own is current or type(own) is not io.TextIOWrapper:
            continue
        try:
            own.flush()
        except (OSError, ValueError):
            pass  # closed or detached, perhaps beneath Python: what waits in it is lost anyway


def drop_inherited() -> None:
    """Drop what waits in the interpreter's own streams of a child that was just forked.

    The parent flushed them before the fork. What is there was printed by another of its threads since,
    and the parent writes it.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        if type(stream) is not io.TextIOWrapper:
            continue
        try:
            buffer = stream.buffer
            # The buffer's own file, or the stream's where nothing buffers.
            file: Any = buffer.raw if isinstance(buffer, io.BufferedWriter) else buffer
            if not isinstance(file, io.RawIOBase):
                continue
            # An attribute of the instance takes precedence over the method of the class.
            kept = vars(file).get("write")
            file.write = _write_nowhere  # type: ignore[method-assign]
            try:
                stream.flush()
            finally:
                if kept is None:
                    del file.write
                else:
                    file.write = kept  # type: ignore[method-assign]
        except (OSError, ValueError):
            pass  # closed or detached


def _write_nowhere(data: Any) -> int:
    return memoryview(data).nbytes


def _write_each_line(stream: io.TextIOWrapper) -> None:
    if type(stream.buffer) is io.BufferedWriter:
        kept = vars(stream.buffer)
        if isinstance(getattr(kept.get("write"), "__self__", None), Lines):
            for name in _REPLACED:
                kept.pop(name, None)  # those of the parent
    if not stream.line_buffering or stream.write_through:
        stream.reconfigure(line_buffering=True, write_through=False)
    stream._CHUNK_SIZE = _LONGEST_LINE  # type: ignore[attr-defined]


def _write_blocks_of_lines(buffer: Any) -> None:
    if type(buffer) is not io.BufferedWriter:  # None if detached
        return
    kept = vars(buffer)
    if not kept.keys().isdisjoint(_REPLACED):
        return
    mode = os.fstat(buffer.fileno()).st_mode
    is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    lines = Lines(buffer, _PIPE_BUF if is_pipe else None)
    # The text layer, the interpreter's exit and the program call these. Attributes of the instance
    # take precedence over the methods of the class.
    kept.update({name: getattr(lines, name) for name in _REPLACED})
