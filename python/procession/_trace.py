"""`procession.trace`: what the family does in a part of the program, as a file for a viewer of traces.

The file is written by a process of its own, which is the command `procession trace`: it reads the
family's memory from outside, so that the program has no additional thread, and waits for nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType

from . import util
from ._procession import family_id

__all__: list[str] = []


class Trace:
    """A context manager that has what happens in this process's family written to a file.

    What happened before `with` and what happens after it is not in the file. When the block ends,
    the file is complete. In a process that is forked in the block, the end of the block does
    nothing. Raises RuntimeError if the family cannot be traced: it is traced already, or the file
    cannot be written.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self._file = os.path.abspath(file)
        self._process: subprocess.Popen[str] | None = None
        self._pid = 0

    def __enter__(self) -> Trace:
        if self._process is not None:
            raise RuntimeError("this trace is under way")
        family_id()  # there is one from now on
        # A session of its own: Ctrl-C at a terminal is for the program, and ends the trace with it.
        process = subprocess.Popen(
            [sys.executable, "-m", "procession", "trace", str(os.getpid()), "-o", self._file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            first = process.stdout.readline()  # it comes when the trace is on
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if not first:
            raise _failed(process.communicate()[1])
        self._process, self._pid = process, os.getpid()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is None or self._pid != os.getpid():
            return
        process.terminate()
        _, reason = process.communicate()
        if process.returncode == 0:
            return
        failed = _failed(reason)
        if kind is None:
            raise failed
        util.warn("%s", failed)  # what the block has raised matters more


def _failed(reason: str) -> RuntimeError:
    lines = reason.strip().splitlines() or ["the tracer ended"]
    return RuntimeError(f"no trace: {lines[-1].removeprefix('procession: ')}")
