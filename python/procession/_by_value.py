"""Functions and classes that a receiver does not have under their name: pickled by value, with cloudpickle.

Pickle writes the name of a function or class and has the receiver look it up. It refuses lambdas and what a function's body defines: these
come here at once (`dump`). What `__main__` defines it never refuses, although other processes may not have it: a notebook's or a session's
cells, ``python -c``, standard input, a package's ``__main__.py``, what stands below ``if __name__ == "__main__":``. So a pickle that
names `__main__` is looked at again (`amend`), unless every process that imports this main module finds in it all that can be sent.

A receiver that has the same definition in its own `__main__` takes that one: classes stay what they are, and a function sees the globals that
are there. Otherwise it builds the sender's and puts it, with the globals it uses, into its `__main__`; but what the receiver's own code
has bound there (in a pool's initializer, say) stays.
"""

from __future__ import annotations

import copyreg
import functools
import io
import os
import pickle
import re
import sys
import types
from collections.abc import Callable
from typing import Any

from . import context, popen_fork, process, reduction
from ._procession import family_id

__all__: list[str] = []

_MAIN = ("__main__", "__mp_main__")

#: What pickle raises for what it cannot carry.
REFUSALS = (TypeError, AttributeError, pickle.PicklingError)


def dump(obj: object, buffer_callback: Callable[[Any], Any] | None, error: Exception) -> bytes:
    """Pickle what pickle refused with `error`. An error of the same kind, with advice, if that is impossible."""
    try:
        return _dumps(obj, buffer_callback)
    except ImportError:
        advice = "Send data, or functions and classes defined at the top level of a module; or install the package cloudpickle"
        raise _refusal(obj, error, advice) from error
    except REFUSALS as again:
        advice = "Send the data it is made of instead, and make it anew in the other process"
        raise _refusal(obj, again, advice) from again


def amend(obj: object, buffer_callback: Callable[[Any], Any] | None) -> bytes | None:
    """Pickle anew what pickle could carry, but by names of `__main__` that a receiver may lack. None: let it be."""
    try:
        return _dumps(obj, buffer_callback)
    except ImportError as error:
        if context.get_spawning_popen() is None:
            return None  # a child made by fork has it
        advice = "Put it into a module, or install the package cloudpickle"
        lacking = pickle.PicklingError("the child cannot import this program's main module")
        raise _refusal(obj, lacking, advice) from error
    except Exception:
        return None  # some global that it uses cannot travel; what runs by names may still run


def _dumps(obj: object, buffer_callback: Callable[[Any], Any] | None) -> bytes:
    file = io.BytesIO()
    _pickler()(file, buffer_callback).dump(obj)
    return file.getvalue()


@functools.cache
def _pickler() -> type:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def __init__(self, file: io.BytesIO, buffer_callback: Any) -> None:
            # The base reads it while it is made.
            self.dispatch_table = {
                **copyreg.dispatch_table,
                **cloudpickle.Pickler._dispatch_table,
                io.TextIOWrapper: _reduce_text_file,
                **reduction._ForkingPickler._extra_reducers,
            }
            super().__init__(file, 5, buffer_callback)
            self._family = family_id()

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind is not types.FunctionType and not issubclass(kind, type):
                return NotImplemented
            if obj.__module__ not in _MAIN:
                return super().reducer_override(obj)
            if _is_known(obj):
                return NotImplemented
            reduced = super().reducer_override(obj)
            if type(reduced) is not tuple or len(reduced) != 6:
                return reduced
            make, args, state, _, _, set_state = reduced
            used: dict[str, Any] = {}
            if kind is types.FunctionType and obj.__globals__ is sys.modules["__main__"].__dict__:
                # cloudpickle would give each message's functions globals of their own.
                state[1]["__globals__"], used = {}, _lacking(state[1]["__globals__"])
                args = (args[0], _Globals(self._family), *args[2:])
            name = obj.__qualname__
            same = (self._family, name, _definition(obj))
            return (
                _find_or_make,
                (same, make, args),
                (same, set_state, state, used),
                None,
                None,
                _complete,
            )

    return Pickler


def _reduce_text_file(file: io.TextIOWrapper) -> Any:
    """A standard stream by its name. Of any other file cloudpickle would send a copy of what can be read from it."""
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {type(file).__name__!r} instances")


def _refusal(obj: object, error: Exception, advice: str) -> Exception:
    """The same kind of error, saying also what was to be sent and what to do."""
    try:
        name = repr(obj)
    except Exception:
        name = object.__repr__(obj)
    if len(name) > 200:
        name = name[:200] + "..."
    kind = next(kind for kind in REFUSALS if isinstance(error, kind))
    return kind(f"cannot send {name} to another process: {error}. {advice}.")


# The sender: who has what of `__main__`?


