"""CPython's own multiprocessing tests, unmodified, run against procession.

They run from the interpreter's folder: `_test_multiprocessing`,
`test_multiprocessing_main_handling` and the process pools of `test_concurrent_futures`. Each test
class runs in its own process group and working folder with a time limit, so that one hang cannot
stop the rest. `skips.txt` names the tests that do not count, and why; `baseline.txt` has what the
standard library achieves. Exit code 0: every test that counts passed in every run.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import environment
import report

HERE = pathlib.Path(__file__).resolve().parent
GOOD = ("ok", "skip")


def skip_list(method: str | None = None) -> dict[str, str]:
    """Return pattern of test -> reason. A line that begins with a method in brackets is for it alone."""
    found = {}
    for line in (HERE / "skips.txt").read_text().splitlines():
        of, line = line[1:].split("]", 1) if line.startswith("[") else (None, line)
        if line and not line.startswith("#") and of in (None, method):
            pattern, reason = line.split(None, 1)
            found[pattern] = reason
    return found


def run_group(command: list[str], limit: float) -> tuple[int | None, str]:
    """Run a command in its own session.

    Return its exit code (None if it had to be stopped) and output.
    """
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryDirectory() as folder,
    ):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
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


def run_class(command: list[str], tests: list[str], limit: float) -> tuple[dict[str, str], str]:
    """Run tests of one class; return the status of each, and their output.

    After a hang or a crash the remaining tests run in a new process.
    """
    statuses: dict[str, str] = {}
    text = ""
    while left := [test for test in tests if test not in statuses]:
        with tempfile.NamedTemporaryFile("r") as results:
            code, output = run_group([*command, results.name, str(max(limit - 5, 1)), *left], limit)
            events = [line.rstrip("\n").split("\t") for line in results]
        text += output
        running = None
        for test, status in events:
            if status == "started":
                running = test
                statuses[test] = "crash" if code is not None else "hang"
            elif test == "*":  # the class as a whole
                statuses.update((name, status) for name in left if name not in statuses)
            elif statuses.get(test) != "fail":
                statuses[test] = status
        if running is None and not events:
            statuses.update((test, "crash" if code is not None else "hang") for test in left)
    return statuses, text


def run_method(
    python: str, method: str, args: argparse.Namespace
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Run the requested tests of one start method.

    Return {suite: {test: status}}, and the suites that do not exist.
    """
    command = [python, "-m", "cases"]
    listing = subprocess.run([*command, "list", method], stdout=subprocess.PIPE, text=True)
    if listing.returncode:
        raise SystemExit("the interpreter cannot list its tests")
    skips = skip_list(method)
    statuses: dict[str, dict[str, str]] = {}
    work = []
    missing = []
    for suite, classes in json.loads(listing.stdout).items():
        if args.suite and suite not in args.suite:
            continue
        if not classes:
            missing.append(suite)
        statuses[suite] = {}
        for name, tests in classes.items():
            names = [f"{name}.{test}" for test in tests]
            names = [test for test in names if fnmatch.fnmatch(test, args.pattern)]
            excused = {test for test in names for glob in skips if fnmatch.fnmatch(test, glob)}
            if not args.standard and not args.all:
                statuses[suite].update(dict.fromkeys(excused, "excused"))
                names = [test for test in names if test not in excused]
            if names:
                work.append((suite, name, [test.partition(".")[2] for test in names]))

    def one(suite: str, name: str, tests: list[str]) -> None:
        found, output = run_class([*command, "run", method, suite, name], tests, args.limit)
        bad = [f"{name}.{test}" for test, status in found.items() if status not in GOOD]
        statuses[suite].update((f"{name}.{test}", status) for test, status in found.items())
        for test in bad:
            print(f"{method:<12}{test}: {statuses[suite][test]}", flush=True)
        if args.verbose and bad:
            print(output, flush=True)

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for done in [pool.submit(one, *item) for item in work]:
            done.result()
    return statuses, missing


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter whose suite to run")
    methods = (*environment.METHODS, *environment.ON_REQUEST)
    parser.add_argument("--method", action="append", choices=methods)
    parser.add_argument(
        "--loopback", action="store_true", help="'ray' without Ray, on two nodes of this machine"
    )
    parser.add_argument("--suite", action="append", choices=report.SUITES)
    parser.add_argument("--pattern", default="*", help="which tests, e.g. 'With*Queue.test_[pg]*'")
    parser.add_argument("--repeat", type=int, default=1, help="runs, each of which must pass")
    parser.add_argument("--jobs", type=int, default=1, help="test classes at the same time")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a class may take")
    parser.add_argument("--all", action="store_true", help="also what skips.txt excuses")
    parser.add_argument("--standard", action="store_true", help="test the standard library instead")
    parser.add_argument("--verbose", action="store_true", help="print the output of failures")
    parser.add_argument(
        "--report",
        action="store_true",
        help="write docs/compatibility.md from all full runs so far",
    )
    args = parser.parse_args()

    if args.loopback:
        os.environ[environment.LOOPBACK] = "1"
    elif "ray" in (args.method or ()) and "RAY_ADDRESS" not in os.environ:
        # Once more, on the first of three hosts.
        command = [sys.executable, str(HERE / "run.py"), *sys.argv[1:]]
        hosts = [sys.executable, "-m", "tests.cluster.hosts", *command]
        folder = environment.ROOT / ".build" / f"ray-{sys.version_info[0]}.{sys.version_info[1]}"
        path = {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        return subprocess.run(hosts, cwd=environment.ROOT, env=os.environ | path).returncode

    python = environment.prepare(args.python, args.standard)
    version = environment.ask(python, "platform.python_version()")
    complete = args.pattern == "*" and not (args.suite or args.all)
    results = []
    for method in args.method or environment.METHODS:
        start = time.monotonic()
        runs: dict[str, dict[str, list[str]]] = {}
        missing: list[str] = []
        for _ in range(args.repeat):
            found, missing = run_method(python, method, args)
            for suite, statuses in found.items():
                for test, status in statuses.items():
                    runs.setdefault(suite, {}).setdefault(test, []).append(status)
        result = report.Result(version, method, runs, missing, time.monotonic() - start)
        results.append(result)
        if complete and not args.standard:
            result.save()
    report.print_table(results, complete)
    if args.report:
        report.write(skip_list())
    return any(result.bad() for result in results)


if __name__ == "__main__":
    sys.exit(main())
