"""The programs of ``examples/python`` and ``examples/rust``: how each is run and judged."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tests.programs import checks
from tests.programs.running import LIMIT, Run, Running, run, running

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON_EXAMPLES = ROOT / "examples" / "python"
RUST_EXAMPLES = ROOT / "examples" / "rust"
METHODS = ("fork", "spawn", "forkserver")

TEXTS = os.path.dirname(os.__file__)
"""A folder of real text: the running Python's own library."""

Command = Callable[[str], "list[str]"]
"""Returns the command that runs the example of a name."""


def run_alone(command: Command, name: str, environment: dict[str, str]) -> Run:
    return run(command(name), environment)


def run_search(command: Command, name: str, environment: dict[str, str]) -> Run:
    return run([*command(name), TEXTS], environment)


def port_of(server: Running) -> str:
    """Return the port that a server prints first."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and server.process.poll() is None:
        if found := re.match(r"port (\d+)\n", server.text(0)):
            return found.group(1)
        time.sleep(0.01)
    raise AssertionError(f"the server printed no port: {server.text(0)!r} {server.text(1)!r}")


def run_remote(command: Command, _name: str, environment: dict[str, str]) -> Run:
    """Run a server, two workers, and before them one with the wrong key."""
    with ExitStack() as stack:
        server = stack.enter_context(running(command("remote_server"), environment))
        worker = [*command("remote_worker"), port_of(server)]
        refused = run([*worker, "third", "a wrong key"], environment)
        workers = [
            stack.enter_context(running([*worker, name], environment))
            for name in ("first", "second")
        ]
        result = server.finish()
        result.others = [*(worker.finish() for worker in workers), refused]
        return result


@dataclass(frozen=True)
class Program:
    """A program of the examples."""

    name: str
    check: Callable[[Run], str]
    execute: Callable[[Command, str, dict[str, str]], Run] = run_alone
    loses: str = ""
    """Why the standard library may get it wrong."""
    hangs: str = ""
    """Why the standard library never finishes it."""
    logs: bool = False
    """Whether the check judges standard error; otherwise it must be empty."""
    plain: bool = True
    """Whether it also runs as plain text of the standard library."""
    talks: bool = False
    """Whether several processes print at once: then it is run with PYTHONUNBUFFERED=1 too."""

    def judge(self, result: Run, quiet: bool = True) -> str:
        """Return one line on what was seen. Raises AssertionError when it is wrong.

        ``quiet``: insist on an empty standard error.
        """
        for each in (result, *result.others):
            assert each.code is not None, f"hung\n{each.stdout}\n{each.stderr}"
            assert each.code == 0, f"exit code {each.code}\n{each.stdout}\n{each.stderr}"
            assert not each.left, f"left processes behind: {each.left}"
            assert self.logs or not quiet or not each.stderr, f"standard error says\n{each.stderr}"
        try:
            return self.check(result)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n--- output\n{result.stdout}\n--- errors\n{result.stderr}"
            ) from None
        except (ValueError, IndexError) as error:
            raise AssertionError(
                f"cannot be read ({error})\n--- output\n{result.stdout}"
            ) from error


LOCK_GONE = (
    "a lock is gone when the parent has dropped it, though spawned children have yet to open it"
)

PROGRAMS = [
    Program("five_processes", checks.five_processes, talks=True),
    Program("names", checks.names, talks=True),
    Program("printing_lock", checks.printing_lock, talks=True, loses=LOCK_GONE),
    Program(
        "whole_lines",
        checks.whole_lines,
        talks=True,
        loses="a line of another process may come between two writes of one print",
    ),
    Program("logging_stderr", checks.logging_stderr, talks=True, logs=True, loses=LOCK_GONE),
    Program("logging_file", checks.logging_file, plain=False),
    Program("pool_map", checks.pool_map),
    Program("pool_async", checks.pool_async),
    Program(
        "pool_output",
        checks.pool_output,
        talks=True,
        loses="a terminated worker does not flush what its tasks printed",
    ),
    Program("creator_consumer", checks.creator_consumer),
    Program(
        "empty_loop",
        checks.empty_loop,
        loses="empty() is true while items are on their way to the pipe",
    ),
    Program(
        "jobs_until_empty",
        checks.jobs_until_empty,
        loses="get_nowait() is Empty while items are on their way",
    ),
    Program(
        "join_before_read",
        checks.join_before_read,
        hangs="a child ends only when its items have been read",
    ),
    Program("squares_cubes", checks.squares_cubes),
    Program("subclass_run", checks.subclass_run, talks=True),
    Program("subclass_init", checks.subclass_init, talks=True),
    Program("cpu_bound", checks.cpu_bound),
    Program("prime_factors", checks.prime_factors),
    Program("search_engine", checks.search_engine, run_search),
    Program("shared_state", checks.shared_state),
    Program("shared_counter", checks.shared_counter),
    Program("pipe_both_ways", checks.pipe_both_ways),
    Program("pool_calls", checks.pool_calls),
    Program("remote_manager", checks.remote_manager, run_remote),
    Program("terminate_kill", checks.terminate_kill),
]


@functools.cache
def plain_folder() -> tempfile.TemporaryDirectory[str]:
    """Copy the examples with the standard library's name in place of procession's."""
    folder = tempfile.TemporaryDirectory(prefix="plain-examples-")
    for path in PYTHON_EXAMPLES.glob("*.py"):
        text = re.sub(r"\bprocession\b", "multiprocessing", path.read_text(encoding="utf-8"))
        pathlib.Path(folder.name, path.name).write_text(text, encoding="utf-8")
    return folder


def swapped(method: str) -> Command:
    """The examples as they are: the import swapped."""
    return lambda name: [
        sys.executable,
        str(HERE / "start.py"),
        "procession",
        method,
        str(PYTHON_EXAMPLES / f"{name}.py"),
    ]


def standard(method: str) -> Command:
    """The plain text on the standard library."""
    folder = plain_folder().name
    return lambda name: [
        sys.executable,
        str(HERE / "start.py"),
        "multiprocessing",
        method,
        f"{folder}/{name}.py",
    ]


def stood_in(method: str) -> Command:
    """The plain text under ``procession run``."""
    folder = plain_folder().name
    return lambda name: [
        sys.executable,
        "-m",
        "procession",
        "run",
        "--start-method",
        method,
        f"{folder}/{name}.py",
    ]


def rust(method: str) -> Command:
    """The Rust program of the same name."""

    def command(name: str) -> list[str]:
        assert name in rust_programs(), "was not built"
        return [rust_programs()[name], "--start-method", method]

    return command


@functools.cache
def rust_programs() -> dict[str, str]:
    """Build the Rust examples, optimised, and return their executables.

    One that does not build is missing; cargo reports why.
    """
    build = [
        "cargo",
        "build",
        "--profile=examples",
        "--examples",
        "--keep-going",
        "--quiet",
        "--package",
        "procession",
    ]
    messages_as = "--message-format=json-render-diagnostics"
    out = subprocess.run(
        [*build, messages_as], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    messages = [json.loads(line) for line in out.stdout.splitlines()]
    return {
        message["target"]["name"]: message["executable"]
        for message in messages
        if message.get("executable") and "example" in message["target"]["kind"]
    }


def rust_names() -> list[str]:
    """Return the names of the Rust examples, without building them."""
    return sorted(path.stem for path in RUST_EXAMPLES.glob("*.rs"))


def unbuffered() -> dict[str, str]:
    return {"PYTHONUNBUFFERED": "1"}


def installed() -> bool:
    """Return whether this interpreter can import procession."""
    probe = [sys.executable, "-c", "import procession; procession.Process"]
    return subprocess.run(probe, capture_output=True, env=os.environ, check=False).returncode == 0
