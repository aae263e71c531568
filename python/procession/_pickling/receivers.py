"""Which processes have which definitions of `__main__`: decides what goes by name."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Iterable
from typing import Any, NamedTuple

from .. import context, process
from . import source

__all__: list[str] = []

#: A program's ``__main__`` is ``__mp_main__`` in a child that imports it.
MAIN = ("__main__", "__mp_main__")

#: The types that pickle writes as a name.
_NAMED = (types.FunctionType, type, functools._lru_cache_wrapper)


def main_dict() -> dict[str, Any]:
    """Return the global variables of this process's main module."""
    return sys.modules["__main__"].__dict__


def goes_by_name(obj: Any) -> bool:
    """Return whether every receiver finds a function or class under its name."""
    name, module_name = getattr(obj, "__qualname__", ""), obj.__module__
    if module_name in MAIN:
        return find(name) is obj and _is_known(obj, name.partition(".")[0])
    module = sys.modules.get(module_name)
    return module is not None and _walk(module, name) is obj


def is_found(obj: Any) -> bool:
    """Return whether this process's main module has a function or class under its name."""
    return obj.__module__ in MAIN and find(getattr(obj, "__qualname__", "")) is obj


def have(name: str, obj: Any) -> bool:
    """Return whether every receiver has this object of the main module under this name.

    The object is neither a function nor a class.
    """
    copies = _copies()
    return (bool(copies) and all(name in known for known in copies)) or _is_imported(name, obj)


def find(qualname: str) -> Any:
    """Return what this process's main module has under a qualified name, or None."""
    return _walk(sys.modules["__main__"], qualname)


def _walk(found: Any, qualname: str) -> Any:
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _is_known(obj: Any, top: str) -> bool:
    value = main_dict().get(top)
    copies = _copies()
    if copies and all(known.get(top) is value for known in copies):
        return True
    return _is_imported(top, obj)


def lacking(used: dict[str, Any]) -> dict[str, Any]:
    """Return those of the main module's variables that a receiver may not have."""
    copies = _copies()
    return {
        name: value
        for name, value in used.items()
        if not _is_imported(name, value)
        and (is_definition(value) or not copies or not all(name in known for known in copies))
    }


def is_definition(value: object) -> bool:
    """Return whether this is a definition of the main module that pickle writes as a name."""
    if not isinstance(value, _NAMED):
        typing = sys.modules.get("typing")
        if typing is None or not isinstance(value, (typing.TypeVar, typing.NewType)):
            return False
    return getattr(value, "__module__", None) in MAIN


# Receivers that import the main module


def _is_imported(top: str, obj: object) -> bool:
    """Return whether importing the main module binds the name `top` to the same object as here.

    A definition counts as the same if it is the one that `obj` is part of.
    """
    snapshot = process.main_state.at_import
    if snapshot is not None:
        return top in snapshot and (snapshot[top] is None or snapshot[top] is main_dict().get(top))
    found = _source()
    if found is None:
        return False
    if top not in found.names:
        return found.binds_by_call and top not in found.rebound and not _is_session()
    if not is_definition(obj) or not (top in found.rebound or _is_session()):
        return True
    return _is_of(found, obj)


class _All(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True


@functools.cache
def _source() -> source.Source | None:
    """Return what importing the main module binds, or None if it cannot be imported."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    path = process.path_of_main()
    if name == "__main__" or (name or "").endswith(".__main__"):
        return None
    if path is None or os.path.basename(path) in ("ipython", "ipython.py"):
        return None
    if name is None and process.ORIGINAL_DIR is not None:
        path = os.path.join(process.ORIGINAL_DIR, path)
    try:
        with open(path, "rb") as file:
            found = source.read(file.read(), path)
    except OSError:
        return None
    except (SyntaxError, ValueError):
        return source.Source(
            _All(), frozenset(), {}, False, []
        )  # compiled code is assumed to bind all names
    names = [name for star in found.stars for name in _star_names(main, *star)]
    return found._replace(names=found.names.union(names))


def _star_names(main: Any, name: str, level: int) -> list[str]:
    package = (getattr(main, "__package__", None) or "").split(".")
    parts = [*package[: len(package) - level + 1], name] if level else [name]
    module = sys.modules.get(".".join(part for part in parts if part))
    public = [name for name in vars(module or main) if not name.startswith("_")]
    return list(getattr(module, "__all__", public)) if module is not None else []


def _is_session() -> bool:
    return bool(sys.flags.interactive) or hasattr(sys, "ps1")


def _is_of(found: source.Source, obj: Any) -> bool:
    """Return whether importing the main module makes this definition.

    A definition of the same name does not count.
    """
    functions = list(_functions(obj))
    return bool(functions) and all(
        function.__code__ in found.codes.get(function.__qualname__, ()) for function in functions
    )


def _functions(obj: Any) -> Any:
    """Yield the functions that a definition consists of, without their wrappers."""
    if isinstance(obj, type):
        for value in vars(obj).values():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            function = unwrapped(function)
            # Functions that decorators such as `dataclass` generate are in no source file.
            if (
                isinstance(function, types.FunctionType)
                and function.__code__.co_filename[:1] != "<"
            ):
                yield function
        return
    function = unwrapped(obj)
    if isinstance(function, types.FunctionType):
        yield function


def unwrapped(function: Any) -> Any:
    """Follow the chain of `functools.wraps` to the innermost function."""
    for _ in range(100):
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    return function


# Receivers that are copies of a process that already had a `__main__`


def _copies() -> list[dict[str, Any]]:
    """Return what `__main__` held when each living child was made, and when this process was.

    Processes that did not begin as a copy contribute nothing.
    """
    if context.get_spawning_popen() is not None:
        return [{}]
    at_fork = process.main_state.at_fork
    born = [at_fork] if at_fork is not None else []
    children = [getattr(child._popen, "known", {}) for child in list(process._children)]
    return born + children


def all_are_copies() -> bool:
    """Return whether all receivers, present and foreseeable, are copies of this process."""
    if context.get_spawning_popen() is not None or process.main_state.at_import is not None:
        return False
    if not all(hasattr(child._popen, "known") for child in list(process._children)):
        return False
    method = context._default_context.get_start_method(allow_none=True)
    return bool(_copies()) or method == "fork" or (method is None and sys.version_info < (3, 14))


# Called by the extension


class Watch(NamedTuple):
    """The result of `watch`."""

    main: dict[str, Any]
    len: int
    bound: list[tuple[str, Any]]
    doubtful: list[bytes]


def watch() -> Watch:
    """Find the names of `__main__` that receivers may lack, and what keeps this result valid.

    The result holds as long as the main module has the same number of variables, and each name that
    the program rebinds keeps its definition.
    """
    scope = main_dict()
    definitions = {name: value for name, value in scope.copy().items() if is_definition(value)}
    born = process.main_state.at_fork
    if born is not None and all_are_copies():
        doubtful = [name for name, value in definitions.items() if born.get(name) is not value]
    else:
        doubtful = [name for name, value in definitions.items() if not _is_imported(name, value)]
    bound: Iterable[str] = ()
    if process.main_state.at_import is None and born is None:
        found = _source()
        bound = scope.copy() if found is None or _is_session() else found.rebound
    return Watch(
        scope,
        len(scope),
        [(name, definitions.get(name)) for name in bound],
        [name.encode() for name in doubtful],
    )


def lacks(names: list[bytes]) -> bool:
    """Return whether a receiver lacks one of these definitions of `__main__`."""
    scope, copies = main_dict(), _copies()
    return not copies or any(
        known.get(name) is not scope.get(name)
        for known in copies
        for name in map(bytes.decode, names)
    )
