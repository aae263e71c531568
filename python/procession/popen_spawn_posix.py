"""Start a child as a fresh interpreter."""

from __future__ import annotations

from . import popen_fork, spawn, util
from ._procession import Child, arena_fd, fork_server_channel
from .context import set_spawning_popen as set_spawning_popen
from .process import BaseProcess

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["Popen"]


class _DupFd:
    """A descriptor that is passed to the child, as part of the child's pickle."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        """Return the descriptor, which the caller now owns."""
        return self.fd


class Popen(popen_fork.Popen):
    """A running or ended child of the start method spawn."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Pass the descriptor `fd` to the child at the same number."""
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: BaseProcess) -> Child:
        self._request = spawn.SpawnRequest(self, process_obj)
        call: dict[str, Any] = {
            "arena_fd": arena_fd(),
            "mailbox": self._request.token,
            "parent_fd": popen_fork.own_sentinel(),
        }
        passed = [call["arena_fd"], call["parent_fd"], *self._fds]
        fork_server = fork_server_channel()
        if fork_server is not None:
            call["fork_server_fd"], call["fork_server_pid"] = fork_server
            passed.append(fork_server[0])
        command = spawn.get_command_line(**call)
        child = util.start_program(command, passed)
        self._request.address(child.pid)
        return child
