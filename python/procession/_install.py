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
_FUTURES = "concurrent.futures.process"
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


class _FuturesLoader:
    """Load `concurrent.futures.process`, and put procession's executor into it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # If it is being loaded already, and that is why this is, it calls `put_executor` itself.
        if f"{_PACKAGE}._executor" not in sys.modules:
            importlib.import_module("._executor", _PACKAGE)
        put_executor()


def put_executor() -> None:
    """Where that was asked for, let `concurrent.futures` offer procession's `ProcessPoolExecutor`."""
    futures = sys.modules.get(_FUTURES)
    executor = getattr(sys.modules.get(f"{_PACKAGE}._executor"), "ProcessPoolExecutor", None)
    if stands_in() == "executor" and futures is not None and executor is not None:
        futures.ProcessPoolExecutor = executor  # type: ignore[attr-defined]


class _Finder:
    """Find `multiprocessing` and all below it here."""

    #: Whether it stands in for the executor of `concurrent.futures` too.
    executor = False

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.endswith(".loky.backend.queues") or name == "loky.backend.queues":
            from . import _loky

            return _loky.find_spec(name, path)
        if name == _FUTURES and _Finder.executor:
            spec = _find_elsewhere(name, path)
            if spec is not None:
                spec.loader = _FuturesLoader(spec.loader)  # type: ignore[assignment]
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
        if finder is not _Finder and (spec := finder.find_spec(name, path)) is not None:
            return spec
    return None


def is_installed() -> bool:
    """Whether `multiprocessing` is procession in this process."""
    return _Finder in sys.meta_path


def stands_in() -> str:
    """For what procession stands in here: "executor", if for that of `concurrent.futures` too; "" for nothing."""
    if not is_installed():
        return ""
    return "executor" if _Finder.executor else "multiprocessing"


def install(executor: bool = False) -> None:
    """Put procession under the name `multiprocessing`. RuntimeError if the standard library's is loaded already.

    With `executor` its `ProcessPoolExecutor` is that of `concurrent.futures` too.
    """
    if executor and not _Finder.executor:
        if _FUTURES in sys.modules:
            raise RuntimeError(
                "concurrent.futures.process has been imported already, and who holds its executor would keep it: call"
                " procession.install(executor=True) before all other imports, or start the program with 'procession run --executor'"
            )
        if is_installed() or _ALIAS not in sys.modules:
            _Finder.executor = True
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


#: In the environment beneath `procession run`: ``cache tag:start method, if one was given:sys.prefix``; with "+executor" behind the
#: start method if that was asked for.
_VARIABLE = "PROCESSION_RUN"


def install_for_run(method: str | None, executor: bool = False) -> None:
    """`install`, with `method` as the default start method, here and in all interpreters of this environment started beneath."""
    install(executor)
    _set_default(method)
    told = f"{method or ''}{'+executor' * executor}"
    os.environ[_VARIABLE] = f"{sys.implementation.cache_tag}:{told}:{sys.prefix}"
    hook = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_beneath")
    package_folder = os.path.dirname(os.path.dirname(hook))
    if not os.path.exists(os.path.join(package_folder, "procession_run.pth")):
        # Not installed, but found on the path: so is the hook to be.
        rest = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([hook, rest] if rest else [hook])


def install_beneath_run() -> None:
    """`install` in an interpreter started beneath `procession run`, with the start method given there."""
    method, _, executor = os.environ[_VARIABLE].split(":", 2)[1].partition("+")
    install(executor == "executor")
    _set_default(method or None)


def _set_default(method: str | None) -> None:
    # The default, not the choice: the program may still say set_start_method().
    if method is not None:
        from . import context

        context._default_context._default_context = context._concrete_contexts[method]
