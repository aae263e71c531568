"""The receiver's half: the functions that pickles by value call by name."""

from __future__ import annotations

import abc
import builtins
import functools
import importlib
import threading
import types
from typing import Any

from .. import _pickling
from .._procession import family_id, import_whole
from . import receivers

__all__: list[str] = []

#: What pickles put into `__main__` of this process, by name.
_put: dict[str, Any] = {}


class _Sender(threading.local):
    #: Whether what this thread unpickles is from this program, whatever family sent it: true for
    #: messages between the nodes of a cluster.
    is_own = False


sender = _Sender()
#: The classes that were made and do not have their contents yet, by `id`.
_unfinished: dict[int, tuple[Any, Any]] = {}
#: The attribute that marks a function until it has its contents.
_UNFINISHED = "_procession_unfinished"

_HEAP_TYPE = 1 << 9


def main_dict(family: Any) -> dict[str, Any]:
    """Return the global variables of the main module.

    For a function of another program, return a new dictionary.
    """
    return receivers.main_dict() if _is_own(family) else {"__name__": "__main__"}


def _is_own(family: Any) -> bool:
    """Return whether a sender's family runs this process's program."""
    return family == family_id() or sender.is_own


def module_dict(name: str) -> dict[str, Any]:
    """Return the global variables of a module."""
    return importlib.import_module(name).__dict__


def _own(same: Any) -> Any:
    """Return this main module's definition of the name, if the sender runs the same program."""
    if same is None or not _is_own(same[0]):
        return None
    found = receivers.find(same[1])
    return found if receivers.is_definition(found) else None


def make_function(same: Any, code: Any, scope: dict[str, Any], name: str, closure: Any) -> Any:
    """Return this process's own function if it is the same, else a new one without its contents."""
    own = _own(same)
    if isinstance(own, types.FunctionType) and own.__code__ == code:
        return own
    # As in a module: functions in C that import others look it up there.
    scope.setdefault("__builtins__", builtins)
    made = types.FunctionType(code, scope, name, None, closure)
    made.__dict__[_UNFINISHED] = same
    return made


def finish_function(function: Any, state: dict[str, Any]) -> None:
    """Give a function its contents, and its module the variables that it uses."""
    used = state["globals"]
    if _UNFINISHED in function.__dict__:
        same = function.__dict__.pop(_UNFINISHED)
        for name, value in state["attributes"].items():
            setattr(function, name, value)
        function.__dict__.update(state["dict"])
        _name(used, function, same)
    scope = function.__globals__
    if scope is receivers.main_dict():
        _put_into_main(used)
    else:
        for name, value in used.items():
            scope.setdefault(name, value)


def definition(cls: Any) -> Any:
    """Return what two classes of one name must have in common to count as the same."""
    codes = {}
    for name, value in vars(cls).items():
        function = receivers.unwrapped(getattr(value, "__func__", value))
        codes[name] = function.__code__ if isinstance(function, types.FunctionType) else None
    # Attributes that the interpreter and `abc` add while the class is used do not count.
    return {name: code for name, code in codes.items() if code or not name.startswith("_")}


def make_class(same: Any, defined: Any, make: Any, args: Any) -> Any:
    """Return this process's own class if it is the same, else a new one without its contents."""
    own = _own(same)
    if isinstance(own, type) and definition(own) == defined:
        return own
    try:
        made = make(*args)
    except Exception:
        if make is not _skeleton():
            raise
        made = make_silently(*args)
    _unfinished[id(made)] = made, same
    return made


def _skeleton() -> Any:
    cloudpickle = import_whole("cloudpickle.cloudpickle")
    return cloudpickle._make_skeleton_class


def make_silently(
    kind: Any, name: str, bases: Any, attributes: Any, tracker: Any, _: Any = None
) -> Any:
    """Make a class without running the hooks of its bases and metaclass.

    Those may require more than a name.

    What the hooks did to the class when it was defined is in its contents.
    """
    cloudpickle = import_whole("cloudpickle.cloudpickle")
    bases = types.resolve_bases(bases)
    first = bases[0] if bases else object
    builtin = next(base for base in first.__mro__ if not base.__flags__ & _HEAP_TYPE)
    plain = type(name, (builtin,), {})
    new = abc.ABCMeta.__new__ if issubclass(kind, abc.ABCMeta) else type.__new__
    made = new(kind, name, (plain,), dict(attributes))
    # Assigning `__bases__` does not call `__init_subclass__`; making a class with these bases
    # would.
    type.__dict__["__bases__"].__set__(made, bases)
    return cloudpickle._lookup_class_or_track(tracker, made)


def finish_class(cls: Any, state: Any) -> None:
    """Give a class its contents."""
    made = _unfinished.pop(id(cls), None)
    if made is not None:
        finish, contents = state
        finish(cls, contents)
        used: dict[str, Any] = {}
        _name(used, *made)
        _put_into_main(used)


def _name(used: dict[str, Any], value: Any, same: Any) -> None:
    """Bind a definition of the family's main module under its name here, too."""
    if same is not None and same[0] == family_id() and same[1].isidentifier():
        used[same[1]] = value


def _put_into_main(used: dict[str, Any]) -> None:
    scope = receivers.main_dict()
    for name, value in used.items():
        if (
            name not in scope
            or receivers.is_definition(value)
            or (name in _put and scope[name] is _put[name])
        ):
            scope[name] = _put[name] = value


def make_cell() -> Any:
    """Return an empty variable of a closure."""
    return types.CellType()


def fill_cell(cell: Any, contents: tuple[Any, ...]) -> None:
    """Give a closure's variable its value."""
    for value in contents:
        cell.cell_contents = value


def make_method(function: Any, instance: Any) -> Any:
    """Return a bound method."""
    return types.MethodType(function, instance)


def make_cached(same: Any, function: Any, parameters: dict[str, Any], more: dict[str, Any]) -> Any:
    """Return a function with its own cache, as `functools.lru_cache` makes it."""
    own = _own(same)
    inner = getattr(own, "__wrapped__", None)
    if type(own) is functools._lru_cache_wrapper and _is_same(inner, function):
        return own
    wrapper = functools.lru_cache(**parameters)(function)
    wrapper.__dict__.update(more)
    used: dict[str, Any] = {}
    _name(used, wrapper, same)
    _put_into_main(used)
    return wrapper


def _is_same(one: Any, other: Any) -> bool:
    return getattr(one, "__code__", None) == getattr(other, "__code__", other)


def make_cached_property(function: Any, name: str | None, doc: str | None) -> Any:
    """Return a `functools.cached_property`."""
    prop: Any = functools.cached_property(function)
    prop.attrname, prop.__doc__ = name, doc
    return prop


for _called in _pickling.REBUILDING:
    globals()[_called].__module__ = _pickling.__name__
