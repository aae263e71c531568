"""The package's log: exact lines, one file for all processes, process names in records.

What the standard library logs is compared with its own output.
"""

from __future__ import annotations

import collections
import re

import pytest

import procession
from procession import util

LIFE = """
import logging, multiprocessing, sys, threading

def work(go):
    go.recv()

def forever():
    threading.Event().wait()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    there, here = multiprocessing.Pipe(duplex=False)
    multiprocessing.log_to_stderr(logging.INFO)
    joined = multiprocessing.Process(target=int)
    joined.start()
    joined.join()
    assert joined.exitcode == 0
    multiprocessing.Process(target=work, args=(there,)).start()
    daemon = multiprocessing.Process(target=forever, daemon=True)
    daemon.start()
    here.send("go")
"""


def lines_by_process(text):
    """Return the log lines of each process, in order."""
    found = collections.defaultdict(list)
    for line in text.splitlines():
        level, name, message = re.fullmatch(r"\[(\w+)/([\w:-]+)\] (.*)", line).groups()
        found[name].append(f"{level} {message}")
    return found


def test_the_lines_of_a_life(run_program, under, method):
    done = run_program(LIFE, method, under=under)
    lines = lines_by_process(done.stderr)
    last = ["INFO process shutting down", "INFO process exiting with exitcode 0"]
    if procession.process.RUNS_ATEXIT_IN_CHILD:
        last.reverse()
    assert lines["Process-1"] == ["INFO child process calling self.run()", *last]
    assert lines["Process-2"] == ["INFO child process calling self.run()", *last]
    main = [
        line
        for line in lines["MainProcess"]
        if "temp directory" not in line and "manager" not in line
    ]
    assert main[:2] == [
        "INFO process shutting down",
        "INFO calling terminate() for daemon Process-3",
    ]
    assert set(main[2:]) <= {f"INFO calling join() for process Process-{n}" for n in (2, 3)}


def test_debug_lines(run_program, under):
    done = run_program(LIFE.replace("logging.INFO", "logging.DEBUG"), "fork", under=under)
    lines = lines_by_process(done.stderr)
    assert 'DEBUG running all "atexit" finalizers with priority >= 0' in lines["MainProcess"]
    assert 'DEBUG running the remaining "atexit" finalizers' in lines["MainProcess"]


FILE = """
import multiprocessing, sys

def work(depth):
    log = multiprocessing.get_logger()
    for number in range(300):
        log.warning("%d %s", number, "x" * (number * 37 % 6000))
    if depth:
        child = multiprocessing.Process(target=work, args=(depth - 1,))
        child.start()
        child.join()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    multiprocessing.log_to_file("all.log", level=sys.argv[2])
    children = [multiprocessing.Process(target=work, args=(1,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""


@pytest.mark.parametrize("how", ["import", "run"])
def test_all_processes_share_a_file(run_program, tmp_path, how, method):
    done = run_program(FILE, method, "WARNING", under=how)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    lines = lines_by_process((tmp_path / "all.log").read_text())
    assert sorted(lines) == sorted(
        f"Process-{n}{deeper}" for n in range(1, 5) for deeper in ("", ":1")
    )
    for messages in lines.values():
        assert messages == [f"WARNING {n} {'x' * (n * 37 % 6000)}" for n in range(300)]


def test_the_level_and_the_package_lines_reach_the_file(run_program, tmp_path, method):
    run_program(FILE, method, "INFO", under="import")
    lines = lines_by_process((tmp_path / "all.log").read_text())
    assert len(lines) == 9
    assert "INFO child process calling self.run()" in lines["Process-2:1"]


def test_a_file_is_added_once(tmp_path):
    logger = procession.get_logger()
    level = logger.level
    try:
        procession.log_to_file(tmp_path / "log", level="INFO")
        procession.log_to_file(str(tmp_path / "log"))
        util.info("said %s", "once")
        assert (tmp_path / "log").read_text() == "[INFO/MainProcess] said once\n"
        with pytest.raises(OSError):
            procession.log_to_file(tmp_path / "missing" / "log")
    finally:
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


def test_records_of_every_logger_name_their_process(run_program, under, method):
    done = run_program(
        """
import logging, multiprocessing, sys
logging.basicConfig(format="%(processName)s: %(message)s", stream=sys.stdout)

def work():
    logging.getLogger("mine").warning("hello")

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
    work()
""",
        method,
        under=under,
    )
    assert (done.stdout, done.stderr) == ("Process-1: hello\nMainProcess: hello\n", "")


def test_levels_and_helpers(caplog):
    assert (
        (util.SUBDEBUG, util.SUBWARNING) == (procession.SUBDEBUG, procession.SUBWARNING) == (5, 25)
    )
    logger = procession.get_logger()
    assert (
        logger is procession.get_logger()
        and logger.name == "multiprocessing"
        and not logger.propagate
    )
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(1)
    try:
        for say in (util.sub_debug, util.debug, util.info, util.sub_warning, util.warn):
            say("%d things", 3)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    assert [record.levelno for record in caplog.records] == [5, 10, 20, 25, 30]
    assert {record.getMessage() for record in caplog.records} == {"3 things"}
    assert {record.funcName for record in caplog.records} == {"test_levels_and_helpers"}


IMPORTED_MEANWHILE = """
import importlib.machinery, sys, threading
import procession
from procession import util

begun, go_on = threading.Event(), threading.Event()

class Slow:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "logging":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (begun.set(), go_on.wait(), execute(module))
        return spec

def load():
    import logging

flush = util._flush_std_streams

def begin():
    util._flush_std_streams = flush
    assert "logging" not in sys.modules
    threading.Thread(target=load).start()
    begun.wait()
    flush()

if __name__ == "__main__":
    sys.meta_path.insert(0, Slow)
    util._flush_std_streams = begin  # the last that the parent does before it forks
    child = procession.get_context("fork").Process(target=print, args=("the child ran",))
    child.start()
    child.join(30)
    print(child.exitcode)
    go_on.set()
    child.kill()
"""


def test_a_child_forked_while_logging_is_imported_does_not_wait_for_it(run_program):
    done = run_program(IMPORTED_MEANWHILE)
    assert (done.stdout, done.returncode) == ("the child ran\n0\n", 0), done.stderr
