"""A list in shared memory.

Each call takes effect at one moment, for all processes. Nothing is locked, so no process waits for
another, not even for one that is stopped or killed in the middle. What compares items, or calls
functions of the program, works on a snapshot, and changes the list only if it is still the same.
"""

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from types import GenericAlias

from ._procession import SharedList as _SharedList

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["SharedList"]


#: How often code that a call runs, such as `__eq__` of an item, may change the list in its middle.
_MOST_CHANGES = 100


class SharedList(_SharedList):
    """A list that all processes of the family use at once.

    `SharedList(iterable)` fills it as `list` does. It is sent to other processes as an argument, or
    inside an item of a queue, and is freed with its last reference. `name` is what `procession`
    commands call it.

    Every method takes effect at one moment, `extend`, `sort`, `reverse` and slices, too. Iteration,
    `copy`, comparisons and `repr` show the items as they were at one moment. `len` and an item need
    a time that grows slowly with the list, as do changes of single items anywhere in it. All
    changes of one list exclude each other: those that take long to prepare, such as `sort`, begin
    anew whenever another process has changed the list meanwhile.

    Items are copied in and out: a change of an item that was looked up, such as `l[0].append(1)`, is
    not written back. Items that refer to locks, queues or other shared objects raise `TypeError`.
    """

    __module__ = "procession"
    __hash__ = None  # type: ignore[assignment]

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, iterable: Iterable[Any] = (), /, *, name: str | None = None) -> None:
        self._create(name)
        self.extend(iterable)

    def copy(self) -> list[Any]:
        """Return a plain `list` of the items as they are at one moment."""
        return self._snapshot()[1]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.copy())

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self.copy())

    def __contains__(self, value: object) -> bool:
        return value in self.copy()

    def index(self, value: Any, start: Any = 0, stop: Any = 2**63 - 1, /) -> int:
        """Return the first index of value. Raise `ValueError` if it is not there."""
        return self.copy().index(value, start, stop)

    def count(self, value: Any, /) -> int:
        """Return how many items are equal to value."""
        return self.copy().count(value)

    def remove(self, value: Any, /) -> None:
        """Remove the first item that is equal to value. Raise `ValueError` if there is none."""
        attempts = _Attempts(self)
        while attempts.go_on():
            seen, items = self._snapshot()
            try:
                place = items.index(value)
            except ValueError:
                raise ValueError("list.remove(x): x not in list") from None
            if self._take_out(seen, place):
                return

    def reverse(self) -> None:
        """Reverse the order of the items."""
        while True:
            seen, items = self._snapshot()
            if self._arrange(seen, list(range(len(items) - 1, -1, -1))):
                return

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort the items, as `list.sort` does.

        `key` and comparisons are called again if another process changes the list meanwhile.
        """
        modified = ValueError("list modified during sort")
        attempts, longest = _Attempts(self, modified, 100 * _MOST_CHANGES), None
        while attempts.go_on():
            seen, items = self._snapshot()
            if longest is None:
                longest = 2 * len(items) + 1000
            elif attempts.in_vain and len(items) > longest:
                raise modified  # `key` adds items
            names = items if key is None else list(map(key, items))
            if self._arrange(
                seen, sorted(range(len(items)), key=names.__getitem__, reverse=reverse)
            ):
                return

    def increment(self, index: Any, by: Any = 1, /) -> Any:
        """Add `by` to the item at index, at one moment, and return the new value."""
        fast = self._add(index, by)
        if fast is not None:
            return fast
        attempts = _Attempts(self)
        while attempts.go_on():
            seen, value = self._found(index)
            value = value + by
            if self._replace(seen, index, value):
                return value
        raise AssertionError  # `go_on` raises instead

    def compare_and_set(self, index: Any, expected: Any, new: Any, /) -> bool:
        """Set the item at index to `new`, at one moment, if it is equal to `expected`.

        Return whether it was.
        """
        attempts = _Attempts(self)
        while attempts.go_on():
            seen, value = self._found(index)
            if not (value is expected or value == expected):
                return False
            if self._replace(seen, index, new):
                return True
        raise AssertionError  # `go_on` raises instead

    def _found(self, index: Any) -> tuple[int, Any]:
        found = self._look(index)
        if found is None:
            raise IndexError("list index out of range")
        return found

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, (_SharedList, list)):
            return NotImplemented
        return self.copy() + list(other)

    def __iadd__(self, other: Iterable[Any]) -> Any:
        self.extend(other)
        return self

    def __mul__(self, times: Any) -> list[Any]:
        return self.copy() * times

    __rmul__ = __mul__

    def __imul__(self, times: Any) -> Any:
        while True:
            seen, items = self._snapshot()
            if self._arrange(seen, list(range(len(items))) * times):
                return self

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, (_SharedList, list)):
            return NotImplemented
        return self is other or self.copy() == list(other)

    def __lt__(self, other: Any) -> Any:
        if not isinstance(other, (_SharedList, list)):
            return NotImplemented
        return self.copy() < list(other)

    def __le__(self, other: Any) -> Any:
        if not isinstance(other, (_SharedList, list)):
            return NotImplemented
        return self.copy() <= list(other)

    def __gt__(self, other: Any) -> Any:
        if not isinstance(other, (_SharedList, list)):
            return NotImplemented
        return self.copy() > list(other)

    def __ge__(self, other: Any) -> Any:
        if not isinstance(other, (_SharedList, list)):
            return NotImplemented
        return self.copy() >= list(other)

    def __repr__(self) -> str:
        return f"SharedList({self.copy()!r})"


class _Attempts:
    """The attempts of a call that runs code of the program, such as `__eq__` of an item.

    That code, or a signal handler in its middle, may change the list, so that the attempt is in
    vain. If it does so each time, the call would never end.
    """

    def __init__(
        self, shared: SharedList, error: Exception | None = None, most: int = _MOST_CHANGES
    ) -> None:
        self._shared = shared
        #: What is raised after too many in vain.
        self._error = error or RuntimeError(
            "the list is changed by the code that compares or adds its items"
        )
        self._changes = shared._changes_here()
        self._most = most
        self.in_vain = 0

    def go_on(self) -> bool:
        """Return True for one more attempt, or raise after too many in vain."""
        changes = self._shared._changes_here()
        self.in_vain += changes != self._changes
        self._changes = changes
        if self.in_vain > self._most:
            raise self._error
        return True


MutableSequence.register(SharedList)
