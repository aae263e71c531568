"""List or run the cases of one start method; `run.py` calls this in the conformance environment.

    python -m cases list METHOD                          {suite: {class: [tests]}} as JSON
    python -m cases run METHOD SUITE CLASS RESULTS TEST...   a line for each event in the file RESULTS

All of the tests are CPython's own code, found where the interpreter has it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.util
import json
import os
import pkgutil
import signal
import sys
import threading
import unittest
from collections.abc import Iterator

import environment

FUTURES = "test.test_concurrent_futures"


def modules(suite: str, method: str) -> list[str]:
    """Return the modules that hold the suite's classes; [] if this interpreter lacks the suite."""
    if suite == "multiprocessing":
        return [f"conformance_{method}"]
    if suite == "main_handling":
        return ["test.test_multiprocessing_main_handling"]
    try:
        spec = importlib.util.find_spec(FUTURES)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        return []
    if spec.submodule_search_locations is None:  # one file until 3.11
        return [FUTURES]
    parts = pkgutil.iter_modules(spec.submodule_search_locations)
    return [f"{FUTURES}.{part.name}" for part in parts if part.name.startswith("test_")]


def tests(suite: str, method: str, cls: type[unittest.TestCase]) -> list[str]:
    """Return the names of the class's tests that belong to the start method."""
    names = unittest.defaultTestLoader.getTestCaseNames(cls)
    if suite == "multiprocessing":
        return list(names)
    own = getattr(cls, "start_method" if suite == "main_handling" else "ctx", None)
    # One class of the futures suite tests several methods, each in a test named after it.
    return [name for name in names if own == method or (own is None and name == f"test_{method}")]


def classes(suite: str, method: str) -> dict[str, type[unittest.TestCase]]:
    """Return the suite's classes that have tests of the start method, by name."""
    found = {}
    for module in modules(suite, method):
        for name, cls in vars(importlib.import_module(module)).items():
            if (
                isinstance(cls, type)
                and issubclass(cls, unittest.TestCase)
                and cls.__module__ == module
                and tests(suite, method, cls)
            ):
                found[name] = cls
    return dict(sorted(found.items()))


@contextlib.contextmanager
def nodes(method: str) -> Iterator[None]:
    """Join the nodes on which "ray" starts processes.

    If they are to be of this machine, they are two, and this process's own is none of them: no
    process is its neighbour. The connections to them, and the listener for pools, stay as long as
    the program, so they are made before a test looks for threads that are left behind.
    """
    with contextlib.ExitStack() as stack:
        if method == "ray":
            import multiprocessing

            if environment.LOOPBACK in os.environ:
                sys.path.append(str(environment.ROOT))
                from tests.cluster.loopback import Loopback

                stack.enter_context(contextlib.closing(Loopback(2)))
            context = multiprocessing.get_context(method)
            first = [context.Process() for _ in range(context.cpu_count())]
            for child in first:
                child.start()
            for child in first:
                child.join()
            with context.Pool(1) as pool:
                pool.apply(int)
        yield


class Report(unittest.TextTestResult):
    """Write a line when a test starts and when it ends, so that a hang or crash names its test."""

    results: str

    def _say(self, test: unittest.TestCase, status: str) -> None:
        test = getattr(test, "test_case", test)  # of a subtest
        # The object for a class or module with a failed or skipped set-up has no method: it counts
        # for all tests.
        with open(self.results, "a") as file:
            file.write(f"{getattr(test, '_testMethodName', '*')}\t{status}\n")

    def startTest(self, test):
        super().startTest(test)
        self._say(test, "started")

    def stopTest(self, test):
        super().stopTest(test)
        for thread in threading.enumerate():
            # What carries a pipe to another node ends once that has seen the end of it.
            if thread.name in ("PipeToNode", "PipeFromNode"):
                thread.join(10)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._say(test, "ok")

    addExpectedFailure = addSuccess

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say(test, "skip")

    def addError(self, test, err):
        super().addError(test, err)
        self._say(test, "fail")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._say(test, "fail")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._say(test, "fail")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._say(test, "fail")


def main() -> None:
    # A driver in the background inherits SIGINT ignored; the tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    action, method, *rest = sys.argv[1:]
    if action == "list":
        suites = ("multiprocessing", "main_handling", "futures")
        listing = {
            suite: {name: tests(suite, method, cls) for name, cls in classes(suite, method).items()}
            for suite in suites
        }
        print(json.dumps(listing))
        return
    suite, name, Report.results, limit, *wanted = rest
    # Shows where a hang is, before the runner ends this process.
    faulthandler.dump_traceback_later(float(limit), exit=False)
    cls = classes(suite, method)[name]
    cases = unittest.TestSuite([cls(test) for test in wanted])
    with nodes(method):
        unittest.TextTestRunner(sys.stdout, resultclass=Report, verbosity=2).run(cases)
    faulthandler.cancel_dump_traceback_later()
    from test import support

    if support.environment_altered:
        with open(Report.results, "a") as file:
            file.write("(left behind)\tfail\n")


if __name__ == "__main__":
    main()
