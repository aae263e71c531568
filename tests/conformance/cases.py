"""Lists or runs the cases of one start method; used by run.py inside the conformance environment."""

from __future__ import annotations

import importlib
import json
import signal
import sys
import unittest


class Report(unittest.TextTestResult):
    """Prints one line for each test as it ends."""

    def _say(self, test: unittest.TestCase, status: str) -> None:
        name = getattr(test, "_testMethodName", str(test))
        print(f"\nRESULT\t{name}\t{status}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._say(test, "ok")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say(test, "skip")

    def addError(self, test, err):
        super().addError(test, err)
        self._say(test, "fail")

    addExpectedFailure = addSuccess

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._say(test, "fail")


def main() -> None:
    # A driver in the background inherits SIGINT ignored; the tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    action, method, *rest = sys.argv[1:]
    module = importlib.import_module(f"conformance_{method}")
    loader = unittest.defaultTestLoader
    if action == "list":
        cases = {
            name: list(loader.getTestCaseNames(cls))
            for name, cls in sorted(vars(module).items())
            if isinstance(cls, type) and issubclass(cls, unittest.TestCase)
        }
        print(json.dumps({name: tests for name, tests in cases.items() if tests}))
        return
    name, *tests = rest
    cls = getattr(module, name)
    suite = unittest.TestSuite([cls(test) for test in tests])
    unittest.TextTestRunner(sys.stdout, resultclass=Report, verbosity=0).run(suite)


if __name__ == "__main__":
    main()
