"""Starting a process for a parent on another node, in the family of this one."""

from __future__ import annotations

from .. import forkserver, popen_fork, popen_forkserver
from .._procession import Child, Mailbox
from . import place, references, wire  # noqa: F401 - the reducers
from .shipping import localized

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class _Arriving:
    """A process object from another node: pickled there, and unpickled in the process itself."""

    def __init__(self, here: place.Place, data: bytes, parents_home: tuple[str, int]) -> None:
        self._fields = here, data, parents_home

    def __reduce__(self) -> Any:
        return _arrive, self._fields


def _arrive(here: place.Place, data: bytes, parents_home: tuple[str, int]) -> Any:
    here.parents_home = parents_home
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
    process object. `parents_home` is the address of the parent's home.
    """

    def __init__(
        self,
        here: place.Place,
        settings: dict[str, Any],
        data: bytes,
        ends_with_parent: bool,
        parents_home: tuple[str, int],
    ) -> None:
        self._fds = []
        self.ends_with_parent = ends_with_parent
        self._settings = localized(settings)
        self._arriving = _Arriving(here, data, parents_home)
        popen_fork.Popen.__init__(self, None)  # type: ignore[arg-type]

    def _launch(self, process_obj: Any) -> Child:
        self._request: Any = _Request(self._settings, self._arriving)
        child = forkserver._forkserver.request(self._request.token, [])
        self._request.address(child.pid)
        return child
