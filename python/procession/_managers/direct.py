"""Dicts and lists of a manager that its clients use in shared memory, without a call of the server.

The rule: a dict or list that `SyncManager` made for a client of the server's own family begins in
shared memory, and stays there as long as all calls are of the methods of `DirectDict` and
`DirectList`, with plain arguments, and shared memory has room. Any other call goes to the server, as always. If
it can change the object, or uses one item of it, the server first *seals* the shared memory, at one
moment for all processes: from then on it fails every use. The content becomes an ordinary object of
the server, for good, and all further calls go there. A call that only reads the whole object gets a
copy. So the server alone decides whatever shared memory cannot.

Plain are objects that behave the same as their copies, and that no code of the program is needed to
compare, copy or show: `None`, and exact `bool`, `int`, `float`, `str` and `bytes`, and tuples,
lists, dicts, sets and frozensets of these, in which no container occurs twice. A plain key is one
that the shared dictionary compares as `dict` does. It may be a tuple, but has no frozenset and no
NaN. Proxies, locks and the like are not plain, so shared memory refers to no other object.

References are counted by the server alone, as of all its objects. Its end is noticed: an orderly one
seals what is in shared memory, and a client asks every 20 ms at most whether the process lives.
Then calls go to the server, too, and raise what they raise for every object.
"""

from __future__ import annotations

import pickle
import sys
import weakref

from .._errors import Sealed
from .._procession import DeathWatch, SharedDict
from .._shared_list import SharedList

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["DirectDict", "DirectList", "Elsewhere", "InMemory", "direct"]

_KEYS = frozenset({str, int, bytes, bool, type(None)})
_ATOMS = _KEYS | {float}
_CONTAINERS = frozenset({tuple, list, dict, set, frozenset})
#: How deep containers of plain objects are nested at most.
_DEPTH = 16
#: How many objects of a server are in shared memory at most: each dict takes some kilobytes.
_MOST = 1024
#: How many items they begin with at most: with more, it takes much longer to make them.
_MOST_AT_FIRST = 10_000
_MISSING = object()


class Elsewhere(Exception):
    """Raised for a call that only the server can carry out."""


def _is_plain(value: Any, seen: set[int], depth: int = _DEPTH) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind not in _CONTAINERS or not depth or id(value) in seen:
        return False
    if value or kind not in (tuple, frozenset):  # an empty one is the same everywhere
        seen.add(id(value))
    items = [*value, *value.values()] if kind is dict else value
    return all(_is_plain(item, seen, depth - 1) for item in items)


def _is_plain_key(key: Any, depth: int = _DEPTH) -> bool:
    kind = type(key)
    if kind in _KEYS:
        return True
    if kind is float:
        return key == key
    return kind is tuple and depth > 0 and all(_is_plain_key(item, depth - 1) for item in key)


def _check_plain(*values: Any) -> None:
    seen: set[int] = set()
    for value in values:
        if type(value) not in _ATOMS and not _is_plain(value, seen):
            raise Elsewhere


def _check_key(key: Any) -> None:
    if type(key) not in _KEYS and not _is_plain_key(key):
        raise Elsewhere


def _copy(value: Any) -> Any:
    """Return what would have come back from the server."""
    return value if type(value) in _ATOMS else pickle.loads(pickle.dumps(value, 5))


class DirectDict:
    """The methods of a dict in shared memory. They raise `Elsewhere` for what is not plain."""

    METHODS = [
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__len__",
        "__setitem__",
        "_getvalue",
        "clear",
        "copy",
        "get",
        "items",
        "keys",
        "pop",
        "setdefault",
        "values",
    ]

    def __init__(self, shared: SharedDict) -> None:
        self._find = shared.__getitem__
        self._set = shared.__setitem__
        self._shared = shared

    def __getitem__(self, key: Any) -> Any:
        if type(key) not in _KEYS:
            _check_key(key)
        return self._find(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) not in _KEYS:
            _check_key(key)
        if type(value) not in _ATOMS:
            _check_plain(value)
        try:
            self._set(key, value)
        except ValueError:  # the key is too long
            raise Elsewhere from None

    def __delitem__(self, key: Any) -> None:
        _check_key(key)
        del self._shared[key]

    def __contains__(self, key: Any) -> bool:
        _check_key(key)
        return key in self._shared

    def __len__(self) -> int:
        return len(self._shared)

    def get(self, key: Any, default: Any = None, /) -> Any:
        _check_key(key)
        _check_plain(default)
        missing = _MISSING
        found = self._shared.get(key, missing)
        return _copy(default) if found is missing else found

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        _check_key(key)
        _check_plain(default)
        try:
            return self._shared.setdefault(key, default)
        except ValueError:  # the key is too long
            raise Elsewhere from None

    def pop(self, key: Any, default: Any = _MISSING, /) -> Any:
        missing = _MISSING
        _check_key(key)
        if default is missing:
            return self._shared.pop(key)
        _check_plain(default)
        found = self._shared.pop(key, missing)
        return _copy(default) if found is missing else found

    def clear(self) -> None:
        self._shared.clear()

    def copy(self) -> dict[Any, Any]:
        return dict(zip(*self._shared._snapshot()))  # noqa: B905 - as many of both

    def keys(self) -> list[Any]:
        return self._shared._keys()

    def values(self) -> list[Any]:
        return self._shared._snapshot()[1]

    def items(self) -> list[tuple[Any, Any]]:
        return list(zip(*self._shared._snapshot()))  # noqa: B905 - as many of both

    _getvalue = copy


