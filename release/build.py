"""Build the sdist and the wheels into `dist/`, and check them: `make wheels`.

A wheel is for one version of CPython, one libc and one processor. zig links it, so it runs with the
libc that its tag names, not only with this machine's. Each target needs the standard library of
Rust for it (`rustup target add TARGET`); a target without it is left out, and a line says so.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

from interpreters import VERSIONS, interpreters

ROOT = pathlib.Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
#: By target of Rust: the tag of its wheels' platform, without the processor.
TARGETS = {
    "x86_64-unknown-linux-gnu": "manylinux_2_17",
    "aarch64-unknown-linux-gnu": "manylinux_2_17",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}
#: Bytes. A larger wheel has debug information, or a copy of what it should not have.
LARGEST = 3_000_000


def run(*command: object, quiet: bool = False, **environment: str) -> str:
    """Run a command in the root of the checkout. Exit with its output if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout or ''}{' '.join(map(str, command[:4]))} ... failed")
    return done.stdout or ""


def has_standard_library(target: str) -> bool:
    """Return whether Rust's standard library for the target is here."""
    folder = run("rustc", "--print", "target-libdir", "--target", target, quiet=True).strip()
    return any(pathlib.Path(folder).glob("libstd-*.rlib"))


def build(target: str, pythons: list[str]) -> None:
    """Build the target's wheels. `pythons` are versions; a cross build needs no interpreter."""
    at_hand = interpreters()
    native = target == f"{os.uname().machine}-unknown-linux-gnu"
    chosen = [str(at_hand[version]) if native else f"python{version}" for version in pythons]
    command = ["maturin", "build", "--release", "--locked", "--zig", "--out", DIST]
    command += ["--target", target, "--compatibility", TARGETS[target], "--interpreter", *chosen]
    run(sys.executable, "-m", *command)


def check(wheel: pathlib.Path) -> None:
    """Check a wheel's tag against the symbols that it needs, its size, and what is in it."""
    told = run(sys.executable, "-m", "auditwheel", "show", wheel, quiet=True)
    tag = wheel.stem.rpartition("-")[2].rpartition(".")[2]
    if f'"{tag}"' not in told:
        sys.exit(f"{told}{wheel.name}: auditwheel does not confirm {tag}")
    size = wheel.stat().st_size
    if size > LARGEST:
        sys.exit(f"{wheel.name} has {size:,} bytes; at most {LARGEST:,} are allowed")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("procession/py.typed", "procession/__init__.pyi", "/procession_run.pth"):
        if not any(name.endswith(needed) for name in names):
            sys.exit(f"{wheel.name} lacks {needed}")
    print(f"{wheel.name}: {tag}, {size / 1e6:.1f} MB")


def build_sdist() -> pathlib.Path:
    """Make the sdist. `try_wheels.py --sdist` builds a wheel from it."""
    run(sys.executable, "-m", "maturin", "sdist", "--out", DIST)
    (made,) = DIST.glob("*.tar.gz")
    return made


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: all")
    parser.add_argument("--python", action="append", choices=VERSIONS, help="default: all at hand")
    parser.add_argument("--sdist-only", action="store_true")
    options = parser.parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    sdist = build_sdist()
    print(f"{sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB")
    for target in () if options.sdist_only else options.target or TARGETS:
        if not has_standard_library(target):
            print(f"{target}: left out, since Rust's standard library for it is not installed here")
            continue
        build(target, options.python or list(interpreters()))
    for wheel in sorted(DIST.glob("*.whl")):
        check(wheel)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()), quiet=True)
    print(f"{len(list(DIST.iterdir()))} files in {DIST.relative_to(ROOT)}; twine has no complaint")


if __name__ == "__main__":
    main()
