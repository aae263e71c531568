"""The arrows between the package's modules: the contracts in pyproject.toml hold, and are checked.

Each planted import is one that a contract forbids, in a copy of the package.
"""

from __future__ import annotations

import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
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


@pytest.fixture
def lint(tmp_path):
    """Return a function that runs the linter over a copy of the package, and the copy's folder."""
    pytest.importorskip("importlinter")
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    package = tmp_path / "procession"
    shutil.copytree(ROOT / "python" / "procession", package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def run() -> tuple[int, str]:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, ''); {LINT}", "--no-cache"]
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
