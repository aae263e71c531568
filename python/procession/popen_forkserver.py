"""Start a child as a copy of the fork server."""

from __future__ import annotations

from . import forkserver, popen_fork, spawn
from ._procession import Child
from .context import set_spawning_popen as set_spawning_popen
from .process import BaseProcess

__all__ = ["Popen"]


class _DupFd:
    """A descriptor passed to the child: its pickle holds the position among those passed."""

    def __init__(self, ind: int) -> None:
        self.ind = ind

    def detach(self) -> int:
        """Return the descriptor, which the caller now owns."""
        inherited = forkserver.get_inherited_fds()
        assert inherited is not None
        return inherited[self.ind]


class Popen(popen_fork.Popen):
    """A running or ended child of the start method forkserver."""

    method = "forkserver"
    DupFd = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Pass the descriptor `fd` to the child; return its position among those passed."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: BaseProcess) -> Child:
        self._request = spawn.SpawnRequest(self, process_obj)
        child = forkserver._forkserver.request(self._request.token, self._fds)
        self._request.address(child.pid)
        return child
