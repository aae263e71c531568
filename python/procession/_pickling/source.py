"""What importing the main module binds, read off its parsed source.

A child of spawn or forkserver runs the main module under the name ``__mp_main__``. It does not run
statements below an ``if`` that is false under that name. It runs all others, also those below
``if``, ``for``, ``with`` and ``try``, and these are assumed to have the same outcome as here.

A name that no statement binds was bound by a call that was given the module's namespace, as in
``install(globals())``. Importing the module makes that call again if the call stands in code that
an import runs. The call counts as unknown if code that only the program runs can bind names in this
way too, or if text is executed, which may have a guard of its own.
"""

from __future__ import annotations

import ast
import dis
import symtable
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

__all__: list[str] = []

_IMPORTED = "__mp_main__"
_CO_NEWLOCALS = 2


class Source(NamedTuple):
    """What a main module's source says."""

    #: The names that importing the module binds.
    names: frozenset[str]
    #: The names that only the program itself binds or rebinds: below the guard, and by functions
    #: that declare them global.
    rebound: frozenset[str]
    #: The code of the functions and methods that importing it defines, by qualified name.
    codes: dict[str, list[types.CodeType]]
    #: Whether importing the module binds the names that no statement binds.
    binds_by_call: bool
    #: The modules that it imports all names from, as written, with the number of leading dots.
    stars: list[tuple[str, int]]


def read(text: bytes | str, path: str) -> Source:
    """Analyse a main module. Raises SyntaxError or ValueError if it cannot be parsed."""
    whole = ast.parse(text, path)
    pruned = _Pruner()
    reach = _Reach(whole)
    imported = pruned.visit(whole)
    here, below = reach(imported.body), reach(pruned.left_out)
    binds_by_call = bool(here) and not here & _EXECUTED and not below
    ast.fix_missing_locations(imported)
    code = compile(imported, path, "exec", dont_inherit=True)
    codes: dict[str, list[types.CodeType]] = {}
    _collect(code, "", codes)
    table = symtable.symtable(ast.unparse(imported), path, "exec")
    left_out = ast.Module(pruned.left_out, [])
    own = symtable.symtable(ast.unparse(left_out), path, "exec")
    own_code = compile(left_out, path, "exec", dont_inherit=True)
    rebound = {*_bound(own_code), *_declared_global(own), *_declared_global(table)}
    stars = [
        (node.module or "", node.level)
        for node in ast.walk(imported)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    return Source(frozenset(_bound(code)), frozenset(rebound), codes, binds_by_call, stars)


class _Pruner(ast.NodeTransformer):
    """Removes from a module what a process that imports it does not run."""

    def __init__(self) -> None:
        self.left_out: list[ast.stmt] = []

    def visit_If(self, node: ast.If) -> Any:
        truth = _truth(node.test)
        if truth is None:
            return self.generic_visit(node)
        kept, dropped = (node.body, node.orelse) if truth else (node.orelse, node.body)
        self.left_out += dropped
        # The test itself may bind a name.
        rest: list[ast.stmt] = [ast.Expr(node.test)]
        for statement in kept:
            seen = self.visit(statement)
            rest += seen if isinstance(seen, list) else [seen]
        return [ast.copy_location(rest[0], node), *rest[1:]]

    def visit_FunctionDef(self, node: Any) -> Any:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef


#: Names by which code gets hold of its module's namespace: functions (`vars` and `locals` only if
#: called without arguments) and attributes.
_NAMESPACES = {"globals", "__main__"}
_EXECUTED = {"exec", "eval"}
_OWN_NAMESPACES = {"locals", "vars"}
_NAMESPACE_ATTRIBUTES = {"modules", "f_globals", "f_locals"}


class _Reach:
    """Finds how statements reach the module's namespace, directly or through what they use."""

    def __init__(self, module: ast.Module) -> None:
        #: What calling the functions of a name may run. The methods of a class also count under the
        #: class's name.
        self._bodies: dict[str, list[ast.AST]] = {}
        for node in ast.walk(module):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._bodies.setdefault(node.name, []).extend(node.body)
            elif isinstance(node, ast.ClassDef):
                methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
                bodies = [statement for method in methods for statement in method.body]
                self._bodies.setdefault(node.name, []).extend(bodies)

    def __call__(self, statements: Iterable[ast.AST]) -> set[str]:
        found: set[str] = set()
        todo = list(statements)
        seen: set[str] = set()
        while todo:
            node = todo.pop()
            found.update(_namespaces(node))
            name = getattr(node, "id", getattr(node, "attr", None))
            if isinstance(name, str) and name not in seen:
                seen.add(name)
                todo += self._bodies.get(name, [])
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                todo += [*node.decorator_list, node.args]  # its body runs when it is called
            else:
                todo += ast.iter_child_nodes(node)
        return found


def _namespaces(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        if node.func.id in _OWN_NAMESPACES:
            yield node.func.id
    elif isinstance(node, ast.Name) and node.id in _NAMESPACES | _EXECUTED:
        yield node.id
    elif isinstance(node, ast.Attribute) and node.attr in _NAMESPACE_ATTRIBUTES:
        yield node.attr
    elif isinstance(node, ast.Import) and any(name.name == "__main__" for name in node.names):
        yield "__main__"


def _truth(test: ast.expr) -> bool | None:
    """Return the truth of a condition in a process that imports the module.

    None if it is not known.
    """
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        truth = _truth(test.operand)
        return None if truth is None else not truth
    if isinstance(test, ast.BoolOp):
        truths = [_truth(value) for value in test.values]
        decides = isinstance(test.op, ast.Or)
        if decides in truths:
            return decides
        return None if None in truths else not decides
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right = _value(test.left), _value(test.comparators[0])
        if left is None or right is None or _IMPORTED not in (left, right):
            return None
        return _compared(test.ops[0], left, right)
    return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id == "__name__":
        return _IMPORTED
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None


def _compared(op: ast.cmpop, left: Any, right: Any) -> bool | None:
    if isinstance(op, (ast.Eq, ast.Is)):
        return bool(left == right)
    if isinstance(op, (ast.NotEq, ast.IsNot)):
        return bool(left != right)
    try:
        if isinstance(op, ast.In):
            return bool(left in right)
        if isinstance(op, ast.NotIn):
            return bool(left not in right)
    except TypeError:
        pass
    return None


def _bound(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a module's code binds.

    The symbol table would also have the variables of inlined comprehensions.
    """
    for instruction in dis.get_instructions(code):
        stores = instruction.opname in ("STORE_NAME", "STORE_GLOBAL")
        if stores and instruction.argval != "__doc__":
            yield instruction.argval


def _declared_global(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the names that functions and classes inside bind in the module."""
    for child in table.get_children():
        for symbol in child.get_symbols():
            if symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                yield symbol.get_name()
        yield from _declared_global(child)


def _collect(code: types.CodeType, prefix: str, codes: dict[str, list[types.CodeType]]) -> None:
    """Collect the code of the functions at the top level and in classes, by qualified name."""
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            name = prefix + const.co_name
            if const.co_name.startswith("<generic parameters of "):
                _collect(const, prefix, codes)
            elif const.co_name.startswith("<"):
                continue
            elif const.co_flags & _CO_NEWLOCALS:  # a function, not a class
                codes.setdefault(name, []).append(const)
            else:
                _collect(const, name + ".", codes)
