"""Random numbers in a pool's workers: no two alike, or the same in each run.

Workers that are forked would all go on from their parent's state. The `random` module takes care of that itself; for numpy's global
generator `_pool_worker` does. With a seed of the user's each *item* has a state of its own, whatever worker it comes to and in what
chunk: that is done here.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__: list[str] = []


class Seeded:
    """A function that is called with the random state that belongs to its item: `(number, args, kwds)`."""

    def __init__(self, func: Callable[..., Any], seed: int, call: int) -> None:
        self.func = func
        self.key = f"{seed}/{call}"
        self.numpy = "numpy" in sys.modules
        self.__qualname__ = getattr(func, "__qualname__", None) or repr(func)

    def __call__(self, item: tuple[int, Iterable[Any], Mapping[str, Any]]) -> Any:
        number, args, kwds = item
        import hashlib
        import random

        key = f"{self.key}/{number}"
        random.seed(key)
        if self.numpy or "numpy" in sys.modules:
            import numpy.random

            digest = hashlib.sha256(key.encode()).digest()
            numpy.random.seed(
                [int.from_bytes(digest[at : at + 4], "little") for at in (0, 4, 8, 12)]
            )
        return self.func(*args, **kwds)


class Seeds:
    """A pool's seed, and how many calls it has been used for."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = itertools.count()

    def function(self, func: Callable[..., Any]) -> Seeded:
        """The function of the pool's next call."""
        return Seeded(func, self._seed, next(self._calls))


def numbered(items: Iterable[Any], starred: bool) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """What `Seeded` is called with for these items; `starred`: each holds the arguments of one call."""
    for number, item in enumerate(items):
        yield number, item if starred else (item,), {}
