"""The worker that runs the calling code. Nothing loads this before it is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from . import worker as _worker

__all__: list[str] = []


@dataclass(frozen=True)
class CurrentWorker:
    """A worker, as the code that it runs sees it."""

    #: From 0. No two workers of a pool have the same at a time; one that replaces another has its.
    index: int
    #: The name of its pool.
    pool: str
    #: What the pool's initializer returned in this worker; None without one, and while it runs.
    value: Any


def current_worker() -> CurrentWorker | None:
    """Return the worker that runs the calling code, None outside of a pool's workers.

    Each worker has its own value, so an initializer may return a connection, a model or a cache
    that all tasks of the worker use.
    """
    here = getattr(_worker.in_thread, "worker", None) or _worker.in_process
    if here is None or here[0] != os.getpid():
        return None
    return CurrentWorker(*here[1:])
