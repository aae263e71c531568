"""Stand in under the name `multiprocessing`: one module object for both names, package and submodules.

The finder lies in `sys.meta_path`, so that whoever imports `multiprocessing.pool` gets `procession.pool`. Children made by fork
have it as they begin; those of spawn and forkserver are told by ``spawn.prepare``, before anything of the user's is imported.
Beneath `procession run` an environment variable tells every interpreter of the same environment: see ``_beneath/sitecustomize.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
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
        if name.endswith(".loky.backend.queues") or name == "loky.backend.queues":
            from . import _loky

            return _loky.find_spec(name, path)
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
    for name in ("queues", "synchronize", "_pool_worker"):
        amend(f"{_PACKAGE}.{name}")


def amend(name: str) -> None:
    """Where procession stands in, let a module of it have the standard library's defects; see `_standin`."""
    module = sys.modules.get(name)
    if module is not None and is_installed():
        from . import _standin

        _standin.amend(module)


#: In the environment beneath `procession run`: ``cache tag:start method, if one was given:sys.prefix``.
_VARIABLE = "PROCESSION_RUN"


def install_for_run(method: str | None) -> None:
    """`install`, with `method` as the default start method, here and in all interpreters of this environment started beneath."""
    install()
    _set_default(method)
    os.environ[_VARIABLE] = f"{sys.implementation.cache_tag}:{method or ''}:{sys.prefix}"
    hook = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_beneath")
    package_folder = os.path.dirname(os.path.dirname(hook))
    if not os.path.exists(os.path.join(package_folder, "procession_run.pth")):
        # Not installed, but found on the path: so is the hook to be.
        rest = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([hook, rest] if rest else [hook])


def install_beneath_run() -> None:
    """`install` in an interpreter started beneath `procession run`, with the start method given there."""
    install()
    _set_default(os.environ[_VARIABLE].split(":", 2)[1] or None)


def _set_default(method: str | None) -> None:
    # The default, not the choice: the program may still say set_start_method().
    if method is not None:
        from . import context

        context._default_context._default_context = context._concrete_contexts[method]
