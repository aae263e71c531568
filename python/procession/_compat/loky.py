"""Pipe-based queues for loky (joblib's default backend) where procession stands in.

loky's queues are subclasses that replace the internals of the standard library's queues, and they
are passed to interpreters that loky starts itself, outside this family. So `multiprocessing.queues`
is `_compat.pipe_queues` while loky's module of queues is imported.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__: list[str] = []

_ALIAS = "multiprocessing.queues"


class _Loader:
    """Load loky's module while the alias points to `_compat.pipe_queues`."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        ours = importlib.import_module(_ALIAS)
        sys.modules[_ALIAS] = importlib.import_module(".pipe_queues", __package__)
        try:
            self._loader.exec_module(module)
        finally:
            sys.modules[_ALIAS] = ours


def find_spec(name: str, path: Any) -> ModuleSpec | None:
    """Find loky's module `name`, to be loaded by `_Loader`."""
    spec = PathFinder.find_spec(name, path)
    if spec is not None:
        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
    return spec
