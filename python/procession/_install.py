"""Stand in under the name `multiprocessing`: one module object for both names, package and submodules.

The finder lies in `sys.meta_path`, so that whoever imports `multiprocessing.pool` gets `procession.pool`. Children made by fork
have it as they begin; those of spawn and forkserver are told by ``spawn.prepare``, before anything of the user's is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib._abc import Loader  # importlib.abc loads `typing`
from importlib.machinery import ModuleSpec
from types import ModuleType

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__: list[str] = []

_ALIAS = "multiprocessing"
_PACKAGE = __package__


class _Loader(Loader):
    """Load a module by handing out ours."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system wrote the alias's spec into it; it has run already.
        module.__spec__ = self._own_spec


class _Finder:
    """Find `multiprocessing` and all below it here."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != _ALIAS and not name.startswith(_ALIAS + "."):
            return None
        own = _PACKAGE + name[len(_ALIAS) :]
        spec = importlib.util.find_spec(own)
        if spec is None:
            return None
        is_package = spec.submodule_search_locations is not None
        return ModuleSpec(name, _Loader(own), is_package=is_package)


def is_installed() -> bool:
    """Whether `multiprocessing` is procession in this process."""
    return _Finder in sys.meta_path


def install() -> None:
    """Put procession under the name `multiprocessing`. RuntimeError if the standard library's is loaded already."""
    if is_installed():
        return
    if _ALIAS in sys.modules:
        raise RuntimeError(
            "multiprocessing has been imported already, and who holds it would keep it: call procession.install()"
            " before all other imports, or start the program with 'procession run'"
        )
    sys.meta_path.insert(0, _Finder)
