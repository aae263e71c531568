"""What a deputy must give back before it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._threads import Condition
from . import wire

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class Cancelled(BaseException):
    """The caller no longer wants the result of its call."""


class Gone(BaseException):
    """The connection of the caller has ended."""

    def __init__(self, cause: BaseException | None = None) -> None:
        super().__init__(cause)
        self.is_certain = cause is None or wire.has_ended(cause)


class Settling:
    """Counts the threads that have, or may get, what must be given back."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._threads = 0
        self.is_ending = False
        #: Whether the client is known to have ended; otherwise the network is cut.
        self.is_certain = True

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count this thread, unless the deputy is ending: then raise `Gone`."""
        with self._changed:
            if self.is_ending:
                raise Gone
            self._threads += 1
        try:
            yield
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Admit no thread any more, and wait for those that were admitted."""
        with self._changed:
            self.is_ending = True
            self._changed.wait_for(lambda: self._threads == 0)


settling = Settling()