class DirectList:
    """The methods of a list in shared memory. They raise `Elsewhere` for what is not plain."""

    METHODS = [
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__len__",
        "__setitem__",
        "_getvalue",
        "append",
        "clear",
        "copy",
        "count",
        "extend",
        "index",
        "insert",
        "pop",
        "remove",
        "reverse",
    ]

    def __init__(self, shared: SharedList) -> None:
        self._find = shared.__getitem__
        self._set = shared.__setitem__
        self._shared = shared

    def __getitem__(self, index: Any) -> Any:
        if type(index) is not int:
            _check_slice(index)
        return self._find(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is not int:
            _check_slice(index)
            self._set(index, _plain_items(value))
            return
        if type(value) not in _ATOMS:
            _check_plain(value)
        self._set(index, value)

    def __delitem__(self, index: Any) -> None:
        if type(index) is not int:
            _check_slice(index)
        del self._shared[index]

    def __contains__(self, value: Any) -> bool:
        _check_plain(value)
        return value in self._shared

    def __len__(self) -> int:
        return len(self._shared)

    def append(self, value: Any, /) -> None:
        _check_plain(value)
        self._shared.append(value)

    def insert(self, index: Any, value: Any, /) -> None:
        _check_ints(index)
        _check_plain(value)
        self._shared.insert(index, value)

    def extend(self, values: Any, /) -> None:
        self._shared.extend(_plain_items(values))

    def pop(self, index: Any = -1, /) -> Any:
        _check_ints(index)
        return self._shared.pop(index)

    def remove(self, value: Any, /) -> None:
        _check_plain(value)
        self._shared.remove(value)

    def index(self, value: Any, start: Any = 0, stop: Any = sys.maxsize, /) -> int:
        _check_plain(value)
        _check_ints(start, stop)
        return self._shared.index(value, start, stop)

    def count(self, value: Any, /) -> int:
        _check_plain(value)
        return self._shared.count(value)

    def reverse(self) -> None:
        self._shared.reverse()

    def clear(self) -> None:
        self._shared.clear()

    def copy(self) -> list[Any]:
        return self._shared.copy()

    _getvalue = copy


def _check_ints(*numbers: Any) -> None:
    for number in numbers:
        if type(number) is not int:
            raise Elsewhere


def _check_slice(index: Any) -> None:
    if type(index) is not slice:
        raise Elsewhere
    _check_ints(*(part for part in (index.start, index.stop, index.step) if part is not None))


def _plain_items(values: Any) -> Any:
    if type(values) not in (list, tuple):
        raise Elsewhere
    _check_plain(*values)
    return values


class InMemory:
    """A dict or list of a server that its clients use in shared memory, until it is sealed."""

    _living: weakref.WeakSet[InMemory] = weakref.WeakSet()

    #: Methods that only read the whole object, and may be given a copy.
    READING = frozenset(
        [
            "#GETVALUE",
            "__add__",
            "__mul__",
            "__or__",
            "__repr__",
            "__reversed__",
            "__rmul__",
            "__ror__",
            "__str__",
            "copy",
            "items",
            "keys",
            "values",
        ]
    )

    def __init__(self, shared: Any) -> None:
        #: None when the content is made.
        self._shared = shared
        #: The content, once sealed, under the name "it": the first that is made counts.
        self._content: dict[str, Any] = {}

    @classmethod
    def of(cls, obj: Any) -> Any:
        """Return what serves this dict or list: this class's instance, or the object itself."""
        if len(cls._living) >= _MOST or len(obj) > _MOST_AT_FIRST:
            return obj
        try:
            if type(obj) is dict:
                if not all(map(_is_plain_key, obj)):
                    return obj
                _check_plain(*obj.values())
                shared: Any = SharedDict()
                shared._create()
                for key, value in obj.items():
                    shared[key] = value
            else:
                _check_plain(*obj)
                shared = SharedList.__new__(SharedList)
                shared._create()
                shared.extend(obj)
        except (Elsewhere, ValueError, MemoryError):
            return obj  # not plain, a key that is too long, or no shared memory left
        made = cls(shared)
        cls._living.add(made)
        return made

    def offer(self) -> tuple[Any, int] | None:
        """Return what `direct` takes."""
        shared = self._shared
        return None if shared is None else (shared, DeathWatch.own())

    def seal(self) -> None:
        """End all use of the shared memory."""
        shared = self._shared
        if shared is not None:
            shared._seal()

    def content(self) -> Any:
        """Return the ordinary object, from now on the only one."""
        shared = self._shared
        if shared is not None:
            shared._seal()
            self._content.setdefault("it", _object(shared, shared._sealed()))
            self._shared = None  # gives its memory back
            self._living.discard(self)
        return self._content["it"]

    def now(self) -> Any:
        """Return the ordinary object, or a copy of what is in shared memory."""
        shared = self._shared
        if shared is not None:
            try:
                snapshot = shared._snapshot()
                return _object(shared, snapshot if type(shared) is SharedDict else snapshot[1])
            except Sealed:
                pass
        return self.content()

    def __str__(self) -> str:
        return str(self.now())


def _object(shared: Any, parts: Any) -> Any:
    return dict(zip(*parts)) if type(shared) is SharedDict else parts  # noqa: B905 - as many of both


def direct(offer: Any) -> tuple[DirectDict | DirectList, Any] | None:
    """Return a server's object in shared memory, and the function that tells whether the server ended."""
    if offer is None:
        return None
    shared, process = offer
    kind: Any = DirectDict if type(shared) is SharedDict else DirectList
    return kind(shared), DeathWatch(process).is_over
