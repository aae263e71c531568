"""Fuzz the targets one after the other and print the results.

`make fuzz` runs it, or `make fuzz FUZZ_ARGS="arena --seconds 600"`. Inputs that reach new code
collect in `corpus/TARGET`, and those that fail in `artifacts/TARGET`; the repository keeps
`seeds/TARGET`.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
TARGETS = ["arena", "handles", "requests", "framing", "payload"]
IN_PYTHON = ["framing", "payload"]


def command(target: str) -> list[str]:
    """Return the command that runs the target, up to its folders of inputs."""
    if target in IN_PYTHON:
        if subprocess.run([sys.executable, "-c", "import atheris"], capture_output=True).returncode:
            sys.exit(f"{target} needs atheris, which {sys.executable} lacks: pip install atheris")
        return [sys.executable, str(HERE / f"{target}.py")]
    cargo = os.environ.get("CARGO", "cargo")
    if subprocess.run([cargo, "fuzz", "--version"], capture_output=True).returncode:
        sys.exit(f"{target} needs cargo-fuzz: cargo install --locked cargo-fuzz")
    if not shutil.which(os.environ.get("CXX", "c++")):
        sys.exit(f"{target} needs a C++ compiler, of which libFuzzer is made")
    # Without a sanitizer: sanitizers do not know the arena's memory, and they slow the fork of each
    # input.
    return [cargo, "fuzz", "run", "--fuzz-dir", str(HERE), "--sanitizer", "none", target]


def fuzz(target: str, seconds: int) -> bool:
    start = command(target)
    folders = [HERE / kind / target for kind in ("corpus", "seeds")]
    artifacts = HERE / "artifacts" / target
    for folder in (folders[0], artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-max_len=2048", "-timeout=120", "-detect_leaks=0"]
    options += ["-rss_limit_mb=0", "-print_final_stats=1", f"-artifact_prefix={artifacts}/"]
    begin = time.monotonic()
    run = subprocess.run(
        [*start, *map(str, folders), *(["--"] if target not in IN_PYTHON else []), *options],
        # Stable compilers accept a fuzzer's options only with this variable.
        env={**os.environ, "RUSTC_BOOTSTRAP": "1"},
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    log = artifacts.with_suffix(".log")
    log.write_text(run.stderr)
    covered = re.findall(r"cov: (\d+)", run.stderr)
    done = re.findall(r"^stat::number_of_executed_units: (\d+)", run.stderr, re.M)
    done = done or re.findall(r"^#(\d+)", run.stderr, re.M) or ["0"]
    inputs = sum(1 for _ in folders[0].iterdir())
    result = "no failure" if run.returncode == 0 else f"FAILED, see {log}"
    print(
        f"{target:8} {time.monotonic() - begin:6.0f} s {done[-1]:>9} executions "
        f"{covered[-1] if covered else 0:>6} places covered {inputs:>5} inputs   {result}",
        flush=True,
    )
    return run.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the engine and the connections.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default"
    )
    parser.add_argument(
        "--seconds", type=int, default=60, help="for each target (%(default)s), besides its build"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(unknown)}")
    results = [fuzz(target, arguments.seconds) for target in arguments.targets or TARGETS]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
