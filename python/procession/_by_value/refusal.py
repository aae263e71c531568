"""What is said of an object that cannot be sent: its type, and the way to the part that cannot travel. Never a value, nor the `repr` of one."""

from __future__ import annotations

import pickle
import types
from collections.abc import Iterator
from typing import Any

from . import parts
from .code import globals_of

__all__: list[str] = []

#: What pickle raises for what it cannot carry.
KINDS = (TypeError, AttributeError, pickle.PicklingError)

_ADVICE = "Send the data it is made of instead, and make it anew in the other process"
#: The search for the part that cannot travel gives up after so many objects.
_OBJECTS = 20_000


def explain(obj: object, error: Exception, advice: str = _ADVICE) -> Exception:
    """An error of the same kind that says what could not be sent, and what to do."""
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
    """The error, for whoever wants to see where it was raised; None if pickle's own text is all that it has: that may show a value."""
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
    """What pickle or the object's own code said, unless it is about an object that is not found, which pickle would show."""
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
    """Pickles into nothing, and knows at each moment what it is at."""

    def __init__(self) -> None:
        self.prepare(5)
        super().__init__(self, 5, buffer_callback=lambda buffer: None)
        self.stack: list[Any] = []
        self._left = _OBJECTS

    def write(self, data: object) -> None:
        """Be the file."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        self._left -= 1
        if self._left < 0:
            self.stack.clear()
            raise _TooMany
        self.stack.append(obj)
        super().save(obj, save_persistent_id)  # type: ignore[misc]
        self.stack.pop()


def _stack(obj: object) -> list[Any]:
    """What lies between an object and its part that cannot travel, both included; the object alone if that is not found."""
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
    """How to get from the first object to the last, as one would write it, as far as that is known, and where this leads."""
    way, holder = "", stack[0]
    for part in stack[1:]:
        step = next(_steps(holder, part), None)
        # What pickle puts together itself to describe an object is no part of it.
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


#: Where objects made in C hold others.
_HOLD = ("func", "args", "keywords", "__func__", "__self__", "__wrapped__")


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _key(key: object) -> str:
    """A key, unless it may be a secret or long."""
    if type(key) is int or (type(key) is str and len(key) <= 40 and key.isidentifier()):
        return f"[{key!r}]"
    return "[...]"
