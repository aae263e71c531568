"""The error for an object that cannot be sent: its type, and the path to the offending part.

It never shows a value or its `repr`.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Iterator
from typing import Any

from . import parts
from .code import globals_of

__all__: list[str] = []

#: The errors that pickle raises for what it cannot carry.
KINDS = (TypeError, AttributeError, pickle.PicklingError)

_ADVICE = "Send the data it is made of instead, and make it anew in the other process"
#: The search for the part that cannot be sent gives up after this many objects.
_OBJECTS = 20_000


def explain(obj: object, error: Exception, advice: str = _ADVICE) -> Exception:
    """Return an error of the same kind that says what could not be sent and what to do."""
    kind = next(kind for kind in KINDS if isinstance(error, kind))
    stack = _stack(obj)
    culprit = stack[-1]
    way, last = _way(stack)
    what = f"cannot send {_kind(obj)} to another process"
    if culprit is not obj:
        where = f"{way} of it" if way else "it"
        if last is not culprit:
            where = f"a part of {where}"
        what += f": {where} is {_kind(culprit)}"
    return kind(f"{what}: {_reason(culprit, error)}. {advice}.")


def cause(error: BaseException) -> BaseException | None:
    """Return the error, to show where it was raised, or None if all it has is pickle's own text.

    Pickle's text may show a value.
    """
    return error if error.__traceback__ is not None and _is_of_python(error) else None


def _is_of_python(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if not (trace.tb_frame.f_globals.get("__name__") or "").startswith("procession."):
            return True
        trace = trace.tb_next
    return False


def _kind(obj: object) -> str:
    if isinstance(obj, (types.FunctionType, types.BuiltinFunctionType)):
        return f"the function {obj.__qualname__}"
    if isinstance(obj, type):
        return f"the class {obj.__module__}.{obj.__qualname__}"
    cls = type(obj)
    return f"an object of type {_name(cls)}"


def _name(cls: type) -> str:
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def _reason(culprit: object, error: Exception) -> str:
    """Return what pickle or the object's own code said.

    Pickle's text about an object that it does not find would show the object: it is replaced.
    """
    text = str(error)
    if isinstance(error, pickle.PicklingError) or text.startswith("Can't"):
        if isinstance(culprit, (type, types.FunctionType)):
            return f"it is not found as {culprit.__module__}.{culprit.__qualname__}"
        if text.startswith("Can't pickle"):
            return "it is not found under the name that it is pickled by"
    return text


class _TooMany(Exception):
    pass


class _Tracer(parts.Taking, pickle._Pickler):  # type: ignore[misc]
    """Pickles into nothing, and knows at each moment which object it is pickling."""

    def __init__(self) -> None:
        self.prepare(5)
        super().__init__(self, 5, buffer_callback=lambda buffer: None)
        self.stack: list[Any] = []
        self._left = _OBJECTS

    def write(self, data: object) -> None:
        """Discard the data: the pickler is its own file."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        self._left -= 1
        if self._left < 0:
            self.stack.clear()
            raise _TooMany
        self.stack.append(obj)
        super().save(obj, save_persistent_id)  # type: ignore[misc]
        self.stack.pop()


def _stack(obj: object) -> list[Any]:
    """Return the chain from an object to its part that cannot be sent, both included.

    The object alone if the part is not found.
    """
    try:
        tracer = _Tracer()
    except ImportError:
        return [obj]  # without cloudpickle
    try:
        tracer.dump(obj)
    except Exception:
        return tracer.stack or [obj]
    return [obj]


def _way(stack: list[Any]) -> tuple[str, Any]:
    """Return the path from the first object to the last, as source code, and where it leads.

    Both go only as far as the path is known.
    """
    way, holder = "", stack[0]
    for part in stack[1:]:
        step = next(_steps(holder, part), None)
        # Objects that pickle makes up to describe another one are no part of that.
        if step is not None:
            way, holder = way + step, part
    return way, holder


def _steps(holder: Any, part: Any) -> Iterator[str]:
    if isinstance(holder, (list, tuple)):
        yield from (f"[{at}]" for at, item in enumerate(holder) if item is part)
    elif isinstance(holder, dict):
        yield from (_key(key) for key, item in holder.items() if item is part)
        yield from ("'s key" for key in holder if key is part)
    elif isinstance(holder, types.FunctionType):
        closure = zip(holder.__code__.co_freevars, holder.__closure__ or ())  # noqa: B905
        yield from (f".__closure__[{name!r}]" for name, cell in closure if _contents(cell) is part)
        for at, item in enumerate(holder.__defaults__ or ()):
            if item is part:
                yield f".__defaults__[{at}]"
        for name in globals_of(holder.__code__):
            if holder.__globals__.get(name) is part:
                yield f".__globals__[{name!r}]"
    else:
        slots = getattr(type(holder), "__slots__", ())
        slots = (slots,) if isinstance(slots, str) else tuple(slots)
        found = {**{name: getattr(holder, name, None) for name in (*_HOLD, *slots)}}
        found.update(getattr(holder, "__dict__", {}))
        yield from (f".{name}" for name, item in found.items() if item is part)


#: The attributes by which objects made in C hold others.
_HOLD = ("func", "args", "keywords", "__func__", "__self__", "__wrapped__")


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _key(key: object) -> str:
    """Return a key as text, unless it may be a secret or long."""
    if type(key) is int or (type(key) is str and len(key) <= 40 and key.isidentifier()):
        return f"[{key!r}]"
    return "[...]"