@functools.cache
def _import() -> tuple[frozenset[str], frozenset[str]] | None:
    """What a process that imports this main module has of it, and what only the program itself has. None: it cannot be imported."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    path = getattr(main, "__file__", None)
    if name == "__main__" or (name or "").endswith(".__main__"):
        return None
    if path is None or os.path.basename(path) in ("ipython", "ipython.py"):
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (OSError, ValueError):
        return None
    guarded = "".join(
        re.findall(r"^if\b[^\n]*__name__[^\n]*\n(?:[ \t#\n][^\n]*\n?|\n)*", text, re.M)
    )
    names = re.findall(r"^(?:async +)?(?:def|class) +(\w+)|^(\w+)\b[^=\n]*=", text, re.M)
    everywhere = frozenset(one or other for one, other in names)
    return everywhere, frozenset(re.findall(r"\b(?:def|class) +(\w+)", guarded)) - everywhere


def asks() -> bool:
    """Whether pickles that name `__main__` must be shown to `amend`."""
    found = _import()
    return found is None or bool(found[1]) or _is_session()


def _is_session() -> bool:
    return bool(sys.flags.interactive) or hasattr(sys, "ps1")


def _is_known(obj: Any) -> bool:
    """Whether all who may receive it find a definition of `__main__` under its name."""
    main = sys.modules["__main__"]
    name, _, _ = obj.__qualname__.partition(".")
    top = main.__dict__.get(name)
    if _find(obj.__qualname__) is not obj:
        return False
    found = _import()
    if found is not None:
        everywhere, guarded = found
        if name not in guarded and not _is_session():
            return True
        if name in everywhere and _is_from(main, obj):
            return True
    return all(known.get(name) is top for known in _forked()) if _forked() else False


def _is_from(main: Any, obj: Any) -> bool:
    code = getattr(obj, "__code__", None)
    return code is None or os.path.basename(code.co_filename) == os.path.basename(main.__file__)


def _forked() -> list[dict[str, Any]]:
    """What `__main__` held when each living child was made, and when this process was; empty for who did not begin as a copy."""
    if context.get_spawning_popen() is not None:
        return [{}]
    born = [popen_fork.known_at_birth] if popen_fork.known_at_birth is not None else []
    children = [getattr(child._popen, "known", {}) for child in process._children]
    return born + children


def _lacking(used: dict[str, Any]) -> dict[str, Any]:
    """Those of the globals that a function uses which a receiver may not have."""
    found = _import()
    imported: frozenset[str] = found[0] if found is not None and not _is_session() else frozenset()
    copies = _forked()
    return {
        name: value
        for name, value in used.items()
        if name not in imported
        and (_is_definition(value) or not copies or not all(name in known for known in copies))
    }


def _is_definition(value: object) -> bool:
    return isinstance(value, (types.FunctionType, type)) and value.__module__ in _MAIN


# The receiver


class _Globals:
    """Becomes the dictionary of the receiver's `__main__`."""

    def __init__(self, family: Any) -> None:
        self._family = family

    def __reduce__(self) -> Any:
        return _globals, (self._family,)


def _globals(family: Any) -> dict[str, Any]:
    if family != family_id():
        return {}  # another program's
    return sys.modules["__main__"].__dict__


#: What was put into `__main__` here, by name.
_put: dict[str, Any] = {}
#: What was made and has not its contents yet, by `id`.
_unfinished: dict[int, Any] = {}


def _find(qualname: str) -> Any:
    found: Any = sys.modules["__main__"]
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _definition(obj: Any) -> Any:
    """What two definitions of one name must have in common to count as the same."""
    if isinstance(obj, types.FunctionType):
        return obj.__code__.co_filename, obj.__code__
    codes = {}
    for name, value in vars(obj).items():
        function = getattr(value, "__func__", value)
        codes[name] = _definition(function) if isinstance(function, types.FunctionType) else None
    # What the interpreter and `abc` add as the class is used is no part of it.
    return {name: code for name, code in codes.items() if code or not name.startswith("_")}


def _own(same: tuple[Any, str, Any]) -> Any:
    """This process's own definition, if it is the same."""
    family, qualname, definition = same
    if family != family_id():
        return None
    found = _find(qualname)
    if not isinstance(found, (types.FunctionType, type)) or found.__module__ not in _MAIN:
        return None
    return found if _definition(found) == definition else None


def _find_or_make(same: tuple[Any, str, Any], make: Any, args: Any) -> Any:
    own = _own(same)
    if own is not None:
        return own
    made = make(*args)
    _unfinished[id(made)] = made
    return made


def _complete(obj: Any, how: tuple[Any, Any, Any, dict[str, Any]]) -> None:
    same, set_state, state, used = how
    if _unfinished.pop(id(obj), None) is not None:
        set_state(obj, state)
        if same[0] == family_id() and same[1].isidentifier():
            used[same[1]] = obj
    scope = sys.modules["__main__"].__dict__
    for name, value in used.items():
        if (
            name not in scope
            or _is_definition(value)
            or (name in _put and scope[name] is _put[name])
        ):
            scope[name] = _put[name] = value
