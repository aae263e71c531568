"""Large data that is sent once and read by many tasks.

The data is pickled into one piece of shared memory: first a header, then the pickle, then the
buffers that pickle protocol 5 keeps apart, such as the memory of numpy's arrays. A handle sends a
reference to this piece. The engine frees the piece with its last reference, whichever process has
it, and takes back the references of a process that dies.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import weakref
from typing import Any, Generic, TypeVar

from ._procession import SharedBytes
from .reduction import ForkingPickler, dispatch_table

__all__ = ["Shared", "share"]

_T = TypeVar("_T")

#: Length of the pickle, and the number of buffers; their lengths follow.
_HEADER = struct.Struct("<QQ")
_LENGTH = struct.Struct("<Q")
#: Where a buffer may begin: no type needs more.
_ALIGNMENT = 64


class Shared(Generic[_T]):
    """A handle of data that `share` has put into shared memory.

    It may be an argument of a task or a process, part of other objects, or an item of a queue; only
    a reference is sent. The data is freed when no process has a handle or an array of it any more.
    """

    __module__ = "procession"
    __slots__ = ("__weakref__", "_key", "_loaded", "_memory")

    def __init__(self, memory: SharedBytes, key: bytes) -> None:
        self._memory = memory
        self._key = key
        #: The object, once it has been asked for.
        self._loaded: tuple[_T] | None = None

    def get(self) -> _T:
        """Return the data, the same object each time while this process keeps the handle.

        The memory of its arrays is that of all processes, and cannot be written to. All else in it
        is a copy of this process: what one process changes there, the others do not see.
        """
        loaded = self._loaded
        if loaded is None:
            # Without a lock: unpickling runs code of the user. The first result counts.
            made = (_load(self._memory),)
            loaded = self._loaded = self._loaded or made
        return loaded[0]

    @property
    def nbytes(self) -> int:
        """The number of bytes of shared memory that the data takes."""
        return self._memory.size

    def __repr__(self) -> str:
        return f"<procession.Shared: {self.nbytes} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self._memory, self._key)


#: The handles of this process: of handles that arrive again and again, one loads the data.
_handles: weakref.WeakValueDictionary[bytes, Shared[Any]] = weakref.WeakValueDictionary()


def _attach(memory: SharedBytes, key: bytes) -> Shared[Any]:
    handle: Shared[Any] = Shared(memory, key)
    return _handles.setdefault(key, handle)


def share(obj: _T) -> Shared[_T]:
    """Put `obj` into shared memory, once, and return a handle for any number of tasks.

    Send the handle in the place of the object, and call its `get`. Arrays, and whatever else keeps
    its memory apart in pickle protocol 5, are used where they lie, read-only and without a copy.
    The rest is pickled once here, and unpickled once for each handle that a process has.

    Functions and classes are pickled by name: a lambda or a class of a function's body cannot be
    shared, although it can be sent.

    Raises:
        AttributeError, pickle.PicklingError: `obj` cannot be pickled.
        TypeError: `obj` refers to locks, queues or other objects that processes share already.
        MemoryError: no shared memory is left.
    """
    buffers: list[memoryview] = []
    file = io.BytesIO()
    _Pickler(file, buffers).dump(obj)
    pickled = file.getbuffer()
    header = _HEADER.pack(pickled.nbytes, len(buffers))
    header += b"".join(_LENGTH.pack(buffer.nbytes) for buffer in buffers)
    parts = [memoryview(header), pickled, *buffers]
    starts, size = _starts([part.nbytes for part in parts])
    memory = SharedBytes(size)
    view = memoryview(memory)
    for start, part in zip(starts, parts):  # noqa: B905
        view[start : start + part.nbytes] = part
    return _attach(memory, os.urandom(16))


def _starts(lengths: list[int]) -> tuple[list[int], int]:
    """Return where parts of these lengths begin, and where the last one ends."""
    starts, end = [], 0
    for length in lengths:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        starts.append(start)
        end = start + length
    return starts, end


def _load(memory: SharedBytes) -> Any:
    view = memoryview(memory).toreadonly()
    try:
        length, count = _HEADER.unpack_from(view)
        end = _HEADER.size + count * _LENGTH.size
        if end > view.nbytes:
            raise struct.error("it has too many buffers")
        lengths = [end, length, *(one for (one,) in _LENGTH.iter_unpack(view[_HEADER.size : end]))]
    except struct.error as error:
        raise ValueError(f"the shared data is damaged: {error}") from None
    starts, end = _starts(lengths)
    if end > view.nbytes:
        raise ValueError("the shared data is damaged: its parts are longer than its memory")
    parts = [
        view[start : start + length]
        for start, length in zip(starts, lengths)  # noqa: B905
    ]
    return pickle.loads(parts[1], buffers=parts[2:])


class _Pickler(ForkingPickler):
    """Pickles data with its buffers apart, and refuses what only a message could keep alive."""

    def __init__(self, file: io.BytesIO, buffers: list[memoryview]) -> None:
        def keep(buffer: pickle.PickleBuffer) -> bool:
            buffers.append(buffer.raw())
            return False

        pickle.Pickler.__init__(self, file, 5, buffer_callback=keep)
        self.dispatch_table = dispatch_table()

    def reducer_override(self, obj: Any) -> Any:
        for base in type(obj).__mro__:
            if base.__module__ == _EXTENSION:
                raise TypeError(
                    f"shared data cannot refer to {type(obj).__name__} objects: send them beside it"
                )
        return NotImplemented


_EXTENSION = SharedBytes.__module__
