"""`typing.get_type_hints` evaluates the annotations of every public function, class and method.

Programs that read annotations, such as dependency injectors and documentation tools, ask for them.
Names that annotations use must therefore exist when the program runs, not for type checkers alone.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing

import pytest

import procession


def public_modules():
    """Yield the names of the package's modules that programs import."""
    yield "procession"
    for module in pkgutil.walk_packages(procession.__path__, "procession."):
        parts = module.name.split(".")
        # The module for Windows refuses to be imported, and joblib may be missing.
        refused = parts[-1] in ("popen_spawn_win32", "joblib")
        if not any(part.startswith("_") for part in parts) and not refused:
            yield module.name


def is_own(thing):
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "procession"


def is_public(name):
    return not name.startswith("_") or name.startswith("__")


def members(cls):
    """Yield the public functions that a class and its bases in the package define."""
    for base in filter(is_own, cls.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, (staticmethod, classmethod)):
                member = member.__func__
            if isinstance(member, property):
                member = member.fget
            # The methods that `NamedTuple` makes have no builtins, by which annotations are evaluated.
            is_made = name == "__new__" and issubclass(base, tuple)
            if is_public(name) and inspect.isfunction(member) and not is_made:
                yield f"{base.__qualname__}.{name}", member


def annotated(module):
    """Yield the public functions, classes and methods that are found in a module."""
    names = {*getattr(module, "__all__", ()), *filter(is_public, vars(module))}
    for name in sorted(names):
        thing = getattr(module, name)
        if isinstance(thing, type) and is_own(thing):
            yield name, thing
            yield from members(thing)
        elif inspect.isroutine(thing) and is_own(inspect.unwrap(thing)):
            yield name, thing


@pytest.mark.parametrize("name", [*public_modules()])
def test_annotations_are_evaluated(name):
    module = importlib.import_module(name)
    failed = []
    for called, thing in [("", module), *annotated(module)]:
        try:
            typing.get_type_hints(thing)
        except Exception as error:
            failed.append(f"{name}.{called}: {error!r}")
    assert failed == []


def test_what_they_say():
    from procession.pool import Pool

    hints = typing.get_type_hints(Pool.__init__)
    assert hints["processes"] == (int | None)
    assert hints["return"] is type(None)
    hints = typing.get_type_hints(procession.ProcessPoolExecutor.__init__)
    assert hints["task_timeout"] == (float | None)
    assert typing.get_type_hints(procession.Lock)["return"] is procession.synchronize.Lock
