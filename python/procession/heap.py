"""Anonymous shared memory under the standard library's names.

The engine's arena is the heap: this module neither divides nor frees memory. A piece is freed with
its last reference, in whatever process.
"""

from __future__ import annotations

import errno
import os
import sys

from ._procession import SharedBytes
from .context import assert_spawning as assert_spawning

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["BufferWrapper"]


def _checked(size: int) -> int:
    if size < 0:
        raise ValueError(f"Size {size:n} out of range")
    if sys.maxsize <= size:
        raise OverflowError(f"Size {size:n} too large")
    if size >= 1 << 47:  # more than any process can map
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return size


class Arena:
    """A piece of shared memory; `buffer` is a writable view of its `size` bytes."""

    def __init__(self, size: int) -> None:
        self._memory = SharedBytes(_checked(size))
        self._open()

    def _open(self) -> None:
        self.size = self._memory.size
        self.buffer = memoryview(self._memory)

    def __getstate__(self) -> Any:
        return self._memory

    def __setstate__(self, memory: Any) -> None:
        self._memory = memory
        self._open()


class Heap:
    """A source of `(arena, start, stop)`; each is a piece of its own."""

    def __init__(self, size: int = 0) -> None:
        pass

    def malloc(self, size: int) -> tuple[Arena, int, int]:
        """Return a zero-filled block. Raises MemoryError when no memory is left."""
        return Arena(size), 0, size

    def free(self, block: tuple[Arena, int, int]) -> None:
        """Do nothing: the block is freed with its last reference."""


class BufferWrapper:
    """Zero-filled shared memory that can be pickled for any process of the family.

    Raises MemoryError when no memory is left.
    """

    _heap = Heap()

    def __init__(self, size: int) -> None:
        self._memory = SharedBytes(_checked(size))

    def create_memoryview(self) -> memoryview:
        """Return a writable view of the bytes, which keeps them alive."""
        return memoryview(self._memory)
