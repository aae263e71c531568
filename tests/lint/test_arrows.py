"""The arrows between the package's modules: the contracts in pyproject.toml hold, and are checked.

Each planted import is one that a contract forbids, in a copy of the package. Imports in functions
are listed with their reasons: those that go up in the contract, the others here.
"""

from __future__ import annotations

import ast
import collections
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINT = "from importlinter.cli import lint_imports_command as lint; lint()"

#: What is planted -> the file, the text at its end, and the contract that it breaks.
PLANTED = {
    "an arrow up": ("_threads.py", "from . import pool", "Each module"),
    "an arrow up in a function": (
        "process.py",
        "def planted():\n    from .managers import SyncManager",
        "Each module",
    ),
    "an arrow up by way of another sub-package": (
        "_pool/feed.py",
        "from .._executor import errors",
        "Each module",
    ),
    "a circle in a sub-package": ("_pool/errors.py", "from . import thread_core", "No two modules"),
    "an import of the package itself": ("_threads.py", "from . import get_context", "No module"),
    "a module on no floor": ("_planted.py", "", "_planted"),
}

#: Imports in functions that go down, and why they are not at the top of their modules.
LAZY = {
    "few programs stand in for multiprocessing": {
        "_cli -> _compat.install",
        "_compat.install -> _compat.loky",
        "_compat.install -> _compat.standin",
        "_compat.standin -> _pickling.parts",
        "forkserver -> _compat.install",
        "procession -> _compat.install",
        "spawn -> _compat.install",
    },
    "few calls show their progress": {
        "_executor.map -> _pool.progress",
        "_pool.results -> _pool.progress",
        "pool -> _pool.progress",
    },
    "few pools have seeds, limits of threads, queues of their own, or threads for workers": {
        "_pool.feed -> _pool.randomness",
        "_pool.options -> _pool.randomness",
        "_pool.worker -> _pool.worker_threads",
        "pool -> _pool.queued",
        "pool -> _pool.thread_core",
    },
    "typing and concurrent.futures are slow to load": {
        "pool -> _pool.stats",
        "procession -> _pool.stats",
        "procession -> _actor.face",
        "procession -> _executor.executor",
        "procession -> _executor.reusable",
        "procession -> _pool.current",
        "procession -> _share",
        "procession -> _shared_dict",
        "procession -> _shared_list",
        "procession -> _snapshot",
    },
    "subprocess is slow to load, and few programs are traced": {
        "_cli -> _trace",
        "_cli -> util",
        "procession -> _trace",
    },
    "json is slow to load, and a program may set up metrics long before it shares anything": {
        "otel -> _snapshot",
    },
    "logging is slow to load": {"context -> util", "spawn -> _logging", "util -> _logging"},
    "importing the package does not load the extension": {"process -> _stdio", "util -> _stdio"},
    "one process of a family starts the tracker, and few need it": {
        "_managers.memory -> resource_tracker",
        "_managers.memory -> shared_memory",
        "resource_tracker -> spawn",
        "shared_memory -> resource_tracker",
    },
    "few programs use the pool of dummy or of a manager": {"dummy -> pool", "managers -> pool"},
    "few programs read a queue's pipe": {"queues -> _pickling.queue_ends"},
    "few tests ask the plugin for something": {
        "pytest_plugin -> context",
        "pytest_plugin -> resource_tracker",
    },
    "it words an error": {"context -> _start.main_module"},
}


def imports_in_functions() -> set[str]:
    """Return the package's imports of its own modules in functions, as `importer -> imported`."""
    package = ROOT / "python" / "procession"
    modules = {
        path.relative_to(package).with_suffix("").as_posix().replace("/", "."): path
        for path in package.rglob("*.py")
    }
    found = set()
    for name, path in modules.items():
        parents = name.split(".")[:-1]
        importer = name.removesuffix("__init__").rstrip(".") or "procession"
        functions = [n for n in ast.walk(ast.parse(path.read_text())) if hasattr(n, "returns")]
        for node in (n for function in functions for n in ast.walk(function)):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = parents[: len(parents) - node.level + 1]
                base += node.module.split(".") if node.module else []
                whole = [".".join([*base, alias.name]) for alias in node.names]
                targets = [target for target in whole if target in modules] or [".".join(base)]
                found |= {f"{importer} -> {target}" for target in targets}
    return {arrow for arrow in found if not arrow.endswith(" _procession")}


def test_imports_in_functions_have_reasons():
    contracts = (ROOT / "pyproject.toml").read_text()
    up = set(re.findall(r'^    "procession\.(\S+ -> )procession\.(\S+)",$', contracts, re.M))
    assert imports_in_functions() == {"".join(pair) for pair in up}.union(*LAZY.values())


@pytest.fixture
def lint(tmp_path):
    """Return a function that runs the linter over a copy of the package, and the copy's folder."""
    pytest.importorskip("importlinter")
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    package = tmp_path / "procession"
    shutil.copytree(ROOT / "python" / "procession", package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def run() -> tuple[int, str]:
        command = [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, ''); {LINT}",
            "--no-cache",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        return done.returncode, done.stdout + done.stderr

    return run, package


def test_the_contracts_hold(lint):
    run, _ = lint
    code, told = run()
    assert code == 0, told
    assert "3 kept, 0 broken" in told


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_arrow_is_found(lint, planted):
    run, package = lint
    name, text, told = PLANTED[planted]
    with open(package / name, "a") as file:
        file.write(f"\n\n{text}\n")
    code, output = run()
    assert code == 1
    found = [line for line in output.splitlines() if line.startswith(told) and "BROKEN" in line]
    assert found or (not text and told in output), output


def test_modules_that_the_extension_names_exist():
    """The linter does not see these imports: Rust makes them, by the module's name."""
    sources = (ROOT / "crates" / "procession-python" / "src").rglob("*.rs")
    named = {
        name
        for source in sources
        for name in re.findall(r'"(procession\.[a-z_.]+)"', source.read_text())
    }
    assert len(named) > 3
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("crate", ["procession-core", "procession", "procession-python"])
def test_no_two_types_of_a_crate_share_a_name(crate):
    definition = re.compile(
        r"^\s*(?:pub(?:\(\w+\))? )?(?:struct|enum|union|trait) (\w+)", re.MULTILINE
    )
    names = collections.Counter(
        name
        for file in (ROOT / "crates" / crate / "src").rglob("*.rs")
        for name in definition.findall(file.read_text())
    )
    assert len(names) > 10
    assert [name for name, count in names.items() if count > 1] == []
