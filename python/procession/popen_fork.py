"""Start a child as a copy of this process, and follow any child to its end."""

from __future__ import annotations

import atexit
import os
import signal
import sys

from . import _stdio, util
from ._procession import (
    Child,
    family_id,
    fork,
    note_exit,
    wait_for_imports,
    wait_until_noticed,
)
from .process import RUNS_ATEXIT_IN_CHILD, BaseProcess, definitions_of_main, main_state

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["Popen"]


class Popen:
    """A running or ended child of the start method fork.

    The base class for the other start methods.
    """

    method = "fork"
    _child: Child

    def __init__(self, process_obj: BaseProcess) -> None:
        _stdio.keep_lines_whole(in_child=False)
        util._name_log_records()
        util._flush_std_streams()
        self.returncode: int | None = None
        self._child = self._launch(process_obj)
        self.pid = self._child.pid
        self.sentinel = self._child.sentinel

    def duplicate_for_child(self, fd: int) -> int:
        """Pass the descriptor `fd` to the child.

        Return what stands for it in the child's pickle.
        """
        return fd

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None if the child is running; with `flag` 0 wait for it."""
        return self.wait(0 if flag == os.WNOHANG else None)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the child to end, at most `timeout` seconds; return the exit code or None."""
        if self.returncode is None:
            self.returncode = self._child.poll() if timeout == 0 else self._child.wait(timeout)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            self._child.kill(sig)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def _launch(self, process_obj: BaseProcess) -> Child:
        def child() -> int:
            _stdio.drop_inherited()
            main_state.at_fork = self.known
            return process_obj._bootstrap(parent_sentinel)

        parent_sentinel = own_sentinel()
        self.known = definitions_of_main()
        wait_for_imports()
        return fork(lambda: run_forked(child))

    def close(self) -> None:
        """Release the sentinel."""
        self._child.close()


def run_forked(main: Any) -> None:
    """Run a child made by fork: call `main`, which returns the exit code, then end the process.

    The parent's exit functions do not run.
    """
    code = 1
    try:
        if RUNS_ATEXIT_IN_CHILD:
            atexit._clear()
            atexit.register(util._exit_function)
        code = _status(main())
    except Exception:
        # Before the program's own code, whose errors `_bootstrap` reports.
        sys.excepthook(*sys.exc_info())
        util._flush_std_streams()
    finally:
        try:
            if RUNS_ATEXIT_IN_CHILD:
                atexit._run_exitfuncs()
                util._flush_std_streams()
            wait_until_noticed()
            note_exit(code)
        finally:
            os._exit(code)


def _status(code: int) -> int:
    """Return what the parent sees of an exit code, as of one that `os._exit` is given.

    A code that is no C int is an error there; the interpreter, which ends a child of spawn, takes its
    lower bits.
    """
    if -(1 << 31) <= code < 1 << 31:
        return code & 0xFF
    sys.stderr.write("the exit code of this process is too large for the system: it exits with 1\n")
    util._flush_std_streams()
    return 1


_own_sentinel: tuple[int, int] | None = None


def own_sentinel() -> int:
    """Return a descriptor by which children see this process's end.

    It is opened once, before the child exists, so it never belongs to another process.
    """
    global _own_sentinel
    if _own_sentinel is None or _own_sentinel[0] != os.getpid():
        family_id()  # a child of fork inherits the family only if there is one
        _own_sentinel = (os.getpid(), os.pidfd_open(os.getpid()))
    return _own_sentinel[1]
