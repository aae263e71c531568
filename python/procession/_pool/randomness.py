"""Random numbers in a pool's workers: no two workers alike, or the same in each run.

Forked workers would otherwise all continue from their parent's state. The `random` module handles
that itself; for numpy's global generator `_pool.worker` does. This module implements the user's
seed: with it each *item* has its own state, whichever worker and chunk it belongs to.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__: list[str] = []


class Seeded:
    """A function that is called with the random state of its item: `(number, args, kwds)`."""

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
    """A pool's seed, and the number of calls that it has been used for."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = itertools.count()

    def function(self, func: Callable[..., Any]) -> Seeded:
        """Return the function of the pool's next call."""
        return Seeded(func, self._seed, next(self._calls))


def numbered(items: Iterable[Any], starred: bool) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """Yield the arguments of `Seeded` for these items.

    `starred`: each holds the arguments of one call.
    """
    for number, item in enumerate(items):
        yield number, item if starred else (item,), {}
