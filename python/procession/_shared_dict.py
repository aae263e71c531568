"""A dictionary in shared memory.

Look-ups and changes of one key are calls of the extension: each takes effect at one moment, for all
processes. Nothing is locked, so no process waits for another, not even for one that is stopped or
killed in the middle. What concerns all keys works on a snapshot, which is a plain `dict`.
"""

import operator
from collections.abc import ItemsView, Iterable, KeysView, Mapping, MutableMapping, ValuesView
from types import GenericAlias
from typing import Any, Final

from ._procession import SharedDict as _SharedDict

__all__ = ["SharedDict"]


class _Absent:
    """The type of `SharedDict.ABSENT`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SharedDict.ABSENT"

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (SharedDict, "ABSENT")


_ABSENT: Final = _Absent()


class SharedDict(_SharedDict):
    """A dictionary that all processes of the family use at once.

    `SharedDict(mapping_or_iterable, **kwargs)` fills it as `dict` does. It is sent to other
    processes as an argument, or inside an item of a queue, and is freed with its last reference.

    Keys of the types `str`, `int`, `float`, `bool`, `bytes` and `None`, and tuples and frozen sets
    of these, up to 16 deep, are equal as in a `dict`; NaN is equal to NaN. Other keys are equal if
    their pickles are, which are made without references to earlier parts; classes and functions are
    pickled by name, those of the main module under the same name in all processes. The order of
    sets in such keys counts. Values are copied in and out: a change of a value that was looked up,
    such as `d[key].append(1)`, is not written back. Keys and values that refer to locks, queues or
    other shared objects raise `TypeError`.

    Iteration, `keys`, `values`, `items`, `copy`, `len`, comparisons and `repr` show the entries as
    they were at one moment, in the order of insertion. `dict(d)` and `{**d}` look up each key after
    the other, and raise `KeyError` if one is removed meanwhile: use `copy`. All processes see the
    same order: a process that found one key, and another one only later, has them in this order.
    """

    __module__ = "procession"
    __hash__ = None  # type: ignore[assignment]

    #: Stands for "no value" in `compare_and_set`.
    ABSENT: Final = _ABSENT

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, mapping_or_iterable: Any = (), /, **kwargs: Any) -> None:
        self._create()
        self.update(mapping_or_iterable, **kwargs)

    @classmethod
    def bounded(cls, maxsize: int, mapping_or_iterable: Any = (), /, **kwargs: Any) -> Any:
        """Return a new dictionary that has at most `maxsize` entries.

        A new key that would be one more removes the entry that was inserted first; assigning to a
        key that is there leaves its age as it is. While calls that add keys are under way, there
        may be one more entry for each. A process that is killed in such a call may leave the bound
        wrong by one. Raise `ValueError` if `maxsize` is less than 1.
        `__init__` of a subclass is not called.
        """
        maxsize = operator.index(maxsize)
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, not {maxsize}")
        new = cls.__new__(cls)
        new._create(maxsize)
        new.update(mapping_or_iterable, **kwargs)
        return new

    @classmethod
    def named(cls, name: str, mapping_or_iterable: Any = (), /, **kwargs: Any) -> Any:
        """Return a new dictionary that `procession` commands call `name`.

        `SharedDict(name=...)` makes an entry, as `dict` does. `__init__` of a subclass is not
        called.
        """
        new = cls.__new__(cls)
        new._create(None, name)
        new.update(mapping_or_iterable, **kwargs)
        return new

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None, /) -> Any:
        """Return a new dictionary with these keys, all with the same value."""
        new = cls()
        for key in iterable:
            new[key] = value
        return new

    def copy(self) -> dict[Any, Any]:
        """Return a plain `dict` of the entries as they are at one moment."""
        return dict(zip(*self._snapshot(), strict=True))

    def keys(self) -> KeysView[Any]:
        """Return the keys, as they are at one moment."""
        return dict.fromkeys(self._keys()).keys()

    def values(self) -> ValuesView[Any]:
        """Return the values, as they are at one moment."""
        return self.copy().values()

    def items(self) -> ItemsView[Any, Any]:
        """Return the entries, as they are at one moment."""
        return self.copy().items()

    def __iter__(self) -> Any:
        return iter(self._keys())

    def __reversed__(self) -> Any:
        return reversed(self._keys())

    def popitem(self) -> tuple[Any, Any]:
        """Remove an entry, the youngest of a snapshot, and return key and value.

        Raise `KeyError` if there is none. The time grows with the number of entries.
        """
        missing = object()
        while keys := self._keys():
            for key in reversed(keys):
                value = self.pop(key, missing)
                if value is not missing:
                    return key, value
        raise KeyError("popitem(): dictionary is empty")

    def update(self, mapping_or_iterable: Any = (), /, **kwargs: Any) -> None:
        """Set entries from a mapping or from pairs, one after the other."""
        if isinstance(mapping_or_iterable, (_SharedDict, dict)):
            for key, value in mapping_or_iterable.items():
                self[key] = value
        elif hasattr(mapping_or_iterable, "keys"):
            for key in list(mapping_or_iterable.keys()):
                self[key] = mapping_or_iterable[key]
        else:
            for key, value in mapping_or_iterable:
                self[key] = value
        for key, value in kwargs.items():
            self[key] = value

    def increment(self, key: Any, by: Any = 1, initial: Any = 0) -> Any:
        """Add `by` to the value of key, at one moment, and return the new value.

        A key that is not there is set to `initial + by`.
        """
        fast = self._add(key, by, initial)
        if fast is not None:
            return fast
        while True:
            seen, value = self._look(key)
            value = (initial if seen is None else value) + by
            if self._replace(key, seen, value):
                return value

    def compare_and_set(self, key: Any, expected: Any, new: Any) -> bool:
        """Set key to `new`, at one moment, if its value is equal to `expected`.

        Return whether it was. `SharedDict.ABSENT` as `expected` means that key is not there; as
        `new` it removes key.
        """
        while True:
            seen, value = self._look(key)
            if seen is None:
                if expected is not _ABSENT:
                    return False
            elif expected is _ABSENT or not (value is expected or value == expected):
                return False
            if self._replace(key, seen, *(() if new is _ABSENT else (new,))):
                return True

    def __eq__(self, other: object) -> Any:
        if isinstance(other, _SharedDict):
            return self is other or self.copy() == other.copy()
        if isinstance(other, Mapping):
            return self.copy() == dict(other.items())
        return NotImplemented

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, (_SharedDict, Mapping)):
            return NotImplemented
        return self.copy() | dict(other.items())

    def __ror__(self, other: Any) -> Any:
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(other.items()) | self.copy()

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __repr__(self) -> str:
        return f"SharedDict({self.copy()!r})"


MutableMapping.register(SharedDict)
