"""Pickles by which keys are compared: equal keys have equal pickles, as far as that can be.

A pickle refers to a part that occurred before by a number, so it depends on which equal parts are
the same object: keys are pickled without that. And it names the main module's classes by the name
of the module, which is `__mp_main__` in children that import it: keys name `__main__`.
"""

from __future__ import annotations

import io
import operator
import pickle
import sys
import types
from typing import Any

from .. import reduction
from .receivers import MAIN

__all__ = ["pickle_key"]

#: The protocol of all processes of a family, so that it is part of what is compared.
_PROTOCOL = 4


def pickle_key(key: Any) -> bytes:
    """Return the pickle of a key."""
    file = io.BytesIO()
    pickler = _Pickler(file, _PROTOCOL)
    pickler.fast = True
    pickler.dispatch_table = reduction.dispatch_table()
    pickler.dump(key)
    return file.getvalue()


def find(module: str, name: str) -> Any:
    """Return what a module that is imported has under a qualified name."""
    return operator.attrgetter(name)(sys.modules[module])


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, types.FunctionType)) and obj.__module__ in MAIN:
            try:
                found = find("__main__", obj.__qualname__)
            except (AttributeError, KeyError):
                return NotImplemented
            if found is obj:
                return find, ("__main__", obj.__qualname__)
        return NotImplemented
