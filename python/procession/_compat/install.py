"""Put procession under the name `multiprocessing`, for the package and its submodules.

Both names have one module object.

The finder is in `sys.meta_path`, so that an import of `multiprocessing.pool` returns
`procession.pool`. Children made by fork inherit it. Children of spawn and forkserver are told by
``spawn.prepare``, before any module of the user is imported. Beneath `procession run` an
environment variable tells every interpreter of the same environment: see
``beneath/sitecustomize.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib._abc import Loader  # importlib.abc loads `typing`
from importlib.machinery import ModuleSpec
from types import ModuleType

from .. import context

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

_ALIAS = "multiprocessing"
_FUTURES = "concurrent.futures.process"
_PACKAGE = "procession"
_EXECUTOR = f"{_PACKAGE}._executor.executor"
#: The modules by which the executor's package can be entered.
_OF_EXECUTOR = [
    f"{_PACKAGE}._executor.{name}"
    for name in ("errors", "map", "futures", "engine", "calls", "executor")
]


class _Loader(Loader):
    """Load a module by returning procession's."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just written the alias's spec into the module, which has already
        # run.
        module.__spec__ = self._own_spec


class _ChangingLoader:
    """Load a module by its own loader, then change it."""

    def __init__(self, loader: Any, change: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


def _amend(module: ModuleType) -> None:
    """Give one of procession's modules the standard library's defects: see `_compat.standin`."""
    from . import standin

    standin.amend(module)


def _loads_now(names: Iterable[str], but: ModuleType) -> bool:
    """Return whether one of these modules, other than `but`, is being imported."""
    specs = [
        module.__spec__ for name in names if (module := sys.modules.get(name)) not in (None, but)
    ]
    return any(getattr(spec, "_initializing", False) for spec in specs)


def _put_executor(module: ModuleType) -> None:
    """Put procession's `ProcessPoolExecutor` into `concurrent.futures`.

    This is called after either module has run, and does it once both have.
    """
    if context._stands_in != "executor" or _FUTURES not in sys.modules:
        return
    if not _loads_now(_OF_EXECUTOR, module):
        # Otherwise one of these modules has caused this import, and its own change follows.
        from .._executor import executor  # noqa: F401
    ours = getattr(sys.modules.get(_EXECUTOR), "ProcessPoolExecutor", None)
    if ours is not None:
        sys.modules[_FUTURES].ProcessPoolExecutor = ours  # type: ignore[attr-defined]


#: Modules that are changed where procession stands in, and how.
_CHANGES: dict[str, Callable[[ModuleType], None]] = {
    _PACKAGE: _amend,
    f"{_PACKAGE}.queues": _amend,
    f"{_PACKAGE}.synchronize": _amend,
    f"{_PACKAGE}._pool.worker": _amend,
    **dict.fromkeys([*_OF_EXECUTOR, _FUTURES], _put_executor),
}


class _Finder:
    """Find `multiprocessing` and its submodules here."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.endswith(".loky.backend.queues") or name == "loky.backend.queues":
            from . import loky

            return loky.find_spec(name, path)
        if name in _CHANGES and (name != _FUTURES or context._stands_in == "executor"):
            spec = _find_elsewhere(name, path)
            if spec is not None:
                spec.loader = _ChangingLoader(spec.loader, _CHANGES[name])  # type: ignore[assignment]
            return spec
        if name != _ALIAS and not name.startswith(_ALIAS + "."):
            return None
        own = _PACKAGE + name[len(_ALIAS) :]
        spec = importlib.util.find_spec(own)
        if spec is None:
            return None
        is_package = spec.submodule_search_locations is not None
        return ModuleSpec(name, _Loader(own), is_package=is_package)


def _find_elsewhere(name: str, path: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)  # a finder may have `find_module` alone
        if finder is not _Finder and find_spec is not None:
            spec = find_spec(name, path)
            if spec is not None:
                return spec
    return None


def install(executor: bool = False) -> None:
    """Put procession under the name `multiprocessing`.

    With `executor`, its `ProcessPoolExecutor` is also that of `concurrent.futures`. Raises
    RuntimeError if the standard library's module is loaded already.
    """
    if executor and context._stands_in != "executor":
        if _FUTURES in sys.modules:
            raise RuntimeError(
                "concurrent.futures.process has been imported already, and what holds its executor would keep it: call"
                " procession.install(executor=True) before all other imports, or start the program with 'procession run --executor'"
            )
        if context._stands_in:
            context._note_stand_in("executor")
    if context._stands_in and _Finder in sys.meta_path:
        return
    if _ALIAS in sys.modules:
        raise RuntimeError(
            "multiprocessing has been imported already, and what holds it would keep it: call procession.install()"
            " before all other imports, or start the program with 'procession run'"
        )
    sys.meta_path.insert(0, _Finder)
    context._note_stand_in("executor" if executor else "multiprocessing")
    for name in _CHANGES.keys() & sys.modules.keys():
        _CHANGES[name](sys.modules[name])


#: The environment variable beneath `procession run`: ``cache tag:start method, if one was
#: given:sys.prefix``, with "+executor" after the start method if that was asked for.
_VARIABLE = "PROCESSION_RUN"


def install_for_run(method: str | None, executor: bool = False) -> None:
    """Do what `install` does here and in all interpreters started beneath, of this environment.

    `method` becomes the default start method.
    """
    install(executor)
    _set_default(method)
    told = f"{method or ''}{'+executor' * executor}"
    os.environ[_VARIABLE] = f"{sys.implementation.cache_tag}:{told}:{sys.prefix}"
    own_folder = os.path.dirname(os.path.abspath(__file__))
    hook = os.path.join(own_folder, "beneath")
    package_folder = os.path.dirname(os.path.dirname(own_folder))
    if not os.path.exists(os.path.join(package_folder, "procession_run.pth")):
        # The package is not installed but found on the path, and so must the hook be.
        rest = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([hook, rest] if rest else [hook])


def install_beneath_run() -> None:
    """Do what `install` does, in an interpreter started beneath `procession run`.

    The start method is the one given there.
    """
    method, _, executor = os.environ[_VARIABLE].split(":", 2)[1].partition("+")
    install(executor == "executor")
    _set_default(method or None)


def _set_default(method: str | None) -> None:
    # Sets the default only: the program may still call set_start_method().
    if method is not None:
        context._change_default_method(method)
