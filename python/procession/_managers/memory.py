"""A manager that removes its shared memory segments when it ends."""

from __future__ import annotations

import os

from .. import util
from .base import BaseManager
from .server import Server

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["SharedMemoryManager", "SharedMemoryServer"]


class _SharedMemoryTracker:
    """The names of the segments that end with a server."""

    segment_names: list[str] = []  # for an object with an interrupted `__init__`

    def __init__(self, name: str, segment_names: list[str] | None = None) -> None:
        self.shared_memory_context_name = name
        self.segment_names = segment_names or []

    def register_segment(self, segment_name: str) -> None:
        util.debug(f"Register segment {segment_name!r} in pid {os.getpid()}")
        self.segment_names.append(segment_name)

    def destroy_segment(self, segment_name: str) -> None:
        from ..shared_memory import SharedMemory

        util.debug(f"Destroy segment {segment_name!r} in pid {os.getpid()}")
        self.segment_names.remove(segment_name)
        segment = SharedMemory(segment_name)
        segment.close()
        segment.unlink()

    def unlink(self) -> None:
        for segment_name in self.segment_names[:]:
            self.destroy_segment(segment_name)

    def __del__(self) -> None:
        util.debug(f"Call {type(self).__name__}.__del__ in {os.getpid()}")
        self.unlink()

    def __getstate__(self) -> Any:
        return self.shared_memory_context_name, self.segment_names

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]


class SharedMemoryServer(Server):
    """A server that removes its clients' shared memory segments when it ends."""

    public = [*Server.public, "track_segment", "release_segment", "list_segments"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # An abstract Unix address may be bytes.
        address = os.fsdecode(self.address) if isinstance(self.address, bytes) else self.address
        self.shared_memory_context = _SharedMemoryTracker(f"shm_{address}_{os.getpid()}")
        util.debug(f"SharedMemoryServer started by pid {os.getpid()}")

    def create(self, c: Any, typeid: str, /, *args: Any, **kwargs: Any) -> Any:
        """Create an object as `Server.create` does.

        A proxy type with `_shared_memory_proxy` gets the tracker as `shared_memory_context`.
        """
        if hasattr(self.registry[typeid][-1], "_shared_memory_proxy"):
            kwargs["shared_memory_context"] = self.shared_memory_context
        return super().create(c, typeid, *args, **kwargs)

    def shutdown(self, c: Any) -> None:
        """Remove the segments, then end."""
        self.shared_memory_context.unlink()
        super().shutdown(c)

    def track_segment(self, c: Any, segment_name: str) -> None:
        """Remove this segment, too, at the end."""
        self.shared_memory_context.register_segment(segment_name)

    def release_segment(self, c: Any, segment_name: str) -> None:
        """Remove this segment now."""
        self.shared_memory_context.destroy_segment(segment_name)

    def list_segments(self, c: Any) -> list[str]:
        """Return the names of the segments that are still to be removed."""
        return self.shared_memory_context.segment_names


class SharedMemoryManager(BaseManager):
    """A manager that removes the shared memory segments that it made when it ends."""

    _Server = SharedMemoryServer
    _server_noun, _manager_noun = "SharedMemoryServer", "SharedMemoryManager"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Start the tracker before the server process, so that both share it.
        from .. import resource_tracker

        resource_tracker.ensure_running()
        super().__init__(*args, **kwargs)
        util.debug(f"{type(self).__name__} created by pid {os.getpid()}")

    def __del__(self) -> None:
        util.debug(f"{type(self).__name__}.__del__ by pid {os.getpid()}")

    def _tracked(self, obj: Any, segment: Any) -> Any:
        try:
            self._ask("track_segment", segment.name)
        except BaseException:
            segment.unlink()
            raise
        return obj

    def SharedMemory(self, size: int) -> Any:
        """Return a new shared memory segment of `size` bytes."""
        from ..shared_memory import SharedMemory

        segment = SharedMemory(None, create=True, size=size)
        return self._tracked(segment, segment)

    def ShareableList(self, sequence: Any) -> Any:
        """Return a new `ShareableList` of the sequence's items."""
        from ..shared_memory import ShareableList

        shareable = ShareableList(sequence)
        return self._tracked(shareable, shareable.shm)


for _class in (SharedMemoryManager, SharedMemoryServer, _SharedMemoryTracker):
    _class.__module__ = "procession.managers"
