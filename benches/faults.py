"""Measure how long a fault of the pool lasts: `python benches/faults.py`.

Needs an environment where pytest and the package can be imported. Runs the tests of the faults and
prints the table of docs/pool.md: what the caller gets (which the tests assert), and the seconds
from the call to the end of the test, the longer of the two shapes. Pools that serve a whole test
module exist before the test; tests that open their own pool include its start and end.
"""

from __future__ import annotations

import pathlib
import sys

import pytest

METHODS = ("fork", "spawn", "forkserver")
TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests" / "pool"
FILES = ("test_worker_faults.py", "test_task_faults.py", "test_faults.py")

#: Each fault and its outcome, by the name of the test and, if that has several faults, of the
#: function that its task calls.
FAULTS = {
    "a_task_that_ends_its_worker kill_self": ("SIGKILL in a task", "`WorkerDied`"),
    "a_task_that_ends_its_worker segfault": ("SIGSEGV", "`WorkerDied`"),
    "a_task_that_ends_its_worker exit_at_once": ("`os._exit`", "`WorkerDied`"),
    "a_task_that_exits exit_politely": ("`sys.exit`", "`WorkerDied`; executor: `SystemExit`"),
    "a_task_that_exits interrupt": (
        "`KeyboardInterrupt`",
        "`WorkerDied`; executor: `KeyboardInterrupt`",
    ),
    "stopped_for_ever": ("SIGSTOP for ever, `task_timeout=1`", "`TaskTimeout`"),
    "killed_while_idle": ("killed while idle", "all results"),
    "killed_while_it_waits_in_a_task": ("killed during a task", "`WorkerDied`"),
    "killed_while_taking_a_task": ("killed while it takes a task", "`WorkerDied`"),
    "killed_while_writing_a_result": ("killed while it writes a result", "`WorkerDied`"),
    "killed_while_starting": ("all killed while they start", "all results"),
    "killed_during_its_initializer": ("killed during its initializer", "all results"),
    "all_killed_at_once": ("all killed at once, 100 times (spawn: 10)", "all results"),
    "out_of_memory": ("out of memory (RLIMIT_AS)", "`MemoryError`"),
    "the_others_go_on": ("one of eight tasks kills its worker", "`WorkerDied`, seven results"),
    "argument_that_cannot_be_pickled": ("argument cannot be pickled", "what pickle raised"),
    "argument_that_cannot_be_unpickled": ("argument cannot be unpickled", "what pickle raised"),
    "function_that_cannot_be_pickled": ("function cannot be pickled", "what pickle raised"),
    "result_that_cannot_be_pickled": ("result cannot be pickled", "`MaybeEncodingError`"),
    "result_that_cannot_be_unpickled": ("result cannot be unpickled", "`MaybeEncodingError`"),
    "result_whose_unpickling_asks_for_it": (
        "result's unpickling asks for the result",
        "`RuntimeError` there, then the result",
    ),
    "exception_that_is_no_exception": ("exception that is no `Exception`", "the exception"),
    "stop_iteration_ends_no_iteration": ("`StopIteration`", "`RuntimeError`"),
    "child_of_a_task_that_comes_back_from_it": (
        "task forks, and its child returns, too",
        "all results, each once",
    ),
    "exception_that_cannot_be_pickled raise_unpicklable": (
        "exception cannot be pickled",
        "`MaybeEncodingError`",
    ),
    "exception_that_cannot_be_pickled raise_picky": (
        "exception whose `__init__` wants arguments",
        "`MaybeEncodingError`",
    ),
    "exception_that_cannot_be_pickled raise_unloadable": (
        "exception cannot be unpickled",
        "`MaybeEncodingError`",
    ),
    "exception_with_a_huge_or_cyclic_history raise_huge": (
        "exception with a huge text",
        "the exception",
    ),
    "exception_with_a_huge_or_cyclic_history raise_with_many_causes": (
        "exception with many causes",
        "the exception",
    ),
    "exception_with_a_huge_or_cyclic_history raise_cyclic": (
        "exception with a cyclic cause",
        "the exception",
    ),
    "deep_recursion": ("deep recursion", "`RecursionError`"),
    "generator_that_raises_midway": ("iterable raises midway", "its exception"),
    "iterable_that_raises_at_once": ("iterable raises at once", "its exception"),
    "result_of_three_gigabytes": ("result of 3 GB", "the result"),
    "initializer_that_raises": ("initializer raises", "`BrokenPool`"),
    "initializer_that_kills": ("initializer kills its worker, each time", "`BrokenPool`"),
    "callback_that_raises": ("callback raises", "reported; the next is called"),
    "one_task_for_each_worker": (
        "one task for each worker, 2,000 times (spawn: 30 and 10)",
        "all results",
    ),
    "map_from_several_threads": ("`map` from six threads at once", "all results"),
    "use_from_a_forked_child": ("used in a forked child", "`ValueError`, `RuntimeError`"),
    "results_are_not_for_a_forked_child": ("results asked in a forked child", "`ValueError`"),
    "use_after_the_end": ("used after its end", "`ValueError`, `RuntimeError`"),
    "calls_while_it_is_terminated": (
        "terminated during calls",
        "`ProcessError`, `ValueError`, `RuntimeError`",
    ),
    "a_random_killer": (
        "a worker killed every 20 ms during 10,000 tasks (spawn: 300)",
        "each its result or `WorkerDied`",
    ),
}


class Clock:
    """A pytest plugin that records how long each fault took with each start method."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = {}
        self.unknown: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        if report.when != "call" or not report.passed:
            return
        params = item.callspec.params if hasattr(item, "callspec") else {}
        pairs = [value for value in params.values() if isinstance(value, tuple)]
        method = pairs[0][1] if pairs else params.get("method", "fork")
        fault = item.originalname.removeprefix("test_")
        if "function" in params:
            fault += f" {params['function'].__name__}"
        if fault not in FAULTS:
            self.unknown.add(fault)
        key = fault, method
        self.seconds[key] = max(call.duration, self.seconds.get(key, 0.0))


def main() -> int:
    clock = Clock()
    arguments = ["-q", "-p", "no:cacheprovider", *sys.argv[1:]]
    status = pytest.main([*arguments, *(str(TESTS / name) for name in FILES)], plugins=[clock])
    print("\n| fault | what the caller gets | fork | spawn | forkserver |")
    print("| --- | --- | --- | --- | --- |")
    for fault, (text, outcome) in FAULTS.items():
        seconds = [clock.seconds.get((fault, method)) for method in METHODS]
        cells = ["-" if one is None else f"{one:.2f}" for one in seconds]
        print(f"| {text} | {outcome} | {' | '.join(cells)} |")
    if clock.unknown:
        print("not in the table:", *sorted(clock.unknown))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
