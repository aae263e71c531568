"""How a sender takes functions and classes apart for the receiver to put together (`rebuild`)."""

from __future__ import annotations

import builtins
import copyreg
import functools
import io
import marshal
import pickle
import sys
import types
from collections.abc import Iterable
from typing import Any

from .. import reduction
from .._procession import family_id, import_whole
from . import rebuild, receivers
from .code import globals_of

__all__: list[str] = []

#: Types that cloudpickle takes apart so that the receiver gets something else (a copy of a file's
#: text, bytes for a view of them), and types that no function or class is made of.
_NOT_OURS = {"TextIOWrapper", "memoryview"}
_NOT_OURS |= {f"{of}dict_{view}" for of in ("", "o") for view in ("keys", "values", "items")}


@functools.cache
def table() -> dict[Any, Any]:
    """Return the reducers for what functions and classes are made of.

    Raises ImportError without cloudpickle.
    """
    cloudpickle, dataclasses = import_whole("cloudpickle"), import_whole("dataclasses")
    theirs = cloudpickle.Pickler._dispatch_table
    reducers: dict[Any, Any] = {
        kind: reduce for kind, reduce in theirs.items() if kind.__name__ not in _NOT_OURS
    }
    reducers[io.TextIOWrapper] = _standard_stream
    reducers[types.CodeType] = _code
    reducers[types.CellType] = _cell
    reducers[types.MethodType] = _method
    reducers[functools._lru_cache_wrapper] = _cached
    reducers[functools.cached_property] = _cached_property
    if (typing := sys.modules.get("typing")) is not None:
        reducers[typing.TypeVar] = _by_name_or(reducers[typing.TypeVar], "__name__")
        reducers[typing.NewType] = _by_name_or(_new_type, "__qualname__")
    for name in ("MISSING", "_HAS_DEFAULT_FACTORY", "KW_ONLY"):
        value = getattr(dataclasses, name)
        # From CPython 3.15 on they are sentinels, as a program's own may be, and go by name.
        if type(value).__module__ == dataclasses.__name__:
            reducers[type(value)] = functools.partial(_constant, (dataclasses, name))
    return reducers


class Taking:
    """The pickler's handling of functions and classes; `Pickler` is the fast implementation."""

    def prepare(self, protocol: int) -> None:
        """Set up the reducers and the results. Call this before `dump`."""
        # Without out-of-band buffers pickle copies an array, and the copy is writable.
        arrays = reduction._array_reducers() if protocol >= 5 else {}
        reduction._register_sockets()
        self.dispatch_table = {
            **copyreg.dispatch_table,
            **table(),
            **arrays,
            **reduction._ForkingPickler._extra_reducers,
        }
        #: Whether part of the object went by value.
        self.by_value = False
        #: Whether a definition of `__main__` went by value although pickle would have found it by
        #: name.
        self.lacked = False
        self._family = family_id()
        self._main = _MainDict(self._family)
        self._shared: dict[tuple[int, str], tuple[dict[str, Any], Any]] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            return self._reduce(obj, self._function)
        if issubclass(kind, type):
            return self._reduce(obj, self._class)
        return NotImplemented

    def _reduce(self, obj: Any, take: Any) -> Any:
        if receivers.goes_by_name(obj):
            return NotImplemented
        found = receivers.is_found(obj)
        if strict and not found and not self.lacked:
            return NotImplemented
        self.lacked |= found
        reduced = take(obj, (self._family, obj.__qualname__) if found else None)
        self.by_value |= reduced is not NotImplemented
        return reduced

    def _function(self, function: Any, same: Any) -> Any:
        code = function.__code__
        scope = function.__globals__
        names = globals_of(code)
        used = {name: scope[name] for name in names if name in scope}
        base: Any
        if scope is receivers.main_dict():
            base, used = self._main, receivers.lacking(used)
        elif _looks_at(scope, names) and (module := _importable(scope)) is not None:
            base, used = self._share(scope, "module", lambda: _ModuleDict(module)), {}
        else:
            # Not the stand-in of those functions of an importable module that look at its variables.
            base = self._share(scope, "copy", lambda: _copy_of_names(scope))
        closure = function.__closure__
        contents = [cell.cell_contents for cell in closure or () if _is_full(cell)]
        state = {
            "attributes": {name: getattr(function, name) for name in _ATTRIBUTES},
            "dict": function.__dict__,
            "globals": used,
            "modules": _submodules(code, [*used.values(), *contents]),
        }
        make = (same, code, base, function.__name__, closure)
        return rebuild.make_function, make, state, None, None, rebuild.finish_function

    def _share(self, scope: dict[str, Any], kind: str, make: Any) -> Any:
        """Return the one stand-in of a kind for a dictionary of global variables.

        The dictionary is kept alive while its `id` is in use.
        """
        return self._shared.setdefault((id(scope), kind), (scope, make()))[1]

    def _class(self, cls: Any, same: Any) -> Any:
        from cloudpickle import cloudpickle

        if cls in cloudpickle._BUILTIN_TYPE_NAMES:
            return cloudpickle._class_reduce(cls)
        if not _can_be_remade(cls):
            return NotImplemented
        make, args, state, _, _, finish = cloudpickle._dynamic_class_reduce(cls)
        if make is cloudpickle._make_skeleton_class and _has_hooks(cls):
            # The receiver may have to make the class without running its hooks: raise here if that
            # fails.
            kind, name, bases, attributes, *_ = args
            rebuild.make_silently(kind, name, bases, attributes, None)
        definition = rebuild.definition(cls) if same is not None else None
        return (
            rebuild.make_class,
            (same, definition, make, args),
            (finish, state),
            None,
            None,
            rebuild.finish_class,
        )


