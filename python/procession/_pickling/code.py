"""The global variables that a function uses, read off its compiled code."""

from __future__ import annotations

import dis
import functools
import types

__all__: list[str] = []

#: LOAD_NAME counts: the body of a class inside a function loads global variables by it.
_OPERATIONS = {
    "LOAD_GLOBAL",
    "STORE_GLOBAL",
    "DELETE_GLOBAL",
    "LOAD_NAME",
    "LOAD_FROM_DICT_OR_GLOBALS",
}


@functools.lru_cache(maxsize=1024)
def globals_of(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of the global variables used by a function and the definitions in it."""
    names = {
        instruction.argval: None
        for instruction in dis.get_instructions(code)
        if instruction.opname in _OPERATIONS
    }
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names.update(dict.fromkeys(globals_of(const)))
    return tuple(names)
