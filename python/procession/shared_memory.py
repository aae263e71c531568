"""Named shared memory that any process can attach by its name, and a list in such memory.

The other process may run the standard library. Segments are files in /dev/shm, as `shm_open` makes
them. Sharing within the family needs no names: `Value`, `Array` and a queue's large arrays are in
the family's own memory.
"""

from __future__ import annotations

import mmap
import os
import struct
import types
from functools import partial

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["ShareableList", "SharedMemory"]

_USE_POSIX = True
_O_CREX = os.O_CREAT | os.O_EXCL
# Some systems limit names to 14 characters.
_SHM_SAFE_NAME_LENGTH = 14
_SHM_NAME_PREFIX = "/psm_"


def _make_filename() -> str:
    length = _SHM_SAFE_NAME_LENGTH - len(_SHM_NAME_PREFIX)
    return _SHM_NAME_PREFIX + os.urandom(length // 2).hex()


class _ByDefault(int):
    """A True that is distinguishable from a `True` written by the caller."""

    def __repr__(self) -> str:
        return "True"


class SharedMemory:
    """A segment of shared memory.

    It is a new one of `size` bytes if `create`, else the existing one called `name`.

    It exists until `unlink` is called, whichever processes have it mapped. A segment that this
    program made and never unlinked is unlinked, with a warning, when the program's last process has
    ended. So is one that it only attached, if `track=True` is given. With `track=False` the segment
    is not touched at the end.

    Raises FileExistsError or FileNotFoundError for the name, ValueError for a wrong size, and
    MemoryError when /dev/shm is full.
    """

    # For an object with a failed `__init__`.
    _name: str | None = None
    _fd = -1
    _mmap: mmap.mmap | None = None
    _buf: memoryview | None = None
    _flags = os.O_RDWR
    _mode = 0o600
    _prepend_leading_slash = True
    _track = False

    def __init__(
        self,
        name: str | None = None,
        create: bool = False,
        size: int = 0,
        *,
        track: bool = _ByDefault(1),  # type: ignore[assignment]
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = _O_CREX | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        self._open(name)
        try:
            if create:
                _allocate(self._fd, size)
            size = os.fstat(self._fd).st_size
            self._mmap = mmap.mmap(self._fd, size)
        except BaseException:
            if create:
                self.unlink()
            self.close()
            raise
        self._track = bool(track)
        # By default only segments that this program made are removed. The standard library also
        # removes those it attached, although their maker may still use them.
        if self._track and (create or not isinstance(track, _ByDefault)):
            from . import resource_tracker

            resource_tracker.register(self._name, "shared_memory")  # type: ignore[arg-type]
        self._size = size
        self._buf = memoryview(self._mmap)

    def _open(self, name: str | None) -> None:
        from _posixshmem import shm_open

        if name is not None:
            path = "/" + name if self._prepend_leading_slash else name
            self._fd = shm_open(_without_null(path), self._flags, mode=self._mode)
            self._name = path
            return
        while self._name is None:
            path = _make_filename()
            try:
                self._fd = shm_open(path, self._flags, mode=self._mode)
            except FileExistsError:
                continue
            self._name = path

    def __del__(self) -> None:
        try:
            self.close()
        except OSError:
            pass

    def __reduce__(self) -> Any:
        return type(self), (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview:
        """A memoryview of the segment's bytes; None when closed."""
        return self._buf  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """The name by which other processes attach the segment."""
        assert self._name is not None
        return (
            self._name[1:]
            if self._prepend_leading_slash and self._name.startswith("/")
            else self._name
        )

    @property
    def size(self) -> int:
        """The size in bytes; it may be more than was requested."""
        return self._size

    def close(self) -> None:
        """Unmap the segment in this process. Raises BufferError while views of `buf` exist."""
        self._give_back("_buf", "release")
        self._give_back("_mmap", "close")
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _give_back(self, attribute: str, method: str) -> None:
        """Release the object in an attribute by calling a method, and set the attribute to None."""
        held = getattr(self, attribute)
        if held is not None:
            getattr(held, method)()
            setattr(self, attribute, None)

    def unlink(self) -> None:
        """Remove the name; the memory is freed when no process has it mapped any more.

        Call this once, in one process.
        """
        if self._name:
            from _posixshmem import shm_unlink

            shm_unlink(_without_null(self._name))
            if self._track:
                from . import resource_tracker

                resource_tracker.unregister(self._name, "shared_memory")


def _without_null(path: str) -> str:
    """Return the path. CPython before 3.13 would silently cut it at a null character."""
    if "\0" in path:
        raise ValueError("embedded null character")
    return path


def _allocate(fd: int, size: int) -> None:
    """Allocate the file's size and pages.

    Touching a page that the file system has no room for would be a fatal signal.
    """
    os.ftruncate(fd, size)
    if size >= 1 << 47:  # more than any process can map
        import errno

        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        import errno

        if error.errno == errno.ENOSPC:
            raise MemoryError(
                f"no room for a shared memory segment of {size} bytes in /dev/shm"
            ) from None
        if error.errno != errno.EOPNOTSUPP:
            raise


_encoding = "utf8"


class ShareableList:
    """A list of fixed length in a shared memory segment: int, float, bool, str, bytes and None.

    A str or bytes may be replaced by one that fits into the room of the first one, rounded up to 8
    bytes.

    The layout is the standard library's:

    - the number of items N, 8 bytes;
    - where each item begins in the data, and where the last one ends: N + 1 times 8 bytes;
    - the data;
    - each item's `struct` format, N times 8 bytes;
    - how the item is made from the value that `struct` returns, N bytes: a key of
      `_back_transforms_mapping`.
    """

    _types_mapping: dict[type, str] = {
        int: "q",
        float: "d",
        bool: "xxxxxxx?",
        str: "%ds",
        bytes: "%ds",
        type(None): "xxxxxx?x",
    }
    _alignment = 8
    _back_transforms_mapping: dict[int, Any] = {
        0: lambda value: value,
        1: lambda value: value.rstrip(b"\x00").decode(_encoding),
        2: lambda value: value.rstrip(b"\x00"),
        3: lambda _value: None,
    }

    @staticmethod
    def _extract_recreation_code(value: Any) -> int:
        if isinstance(value, str):
            return 1
        if isinstance(value, bytes):
            return 2
        return 3 if value is None else 0

    def __init__(self, sequence: Any = None, *, name: str | None = None) -> None:
        if name is not None and sequence is None:
            self.shm = SharedMemory(name)
            self._list_len = len(self)
            self._allocated_offsets = list(
                struct.unpack_from(self._format_size_metainfo, self.shm.buf, 8)
            )
            return
        given = list(sequence or ())
        items = [item.encode(_encoding) if isinstance(item, str) else item for item in given]
        codes = [self._extract_recreation_code(item) for item in given]
        formats = [self._new_format(*pair) for pair in zip(given, items, strict=True)]
        self._list_len = len(items)
        self._allocated_offsets = [0]
        for item_format in formats:
            self._allocated_offsets.append(
                self._allocated_offsets[-1] + struct.calcsize(item_format)
            )
        size = self._offset_back_transform_codes + self._list_len
        self.shm = SharedMemory(name, create=True, size=size)
        buf = self.shm.buf
        struct.pack_into(
            "q" + self._format_size_metainfo, buf, 0, self._list_len, *self._allocated_offsets
        )
        for offset, item_format, item in zip(self._allocated_offsets, formats, items, strict=False):
            struct.pack_into(item_format, buf, self._offset_data_start + offset, item)
        packed = [item_format.encode(_encoding) for item_format in formats]
        struct.pack_into(self._format_packing_metainfo, buf, self._offset_packing_formats, *packed)
        struct.pack_into(
            self._format_back_transform_codes, buf, self._offset_back_transform_codes, *codes
        )

    def _new_format(self, item: Any, encoded: Any) -> str:
        """Return the `struct` format of a new item.

        A str or bytes gets the room that the standard library gives it, or more if it would not
        fit.
        """
        if not isinstance(encoded, bytes):
            return self._types_mapping[type(item)]
        words = max(len(item) // self._alignment + 1, -(-len(encoded) // self._alignment))
        item_format = self._types_mapping[bytes] % (self._alignment * words)
        assert len(item_format) <= 8, "this item is too long for a ShareableList"
        return item_format

    def _format_place(self, position: int) -> int:
        return self._offset_packing_formats + self._checked(position) * 8

    def _transform_place(self, position: int) -> int:
        return self._offset_back_transform_codes + self._checked(position)

    def _get_packing_format(self, position: int) -> str:
        (packed,) = struct.unpack_from("8s", self.shm.buf, self._format_place(position))
        return packed.rstrip(b"\x00").decode(_encoding)

    def _get_back_transform(self, position: int) -> Any:
        (code,) = struct.unpack_from("b", self.shm.buf, self._transform_place(position))
        return self._back_transforms_mapping[code]

    def _set_packing_format_and_transform(self, position: int, fmt_as_str: str, value: Any) -> None:
        buf, code = self.shm.buf, self._extract_recreation_code(value)
        struct.pack_into("8s", buf, self._format_place(position), fmt_as_str.encode(_encoding))
        struct.pack_into("b", buf, self._transform_place(position), code)

    def _checked(self, position: int, error: str = "Requested position out of range.") -> int:
        actual = position if position >= 0 else position + self._list_len
        if not 0 <= actual < self._list_len:
            raise IndexError(error)
        return actual

    def __getitem__(self, position: int) -> Any:
        position = self._checked(position, "index out of range")
        offset = self._offset_data_start + self._allocated_offsets[position]
        (value,) = struct.unpack_from(self._get_packing_format(position), self.shm.buf, offset)
        return self._get_back_transform(position)(value)

    def __setitem__(self, position: int, value: Any) -> None:
        position = self._checked(position, "assignment index out of range")
        offset = self._allocated_offsets[position]
        encoded = value.encode(_encoding) if isinstance(value, str) else value
        if isinstance(encoded, bytes):
            room = self._allocated_offsets[position + 1] - offset
            if len(encoded) > room:
                raise ValueError("bytes/str item exceeds available storage")
            item_format = self._get_packing_format(position)
            if item_format[-1] != "s":
                item_format = self._types_mapping[bytes] % room
        else:
            item_format = self._types_mapping[type(value)]
        self._set_packing_format_and_transform(position, item_format, value)
        struct.pack_into(item_format, self.shm.buf, self._offset_data_start + offset, encoded)

    def __reduce__(self) -> Any:
        return partial(type(self), name=self.shm.name), ()

    def __len__(self) -> int:
        return struct.unpack_from("q", self.shm.buf, 0)[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)}, name={self.shm.name!r})"

    @property
    def format(self) -> str:
        """The `struct` formats of all items, one after another."""
        return "".join(self._get_packing_format(i) for i in range(self._list_len))

    @property
    def _format_size_metainfo(self) -> str:
        return "q" * (self._list_len + 1)

    @property
    def _format_packing_metainfo(self) -> str:
        return "8s" * self._list_len

    @property
    def _format_back_transform_codes(self) -> str:
        return "b" * self._list_len

    @property
    def _offset_data_start(self) -> int:
        return (self._list_len + 2) * 8

    @property
    def _offset_packing_formats(self) -> int:
        return self._offset_data_start + self._allocated_offsets[-1]

    @property
    def _offset_back_transform_codes(self) -> int:
        return self._offset_packing_formats + self._list_len * 8

    def count(self, value: Any) -> int:
        """Return how many items equal `value`."""
        return sum(value == item for item in self)

    def index(self, value: Any) -> int:
        """Return the first position of `value`. Raises ValueError if there is none."""
        for position, item in enumerate(self):
            if value == item:
                return position
        raise ValueError(f"{value!r} not in this container")

    __class_getitem__: Any = classmethod(types.GenericAlias)
