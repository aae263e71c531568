"""Lines that processes print stay whole and are not lost."""

from __future__ import annotations

import collections

import pytest

TALK = """
import multiprocessing, sys

def talk(number):
    for line in range(300):
        print(number, line, *["word"] * (line % 40), "end")
        print(number, line, *["word"] * (line % 40), "end", file=sys.stderr)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    children = [multiprocessing.Process(target=talk, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    talk(4)
    for child in children:
        child.join()
"""


@pytest.mark.parametrize("flags", [[], ["-u"]])
@pytest.mark.parametrize("how", ["import", "run"])
def test_lines_are_whole(run_program, method, how, flags):
    done = run_program(TALK, method, under=how, flags=flags)
    for text in (done.stdout, done.stderr):
        seen = collections.defaultdict(list)
        for line in text.splitlines():
            number, count, *words = line.split()
            assert words == ["word"] * (int(count) % 40) + ["end"], line
            seen[int(number)].append(int(count))
        assert seen == {number: list(range(300)) for number in range(5)}


KILLED = """
import multiprocessing, os, signal, sys

def work():
    print("a line before the end")
    print("half a", end=" ")
    print("line")
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
    print(child.exitcode)
"""


@pytest.mark.parametrize("how", ["import", "run"])
def test_a_killed_child_loses_no_line(run_program, method, how):
    done = run_program(KILLED, method, under=how)
    assert done.stdout == "a line before the end\nhalf a line\n-9\n"


UNFINISHED = """
import multiprocessing, sys

def work():
    print("no line end", end="")

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    print("before", end=" ")
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
    print()
"""


def test_text_without_a_line_end_arrives_once(run_program, under, method):
    assert run_program(UNFINISHED, method, under=under).stdout == "before no line end\n"


LONG = """
import multiprocessing, sys

def talk(number):
    for _ in range(20):
        print(str(number) * 50_000)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with open("out.txt", "w") as out:
        import os
        os.dup2(out.fileno(), 1)
    children = [multiprocessing.Process(target=talk, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""


def test_long_lines_in_a_file_are_whole(run_program, method, tmp_path):
    done = run_program(LONG, method, under="import")
    assert done.stderr == ""
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert sorted(lines) == sorted(str(number) * 50_000 for number in range(4) for _ in range(20))


def test_streams_of_the_program_are_left_alone(run_program):
    done = run_program(
        """
import io, multiprocessing, sys
sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), write_through=True)
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
    child.start()
    child.join()
    print(sys.stdout.write_through, sys.stdout.line_buffering, sys.stderr.line_buffering)
""",
        under="import",
    )
    assert (done.stdout, done.stderr) == ("child\nTrue False True\n", "")


def test_closed_and_missing_streams_are_no_obstacle(run_program, method):
    done = run_program(
        """
import multiprocessing, sys
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    sys.stdout.close()
    sys.stdin = None
    child = multiprocessing.Process(target=int)
    child.start()
    child.join()
    sys.exit(child.exitcode + 5)
""",
        method,
        under="import",
    )
    assert (done.stderr, done.returncode) == ("", 5)
