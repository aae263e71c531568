"""Functions and classes that a receiver does not have under their name are sent by value.

The rule
--------
A function or class, and what wraps one and is pickled by its name (`functools.lru_cache`), goes
**by name** if every receiver finds it there:

1. its module, any but the main module, has it under its qualified name; or
2. it is a definition of the main module that importing this module binds, as far as the parsed
   source tells (`source`): it does not stand below ``if __name__ == "__main__":``, and is not
   replaced there by another of the same name. A definition that no statement binds was bound by a
   call, as in ``install(globals())``: an import makes that call, unless code that only the program
   runs gets hold of the namespace, too; or
3. it is a definition of the main module, and all receivers that exist began as copies of a
   process that had it (`receivers`).

All others go **by value**: lambdas, what a function's body defines, what stands below the guard,
cells of a notebook, lines of a session, ``python -c``, a package's ``__main__.py``. Of a function,
its code, its defaults and the contents of its closure are sent; of a class, its bases and its
attributes (`parts`).

The global variables of a function are those of its module **in the receiver**. For a function of
the main module they are in the dictionary of the receiver's one `__main__`, which also holds what
is found by name. For others they are in the dictionary of the module, which the receiver imports if
the function may look at any of them.
Only variables of `__main__` that a receiver may lack are sent along. A receiver that has the same
definition takes its own, and what its own code bound to a variable stays. A module that other
processes cannot import is copied, as far as the function uses it.

Everything else is pickled as usual. What cannot be sent is refused where it is sent (`refusal`).

Most objects never reach this package: the extension pickles by name. It calls `dump` if pickle
refuses, or if the pickle names a definition of `__main__` that receivers lack (`receivers.watch`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from .. import context, reduction
from . import parts, refusal
from .receivers import all_are_copies
from .receivers import lacks as lacks
from .receivers import watch as watch

__all__: list[str] = []

#: The errors that pickle raises for what it cannot carry.
REFUSALS = refusal.KINDS

_INSTALL = "Send data, or functions and classes defined at the top level of a module; or install the package cloudpickle"


def dump(
    obj: object, buffer_callback: Callable[[Any], Any] | None = None, protocol: int = 5
) -> tuple[bytes, bool]:
    """Pickle by the rule, and return also whether part of the object went by value."""
    file = io.BytesIO()
    try:
        pickler = parts.Pickler(file, protocol, buffer_callback)
    except ImportError as error:
        return _without_cloudpickle(obj, buffer_callback, protocol, error), False
    try:
        pickler.dump(obj)
    except REFUSALS as error:
        if pickler.lacked and all_are_copies():
            # Copies made from now on have it, so it need not be sent.
            return _by_names(obj, buffer_callback, protocol), False
        raise refusal.explain(obj, error) from refusal.cause(error)
    return file.getvalue(), pickler.by_value


def dump_refused(
    obj: object, buffer_callback: Callable[[Any], Any] | None, error: Exception
) -> bytes:
    """Pickle by the rule an object that pickle alone refused with `error`."""
    if parts.strict:
        raise error
    try:
        parts.table()
    except ImportError:
        raise refusal.explain(obj, error, _INSTALL) from refusal.cause(error)
    return dump(obj, buffer_callback)[0]


def _by_names(obj: object, buffer_callback: Any, protocol: int) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = reduction.dispatch_table()
    pickler.dump(obj)
    return file.getvalue()


def _without_cloudpickle(
    obj: object, buffer_callback: Any, protocol: int, error: ImportError
) -> bytes:
    if context.get_spawning_popen() is not None:
        reason = pickle.PicklingError("the child cannot import this program's main module")
        advice = "Put it into a module, or install the package cloudpickle"
        raise refusal.explain(obj, reason, advice) from error
    try:
        return _by_names(obj, buffer_callback, protocol)  # a child made by fork has it
    except REFUSALS as refused:
        raise refusal.explain(obj, refused, _INSTALL) from refusal.cause(refused)
