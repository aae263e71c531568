"""Check that the engine's rooms and files depend on each other in one direction only.

    python tests/lint/rust_arrows.py [SOURCE [PAGE]]

A room is a folder or a file below ``crates/procession-core/src``. The floors of the rooms are listed
in ARCHITECTURE.md, under "Floors", from the top down. A file may name (``use`` or a path in the code)
what lies in its own room or on a lower floor. No files of one room may name each other in a circle.
Test code is not checked. A method is found by its type alone, so a file that only calls methods that
another file adds to a shared type does not name that file.

Prints every arrow that runs up or sideways, and a circle of each room that has any. The exit code
is 1 if there is one.
"""

from __future__ import annotations

import graphlib
import pathlib
import re
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "crates/procession-core/src"
PAGE = ROOT / "ARCHITECTURE.md"

#: Arrows that run up all the same: from, to, and the reason.
ALLOWED = {
    ("hooks", "wiring"): "binds the questions of lower rooms to their answers, as a constant"
}

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
_PATH = re.compile(r"\b((?:crate|super)(?:::\w+)+)")
_ITEM = re.compile(
    r"\b(?:struct|enum|union|trait|type|fn|const|static|mod|macro_rules!)\s+(?:mut\s+)?(\w+)"
)


def floors(page: str) -> dict[str, int]:
    """Return the floor of each room, from the list on the page."""
    listed = re.search(r"^### Floors$.*?((?:^    [^\n]*\n)+)", page, re.MULTILINE | re.DOTALL)
    if listed is None:
        raise SystemExit("the page has no list of floors")
    rows = [
        line.split("  ")[0]
        for line in listed[1].strip("\n").replace("\n    ", "\n").strip().split("\n")
    ]
    return {room.strip(): -row for row, rooms in enumerate(rows) for room in rooms.split(",")}


def code_of(text: str) -> str:
    """Return a file's code without comments, strings and unit tests."""
    text = _STRING.sub('""', _COMMENT.sub("", text))
    tests = re.search(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)
    text = text[: tests.start()] if tests else text
    return re.sub(r"#\[cfg\(test\)\]\s*(pub(\([^)]*\))?\s+)?(use|mod)[^;]*;", "", text)


def leaves(tree: str) -> Iterator[tuple[str, str]]:
    """Yield path and local name of each item of a ``use`` tree."""
    tree = tree.strip()
    if "{" not in tree:
        path, _, name = tree.partition(" as ")
        yield path.strip(), (name or path.rpartition("::")[2]).strip()
        return
    head, _, rest = tree.partition("{")
    depth, part = 0, ""
    for char in rest[: rest.rindex("}")] + ",":
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            if part.strip():
                for path, name in leaves(part):
                    path, own = (
                        (head.strip().rstrip(":"), name)
                        if path == "self"
                        else (head.strip() + path, name)
                    )
                    yield path, own if path.rpartition("::")[2] else name
            part = ""
        else:
            part += char


class Crate:
    """The files of the crate, and which names each of them defines and passes on."""

    def __init__(self, source: pathlib.Path) -> None:
        self.files: dict[tuple[str, ...], str] = {}
        for file in sorted(source.rglob("*.rs")):
            parts = file.relative_to(source).with_suffix("").parts
            if "tests" not in parts:
                module = () if parts == ("lib",) else parts[:-1] if parts[-1] == "mod" else parts
                self.files[module] = code_of(file.read_text())
        self.passed_on = {
            module: {name: path for _, tree in _USE.findall(code) for path, name in leaves(tree)}
            for module, code in self.files.items()
        }

    def resolve(self, module: tuple[str, ...], path: str, depth: int = 0) -> tuple[str, ...] | None:
        """Return the file in which what a path names is defined. None: it is not of this crate."""
        head, *rest = path.split("::")
        if head == "crate":
            at: tuple[str, ...] = ()
        elif head == "super":
            at = module[:-1]
        elif head == "self":
            at = module
        elif (*module, head) in self.files:
            at, rest = module, [head, *rest]
        else:
            return None
        for number, name in enumerate(rest):
            if name == "super":
                at = at[:-1]
            elif (*at, name) in self.files:
                at = (*at, name)
            else:
                passed = self.passed_on.get(at, {}).get(name)
                if (
                    passed is not None
                    and depth < 8
                    and not re.search(
                        rf"\b(struct|enum|fn|trait|type|const|static)\s+{name}\b", self.files[at]
                    )
                ):
                    further = "::".join([passed, *rest[number + 1 :]])
                    return self.resolve(at, further, depth + 1) or at
                return at
        return at

    def arrows(self) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
        """Return for each file the files that it names."""
        found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for module, code in self.files.items():
            paths = []
            for passed, tree in _USE.findall(code):
                # What a room's face passes on is not its own need.
                if not passed:
                    paths += [path for path, _ in leaves(tree)]
            body = _USE.sub("", code)
            paths += _PATH.findall(body)
            local = self.passed_on[module]
            paths += [
                local[name]
                for name in re.findall(r"\b(\w+)::", body)
                if name in local and not local[name].startswith("std")
            ]
            targets = (self.resolve(module, path) for path in paths)
            found[module] = {
                target
                for target in targets
                if target is not None and target != module and target != ()
            }
        return found


def circle(arrows: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[str]:
    """Return the files of a circle in the order in which they name each other, or nothing."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return ["/".join(module) for module in error.args[1]]
    return []


def check(source: pathlib.Path, page: str) -> list[str]:
    """Return what is wrong, a line each."""
    floor = floors(page)
    arrows = Crate(source).arrows()
    wrong = []
    for module in arrows:
        if module and module[0] not in floor:
            wrong.append(f"the room `{module[0]}` has no floor in the list")
    for module, targets in sorted(arrows.items()):
        if not module:
            continue
        for target in sorted(targets):
            here, there = floor.get(module[0]), floor.get(target[0])
            if ("/".join(module), "/".join(target)) in ALLOWED:
                continue
            if module[0] != target[0] and here is not None and there is not None and here <= there:
                wrong.append(f"{'/'.join(module)} names {'/'.join(target)}, which is not below it")
    for room in sorted({module[0] for module in arrows if module}):
        inside = {
            m: {t for t in targets if t[0] == room}
            for m, targets in arrows.items()
            if m and m[0] == room
        }
        if names := circle(inside):
            wrong.append(f"these name each other in a circle: {', '.join(names)}")
    return wrong


def main() -> int:
    source = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    page = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else PAGE
    wrong = check(source, page.read_text())
    print("\n".join(wrong) or "all arrows of the engine run down")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