class Pickler(Taking, pickle.Pickler):  # type: ignore[misc]
    """The pickler of the rule."""

    def __init__(self, file: Any, protocol: int = 5, buffer_callback: Any = None) -> None:
        self.prepare(protocol)
        super().__init__(file, protocol, buffer_callback=buffer_callback)


#: Whether what pickle refuses is an error, and is not sent by value.
strict = False


def be_strict() -> None:
    """Refuse what pickle refuses, in workers where procession stands in for the standard library."""
    global strict
    strict = True


_ATTRIBUTES = ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__")


class _MainDict:
    """Becomes the dictionary of the receiver's `__main__`."""

    def __init__(self, family: Any) -> None:
        self._family = family

    def __reduce__(self) -> Any:
        return rebuild.main_dict, (self._family,)


class _ModuleDict:
    """Becomes the dictionary of a module that the receiver imports."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> Any:
        return rebuild.module_dict, (self._name,)


#: Functions that look at all variables of their caller's module.
_LOOK_AT_ALL = {"globals", "eval", "exec"}


def _looks_at(scope: dict[str, Any], names: Iterable[str]) -> bool:
    """Return whether a function that uses these names may look at variables of its module.

    A name that is no builtin is a variable that the receiver's module may have.
    """
    return any(
        name in scope or name in _LOOK_AT_ALL or not hasattr(builtins, name) for name in names
    )


def _importable(scope: dict[str, Any]) -> str | None:
    """Return the name of the module with this dictionary, if other processes can import it."""
    name = scope.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or module.__dict__ is not scope or name in receivers.MAIN:
        return None
    return name if _can_be_found(name) else None


@functools.cache
def _can_be_found(name: str) -> bool:
    parent, _, _ = name.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    for finder in sys.meta_path:
        try:
            if finder.find_spec(name, path) is not None:
                return True
        except Exception:
            continue  # a finder of the program's own; one that fails here fails there too
    return False


def _copy_of_names(scope: dict[str, Any]) -> dict[str, Any]:
    names = ("__package__", "__name__", "__path__", "__file__")
    return {name: scope[name] for name in names if name in scope}


def _submodules(code: types.CodeType, values: list[Any]) -> list[Any]:
    """Return the modules that a function reaches through a package.

    The receiver must import them too.
    """
    if not any(isinstance(value, types.ModuleType) for value in values):
        return []
    from cloudpickle import cloudpickle

    return cloudpickle._find_imported_submodules(code, values)


def _can_be_remade(cls: Any) -> bool:
    """Return whether Python code defined a class and its metaclasses.

    Other classes cannot be made again from their attributes.
    """
    kinds = [kind for kind in type(cls).__mro__ if kind not in (type, object)]
    return all(_is_of_python(kind) for kind in (cls, *kinds))


def _has_hooks(cls: Any) -> bool:
    """Return whether making a class like this runs hooks of its bases or metaclass."""
    hook = super(cls, cls).__init_subclass__
    return isinstance(hook, types.MethodType) or type(cls) is not type


_HEAP_TYPE, _IMMUTABLE, _WITHOUT_NEW = 1 << 9, 1 << 8, 1 << 7
_OF_C = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


def _is_of_python(cls: Any) -> bool:
    flags = cls.__flags__
    if not flags & _HEAP_TYPE or flags & (_IMMUTABLE | _WITHOUT_NEW):
        return False
    slots = cls.__dict__.get("__slots__", ())
    own = {"__dict__", "__weakref__", *((slots,) if isinstance(slots, str) else slots)}
    return not any(
        type(value) in _OF_C and value.__objclass__ is cls and value.__name__ not in own
        for value in cls.__dict__.values()
    )


# Reducers


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _cell(cell: Any) -> Any:
    # Two functions that share a variable here share it in the receiver too.
    contents = (cell.cell_contents,) if _is_full(cell) else ()
    return rebuild.make_cell, (), contents, None, None, rebuild.fill_cell


def _code(code: types.CodeType) -> Any:
    try:
        return marshal.loads, (marshal.dumps(code),)
    except ValueError:  # it has constants that no compiler makes
        from cloudpickle import cloudpickle

        return cloudpickle._code_reduce(code)


def _method(method: Any) -> Any:
    return rebuild.make_method, (method.__func__, method.__self__)


def _cached(wrapper: Any) -> Any:
    if receivers.goes_by_name(wrapper):
        return wrapper.__qualname__
    more = {
        name: value
        for name, value in wrapper.__dict__.items()
        if name not in ("__wrapped__", "cache_parameters")
    }
    function = wrapper.__wrapped__
    same = (family_id(), wrapper.__qualname__) if receivers.is_found(wrapper) else None
    return rebuild.make_cached, (same, function, wrapper.cache_parameters(), more)


def _cached_property(prop: Any) -> Any:
    return rebuild.make_cached_property, (prop.func, prop.attrname, prop.__doc__)


def _by_name_or(reduce: Any, attribute: str) -> Any:
    def reduce_named(obj: Any) -> Any:
        name = getattr(obj, attribute)
        module = sys.modules.get(obj.__module__)
        if module is None or getattr(module, name, None) is not obj:
            return reduce(obj)
        of_main = obj.__module__ in receivers.MAIN
        return name if not of_main or receivers.have(name, obj) else reduce(obj)

    return reduce_named


def _new_type(obj: Any) -> Any:
    return type(obj), (obj.__name__, obj.__supertype__)


def _constant(where: tuple[Any, str], obj: Any) -> Any:
    return getattr, where


def _standard_stream(file: Any) -> Any:
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {type(file).__name__!r} instances")
