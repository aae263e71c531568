"""Make the suite's interpreter: a virtual environment where ``multiprocessing`` is procession.

A ``.pth`` file in it does that before anything else is imported. So it also reaches children
started with ``-E`` and ``-I``, where an environment variable does not. The extension is built for
the interpreter unless one exists that is newer than its sources.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
METHODS = ("fork", "spawn", "forkserver")
#: Methods that are only run when asked for: "ray" takes three hosts (`tests/cluster/hosts.py`).
ON_REQUEST = ("ray",)
#: The variable that has `cases` make nodes of this machine (`tests/cluster/loopback.py`) for "ray".
LOOPBACK = "PROCESSION_CONFORMANCE_LOOPBACK"
CASES = """\
from test._test_multiprocessing import install_tests_in_module_dict
install_tests_in_module_dict(globals(), {method!r})
"""


def ask(python: str | pathlib.Path, expression: str) -> str:
    """Return the value of an expression in that interpreter."""
    command = [str(python), "-c", f"import sys, sysconfig, platform; print({expression})"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write(path: pathlib.Path, text: str) -> None:
    """Write a file, unless it is right already: another run may be reading it."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def build(python: str) -> None:
    """Build the extension for an interpreter, into the package's folder."""
    package = ROOT / "python" / "procession"
    extension = package / ("_procession" + ask(python, "sysconfig.get_config_var('EXT_SUFFIX')"))
    sources = [
        *ROOT.glob("Cargo.*"),
        *ROOT.glob("crates/**/*.rs"),
        *ROOT.glob("crates/*/Cargo.toml"),
    ]
    if extension.exists() and extension.stat().st_mtime > max(s.stat().st_mtime for s in sources):
        return
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    target /= "py" + ask(python, "sysconfig.get_python_version()")
    print(f"building {extension.name}", flush=True)
    subprocess.run(
        ["cargo", "build", "--release", "--quiet", "-p", "procession-python"],
        cwd=ROOT,
        env=os.environ | {"PYO3_PYTHON": python, "CARGO_TARGET_DIR": str(target)},
        check=True,
    )
    # A new file in place of the old one, which a process may have mapped.
    fresh = extension.with_suffix(".new")
    shutil.copy(target / "release" / "lib_procession.so", fresh)
    fresh.replace(extension)


def prepare(python: str, standard: bool) -> str:
    """Make the virtual environment, once, and return its interpreter.

    `standard`: without procession.
    """
    python = shutil.which(python) or python
    version = ask(python, "sysconfig.get_python_version()")
    venv = ROOT / ".build" / f"conformance-{version}{'-standard' if standard else ''}"
    site = venv / "lib" / f"python{version}" / "site-packages"
    if not site.exists():
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    for method in (*METHODS, *ON_REQUEST):
        write(site / f"conformance_{method}.py", CASES.format(method=method))
    lines = [str(HERE)]
    if not standard:
        build(python)
        lines += [str(ROOT / "python"), "import procession; procession.install()"]
        pickler = importlib.util.find_spec("cloudpickle")
        if pickler is None or pickler.origin is None:
            print("cloudpickle is not installed here: the suite runs without it")
        elif not (site / "cloudpickle").exists():
            link = site / "cloudpickle"
            # That of an earlier run leads nowhere if an environment was removed.
            link.unlink(missing_ok=True)
            link.symlink_to(pathlib.Path(pickler.origin).parent)
        # Here, because some tests start interpreters that ignore PYTHONPATH.
        lines += [str(folder) for folder in [ROOT / ".build" / f"ray-{version}"] if folder.exists()]
    write(site / "conformance.pth", "\n".join(lines) + "\n")
    return str(venv / "bin" / "python")
