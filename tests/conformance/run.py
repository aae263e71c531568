"""CPython's own multiprocessing tests, run from the interpreter's folder against procession.

A virtual environment of its own carries a ``.pth`` file that puts procession under the name
``multiprocessing`` before anything else is imported; that reaches children started with ``-E`` and ``-I`` too.
Each test class runs in a process group of its own with a time limit, so that one hang cannot stop the rest.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CASES = """\
from test._test_multiprocessing import install_tests_in_module_dict
install_tests_in_module_dict(globals(), {method!r})
"""


def environment(python: str, standin: bool) -> str:
    """Make (once) the virtual environment, and return its interpreter."""
    out = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_python_version())"],
        capture_output=True,
        text=True,
        check=True,
    )
    version = out.stdout.strip()
    name = f"conformance-{version}" + ("" if standin else "-standard")
    venv = ROOT / ".build" / name
    site = venv / "lib" / f"python{version}" / "site-packages"
    if not site.exists():
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    cases = venv / "cases"
    cases.mkdir(exist_ok=True)
    for method in ("fork", "spawn", "forkserver"):
        (cases / f"conformance_{method}.py").write_text(CASES.format(method=method))
    lines = [str(cases), str(HERE)]
    if standin:
        lines += [str(ROOT / "python"), "import procession; procession.install()"]
    (site / "conformance.pth").write_text("\n".join(lines) + "\n")
    return str(venv / "bin" / "python")


def run_group(command: list[str], limit: float) -> tuple[int | None, str]:
    """Run ``command`` in its own session; its exit code (None when it had to be stopped) and output."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        output.seek(0)
        return code, output.read()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="interpreter whose suite to run")
    parser.add_argument("--method", action="append", choices=["fork", "spawn", "forkserver"])
    parser.add_argument("--pattern", default="*", help="test ids, e.g. '*Queue*'")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a class")
    parser.add_argument("--standard", action="store_true", help="run the standard library instead")
    parser.add_argument("--verbose", action="store_true", help="print the output of failures")
    args = parser.parse_args()

    python = environment(args.python, not args.standard)
    totals: dict[str, collections.Counter[str]] = {}
    bad: list[str] = []
    for method in args.method or ["fork", "spawn", "forkserver"]:
        totals[method] = collections.Counter()
        listing = subprocess.run(
            [python, "-m", "cases", "list", method], capture_output=True, text=True, check=False
        )
        if listing.returncode:
            print(listing.stderr)
            return 2
        for name, tests in json.loads(listing.stdout).items():
            wanted = [t for t in tests if fnmatch.fnmatch(f"{name}.{t}", args.pattern)]
            if not wanted:
                continue
            code, output = run_group(
                [python, "-m", "cases", "run", method, name, *wanted], args.limit
            )
            seen = dict(
                line.split("\t")[1:3] for line in output.splitlines() if line.startswith("RESULT\t")
            )
            for test in wanted:
                status = seen.get(test, "hang" if code is None else "no result")
                totals[method][status] += 1
                if status not in ("ok", "skip"):
                    bad.append(f"{method} {name}.{test}: {status}")
                    print(bad[-1], flush=True)
            if args.verbose and any(seen.get(t) not in ("ok", "skip") for t in wanted):
                print(output)
    print(f"\n{'method':<12}{'ok':>6}{'skip':>6}{'fail':>6}{'hang':>6}{'no result':>11}")
    for method, count in totals.items():
        print(
            f"{method:<12}{count['ok']:>6}{count['skip']:>6}{count['fail']:>6}"
            f"{count['hang']:>6}{count['no result']:>11}"
        )
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
