"""Compare the functions of `procession` with those of the standard library, body by body.

The text of this package is its own, and this keeps it so: it fails if the body of a function is
too much like one in the running interpreter's `multiprocessing` or `concurrent.futures`.

A body counts if it has six lines of code or more, as `ast.unparse` writes it or as the file has it.
It is compared without layout, comments, docstrings and annotations, and its arguments and local
names are all called `_`. What is left is a sequence of tokens, and two bodies are as alike as
`difflib.SequenceMatcher.ratio` finds their sequences. Tokens are finer than lines: one changed word
in each line does not hide a copy. Names are not numbered by appearance, because one more local name
at the top would then change all below it. Attributes keep their names: without them all constructors
that store their arguments are alike. Bodies of six lines that call the same interface reach 70 %
without being copies, thus the limit is above that.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import io
import pathlib
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "python" / "procession"
STANDARD = ("multiprocessing", "concurrent.futures")
LINES = 6
LIMIT = 0.75

# `file:function` -> a sentence that says why its likeness is not a copy.
ALLOWED: dict[str, str] = {}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LAYOUT = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


class Body(NamedTuple):
    """A function's body: where it is, and its normalised tokens."""

    place: str
    tokens: list[str]


class Normaliser(ast.NodeTransformer):
    """Replaces all local names by `_`, and removes docstrings and annotations."""

    def __init__(self, function: ast.AST):
        nodes = list(ast.walk(function))
        shared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
        self.own = {
            *(node.arg for node in nodes if isinstance(node, ast.arg)),
            *(n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)),
            *(n.name for n in nodes if isinstance(n, (*FUNCTIONS, ast.ExceptHandler)) and n.name),
        } - shared

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.own:
            node.id = "_"
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg, node.annotation = "_", None
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = node.name and "_"
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        plain = ast.copy_location(ast.Assign([node.target], node.value), node)
        return self.generic_visit(plain)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name, node.returns = "_", None
        node.body = without_docstring(node.body)
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return rest or [ast.copy_location(ast.Pass(), body[0])]
    return body


def tokens_of(text: str) -> list[tokenize.TokenInfo]:
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token for token in found if token.type not in LAYOUT]


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the qualified name of each function below a node, and the function."""
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            name = f"{prefix}{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield name, child
            name += "."
        yield from functions(child, name)


def bodies(root: pathlib.Path) -> Iterator[Body]:
    """Yield the bodies of all functions below a folder that are long enough to compare."""
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        rows = {token.start[0] for token in tokens_of(text)}
        for name, function in functions(ast.parse(text)):
            body = without_docstring(function.body)
            written = rows.intersection(range(body[0].lineno, function.end_lineno + 1))
            if max(len(written), len(ast.unparse(body).splitlines())) >= LINES:
                # A copy: functions inside this one are compared on their own, too.
                normalised = Normaliser(function).visit(copy.deepcopy(function))
                tokens = [token.string for token in tokens_of(ast.unparse(normalised.body))]
                yield Body(f"{path.relative_to(root)}:{name}", tokens)


def standard_bodies() -> Iterator[Body]:
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    for package in STANDARD:
        for place, tokens in bodies(library.joinpath(*package.split("."))):
            file, name = place.split(":")
            module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            yield Body(f"{package}.{module}.{name}", tokens)


def most_like(body: Body, others: list[Body], limit: float) -> tuple[float, str]:
    """Return the greatest ratio from the limit on, and the function that has it; or 0 and ""."""
    best = (0.0, "")
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(body.tokens)
    for other in others:
        matcher.set_seq1(other.tokens)
        least = max(limit, best[0])
        bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
        if all(ratio() >= least for ratio in bounds):
            best = max(best, (matcher.ratio(), other.place))
    return best


def main(root: pathlib.Path, limit: float = LIMIT) -> int:
    """Print the functions below a folder that are too much like a standard one; return 1 if any."""
    others = list(standard_bodies())
    found = {body.place: most_like(body, others, limit) for body in bodies(root)}
    alike = {place: match for place, match in found.items() if match[0]}
    for place, (ratio, other) in sorted(alike.items(), key=lambda item: -item[1][0]):
        if place not in ALLOWED:
            print(f"{place} {ratio:.0%} like {other}")
    return int(bool(alike.keys() - ALLOWED.keys()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=PACKAGE)
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help="ratio from which bodies are alike"
    )
    arguments = parser.parse_args()
    sys.exit(main(arguments.folder, arguments.limit))
