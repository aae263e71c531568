"""Judge whether what a program printed is right.

A check takes a finished run, raises ``AssertionError`` when something is wrong, and returns one
line on what it saw. The same checks judge the Python programs in all their variants and the Rust
programs of the same names (the formats are in ``examples/README.md``).
"""

from __future__ import annotations

import ast
import collections
import pathlib
import re
import sys
from collections.abc import Sequence

from tests.programs.running import Run

NUMBERS = (5, 10, 15, 20, 25)
WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
]


def same(seen: object, wanted: object, what: str) -> None:
    assert seen == wanted, f"{what}: saw {seen!r}, wanted {wanted!r}"


def same_lines(seen: Sequence[str], wanted: Sequence[str], what: str = "lines") -> None:
    """Check that the lines are the same, in whatever order the processes printed them."""
    missing = collections.Counter(wanted) - collections.Counter(seen)
    extra = collections.Counter(seen) - collections.Counter(wanted)
    assert not missing and not extra, (
        f"{what}: missing {sorted(missing.elements())}, not wanted {sorted(extra.elements())}"
    )


def captured(pattern: str, lines: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the groups of a pattern that every line must match."""
    matches = [re.fullmatch(pattern, line) for line in lines]
    wrong = [line for line, match in zip(lines, matches, strict=True) if match is None]
    assert not wrong, f"not of the form {pattern}: {wrong}"
    return [match.groups() for match in matches if match]


def five_processes(run: Run) -> str:
    parent = [line for line in run.lines if line.startswith("parent ")]
    same(
        [line for line in run.lines if line.startswith("all ")], ["all five have ended"], "the end"
    )
    children = [line for line in run.lines if line not in parent and not line.startswith("all ")]
    rows = captured(r"process (\d+) doubles (\d+): (\d+)", children)
    same(
        sorted((int(number), int(double)) for _, number, double in rows),
        [(n, 2 * n) for n in NUMBERS],
        "doubled",
    )
    pids = {pid for pid, _, _ in rows}
    ((own,),) = captured(r"parent (\d+)", parent)
    same(len(pids - {own}), 5, "different process ids")
    return "5 whole lines, 5 different pids, none the parent's"


def names(run: Run) -> str:
    wanted = [
        f"{number} doubled to {2 * number} by Process-{index}"
        for index, number in enumerate(NUMBERS, start=2)
    ]
    wanted += ["2 doubled to 4 by Test", "parent is MainProcess"]
    same_lines(run.lines[:-1], wanted)
    captured(
        r"(never started|said nothing): Process-1", run.lines[-1:]
    )  # in Rust only a process that was started has a name
    return "Process-2 to Process-6, Test, MainProcess"


def printing_lock(run: Run) -> str:
    same_lines(run.lines, ["parent is done"] + [f"word: {word}" for word in WORDS])
    return "10 words of 10, though nobody joined"


def whole_lines(run: Run) -> str:
    tail = " ".join(["word"] * 8)
    same_lines(run.lines, 4 * [f"process line {line} says {tail} end" for line in range(200)])
    return "800 lines of 800 whole"


def logging_stderr(run: Run) -> str:
    same_lines(run.lines, ["word: tango", "word: foxtrot", "word: waltz"])
    logged: dict[str, list[str]] = collections.defaultdict(list)
    for name, text in captured(r"\[INFO/([^]]+)\] (.*)", run.stderr.splitlines()):
        logged[name].append(text)
    children = ["Process-1", "Process-2", "Process-3"]
    same(sorted(logged), ["MainProcess", *children], "which processes logged")
    life = [
        "child process calling self.run()",
        "process shutting down",
        "process exiting with exitcode 0",
    ]
    python = run.command[:1] == [sys.executable]
    if python and sys.version_info >= (
        3,
        13,
    ):  # there a child shuts down in its exit functions, after it has logged its exit code
        life[1:] = life[:0:-1]
    for name in children:
        same(logged[name], life, name)
    main = logged["MainProcess"]
    same(main[:1], ["process shutting down"], "MainProcess first")
    same_lines(
        main[1:], [f"calling join() for process {name}" for name in children], "MainProcess then"
    )
    return "3 lines for each of 3 children, 1 + 3 of MainProcess, all exact"


def logging_file(run: Run) -> str:
    wanted = [f"worker-{number}: 500 lines, in order" for number in range(4)]
    same(run.lines, [*wanted, "torn lines: 0"], "lines")
    return "4 x 500 lines in one file, none lost or torn"


def pool_map(run: Run) -> str:
    squares = [number * number for number in range(10)]
    wanted = [
        f"map: {squares}",
        "apply_async: 10000",
        "late: TimeoutError",
        "afterwards: late, but here",
    ]
    same(run.lines, wanted, "lines")
    return "10 squares in order, TimeoutError when late"


def pool_async(run: Run) -> str:
    cubes = [number**3 for number in range(8)]
    wanted = [
        "ready at once: False",
        "ready after a short wait: False",
        "after close: Pool not running",
        "ready after wait: True successful: True",
        f"old work: {cubes}",
        "terminated and joined",
    ]
    same(run.lines, wanted, "lines")
    return "closed pool refused new work and finished the old; endless work terminated"


def pool_output(run: Run) -> str:
    wanted = [
        f"{task} prints line {line}" for task in ("a task", "another task") for line in range(20)
    ]
    same_lines(run.lines, wanted)
    return "40 lines of 40, from pools that nobody closed"


def creator_consumer(run: Run) -> str:
    items = [f"item {number} doubled is {2 * number}" for number in range(20)]
    same(run.lines[:-1], [*items, "consumer has seen the sentinel"], "what the consumer saw")
    same(run.lines[-1], "both have ended: 0 0", "the end")
    return "20 items of 20, in order, then the sentinel"


def empty_loop(run: Run) -> str:
    colours = list(enumerate(["red", "green", "blue", "black"], start=1))
    wanted = [
        f"item {number}: {colour} {verb}" for verb in ("put", "got") for number, colour in colours
    ]
    same(run.lines, wanted, "lines")
    return "4 items of 4, in order, until empty()"


def jobs_until_empty(run: Run) -> str:
    rows = captured(r"job (\d+) done by (Process-[1-4])", run.lines)
    same(sorted(int(job) for job, _ in rows), list(range(10)), "jobs done")
    return f"10 jobs of 10, by {len({name for _, name in rows})} of 4 processes"


def join_before_read(run: Run) -> str:
    same(run.lines, ["joined, exit code 0", f"read {20 << 20} bytes, contents right"], "lines")
    return "20 MB read after the join"


def squares_cubes(run: Run) -> str:
    wanted = [f"square of {n} is {n**2}" for n in range(1, 6)] + [
        f"cube of {n} is {n**3}" for n in range(1, 6)
    ]
    same_lines(run.lines, wanted)
    return "10 results of 10"


def subclass_run(run: Run) -> str:
    same_lines(
        run.lines, [f"run() of Worker-{n}" for n in range(1, 6)] + ["exit codes: [0, 0, 0, 0, 0]"]
    )
    return "5 times its own run()"


def subclass_init(run: Run) -> str:
    sizes = {"small": 10, "middle": 100, "large": 1000}
    wanted = [f"{name} adds {size} numbers" for name, size in sizes.items()]
    wanted += [f"{name}: {size * (size - 1) // 2}" for name, size in sizes.items()]
    same_lines(run.lines, wanted)
    return "3 children under their own names, right sums"


def cpu_bound(run: Run) -> str:
    (count,) = captured(r"processes: (\d+), same total: (?:True|true)", run.lines[:1])[0]
    captured(r"all at work at the same time: (True|true)", run.lines[1:2])
    wall, cpu = map(float, captured(r"wall ([\d.]+) s, cpu ([\d.]+) s", run.lines[2:])[0])
    # How much wall time this saves depends on other programs: it is reported, not judged.
    return f"{count} loops at the same time: {cpu:.2f} s of CPU in {wall:.2f} s"


def prime_factors(run: Run) -> str:
    captured(r"seed \d+", run.lines[:1])
    rows = captured(r"(\d+) = ([\d* ]+)", run.lines[1:])
    same(len(rows), 20, "numbers")
    for number, text in rows:
        product = 1
        for factor in map(int, text.split(" * ")):
            assert factor > 1 and all(factor % d for d in range(2, int(factor**0.5) + 1)), (
                f"{factor} is not prime"
            )
            product *= factor
        same(product, int(number), f"product of {text}")
    return f"20 numbers factored rightly ({run.lines[0]})"


def search_engine(run: Run) -> str:
    count, folder, workers = captured(r"(\d+) files in (.*), (\d+) processes", run.lines[:1])[0]
    files = [path for path in pathlib.Path(folder).glob("*.*") if path.suffix in (".py", ".txt")]
    texts = [
        path.read_text(encoding="utf-8", errors="replace").split("\n")
        for path in sorted(files)[: int(count)]
    ]
    rows = captured(r"(\d+) lines with (.*)", run.lines[1:])
    assert int(count) > 1 and len(rows) >= 3, "too little to search"
    for matches, quoted in rows:
        query = ast.literal_eval(quoted)
        same(
            int(matches),
            sum(query in line for text in texts for line in text),
            f"lines with {query!r}",
        )
    found = " ".join(matches for matches, _ in rows)
    return f"{workers} processes, {count} files, {len(rows)} queries: {found} matches, exact"


def shared_state(run: Run) -> str:
    value, array = run.lines
    same(value, "value: 110", "value")
    kind, _, elements = array.partition(": ")
    same(
        (kind, ast.literal_eval(elements)), ("array", [-index / 2 for index in range(12)]), "array"
    )
    return "value 110 and 12 elements, exact"


def shared_counter(run: Run) -> str:
    same(run.lines, ["counted to 400000 of 400000"], "lines")
    return "400,000 of 400,000"


def pipe_both_ways(run: Run) -> str:
    answers = [
        "who -> WHO (3)",
        "what -> WHAT (4)",
        "where -> WHERE (5)",
        "xxxxx -> XXXXX (100000)",
    ]
    ends = [f"the {side} has seen the end of file" for side in ("child", "parent")]
    same(run.lines, answers + ends, "lines")
    return "4 answers, then the end of file on both sides"


def pool_calls(run: Run) -> str:
    wanted = ["starmap: [8, 9, 10000, 49]", "apply: 125", "apply_async: [0, 1, 4, 9, 16]"]
    same(run.lines[:-1], wanted, "lines")
    called = "[('ZeroDivisionError', True), (0, True), (1, True), (16, True), (4, True), (9, True)]"
    if run.lines[-1] == '1 / 0: Err("division by zero")':
        return "starmap, apply, apply_async right; a failure is a value"
    same(run.lines[-1], f"callbacks: {called}", "the callbacks")
    return "starmap, apply, apply_async right; 6 callbacks in the parent"


def remote_manager(run: Run) -> str:
    first, second, refused = run.others
    captured(r"port \d+", run.lines[:1])
    rows = captured(r"(\d+) squared is (\d+) by (first|second)", run.lines[1:11])
    same(
        [(int(number), int(square)) for number, square, _ in rows],
        [(n, n * n) for n in range(10)],
        "results",
    )
    same(run.lines[11:], ["first leaves", "second leaves"], "the end")
    done = {name: sum(worker == name for _, _, worker in rows) for name in ("first", "second")}
    for name, other in (("first", first), ("second", second)):
        same(other.lines, [f"{name} did {done[name]} jobs"], name)
    same(refused.lines, ["third is refused: AuthenticationError"], "wrong key")
    return f"10 results of 10 ({done['first']} + {done['second']}), wrong key refused"


def terminate_kill(run: Run) -> str:
    wanted = [
        f"{how}: alive True, then alive False, exit code {code}"
        for how, code in (("terminate", -15), ("kill", -9))
    ]
    same(run.lines, wanted, "lines")
    return "exit codes -15 and -9"
