"""Starting a process for a parent on another node, in the family of this one."""

from __future__ import annotations

import os
import sys

from .. import forkserver, popen_fork, popen_forkserver
from .._procession import Child, Mailbox
from . import place, wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class _Arriving:
    """A process object from another node: pickled there, and unpickled in the process itself."""

    def __init__(self, here: place.Place, data: bytes) -> None:
        self._place, self._data = here, data

    def __reduce__(self) -> Any:
        return _arrive, (self._place, self._data)


def _arrive(here: place.Place, data: bytes) -> Any:
    from . import references  # noqa: F401 - the reducers

    here.parent_is_elsewhere = True
    return wire.loads(data)


class _Request:
    """What a `SpawnRequest` is for a child of this process: settings and process object."""

    def __init__(self, settings: dict[str, Any], process_obj: Any) -> None:
        self._process = Mailbox(process_obj)
        self._all = Mailbox((settings, self._process.token))
        self.token: int = self._all.token

    def address(self, pid: int) -> None:
        """Make the request outlive this process: it now belongs to the child, process `pid`."""
        self._all.address(pid)
        self._process.address(pid)


class PlacedPopen(popen_forkserver.Popen):
    """A child of this process whose parent, to the program, is on another node.

    `settings` are the parent's, as `spawn.get_preparation_data` has them, and `data` is the pickled
    process object.
    """

    def __init__(
        self, here: place.Place, settings: dict[str, Any], data: bytes, ends_with_parent: bool
    ) -> None:
        self._fds = []
        self.ends_with_parent = ends_with_parent
        self._place, self._settings, self._data = here, localized(settings), data
        popen_fork.Popen.__init__(self, None)  # type: ignore[arg-type]

    def _launch(self, process_obj: Any) -> Child:
        self._request: Any = _Request(self._settings, _Arriving(self._place, self._data))
        child = forkserver._forkserver.request(self._request.token, [])
        self._request.address(child.pid)
        return child


def localized(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the parent's settings with its paths as they are on this node.

    What is not here under the parent's path, as on a machine with a file system of its own, is
    sought in this process's working directory, where Ray puts the folder of
    ``runtime_env={"working_dir": ...}``.
    """
    result = dict(settings)
    base = settings.get("orig_dir")
    for name in ("dir", "orig_dir", "init_main_from_path"):
        if result.get(name) is not None:
            result[name] = _found(result[name], base)
    if not os.path.isdir(result.get("dir") or "/"):
        result["dir"] = os.getcwd()
    theirs = [_found(folder, base) for folder in settings.get("sys_path", ())]
    result["sys_path"] = [*theirs, *(folder for folder in sys.path if folder not in theirs)]
    return result


def _found(path: str, base: str | None) -> str:
    if base is None or os.path.exists(path) or not os.path.isabs(path):
        return path
    relative = os.path.relpath(path, base)
    here = os.path.normpath(os.path.join(os.getcwd(), relative))
    return here if not relative.startswith("..") and os.path.exists(here) else path
