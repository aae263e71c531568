"""Lines that processes print stay whole and are not lost.

This holds for every start method, and for processes that are killed.
"""

from __future__ import annotations

import collections
import os
import pathlib
import subprocess
import sys

import pytest

from procession._procession import Lines
from tests.conftest import PACKAGE_FOLDER

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


def check_lines(*texts):
    for text in texts:
        seen = collections.defaultdict(list)
        for line in text.splitlines():
            number, count, *words = line.split()
            assert words == ["word"] * (int(count) % 40) + ["end"], line
            seen[int(number)].append(int(count))
        assert seen == {number: list(range(300)) for number in range(5)}


@pytest.mark.parametrize("flags", [[], ["-u"]])
@pytest.mark.parametrize("how", ["import", "run"])
def test_lines_are_whole(run_program, method, how, flags):
    done = run_program(TALK, method, under=how, flags=flags)
    check_lines(done.stdout, done.stderr)


@pytest.fixture
def run_buffered(tmp_path):
    """Return a function that runs a program and returns its output.

    The output goes to a file or pipe, buffered.
    """

    def run(text, *args, to="file"):
        script = tmp_path / "program.py"
        script.write_text(text)
        environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
        environment.pop("PYTHONUNBUFFERED", None)
        command = [sys.executable, "-m", "procession", "run", str(script), *args]
        output = tmp_path / "output"
        with open(output, "wb") as file:
            stdout = file if to == "file" else subprocess.PIPE
            done = subprocess.run(
                command, stdout=stdout, stderr=subprocess.PIPE, env=environment, timeout=60
            )
        assert done.returncode == 0, done.stderr
        return output.read_text() if to == "file" else done.stdout.decode()

    return run


@pytest.mark.parametrize("to", ["file", "pipe"])
def test_lines_of_a_buffered_parent_are_whole(run_buffered, method, to):
    check_lines(run_buffered(TALK, method, to=to))


COUNTED = """
import multiprocessing, sys

def writes():
    with open("/proc/self/io") as file:
        return int(dict(line.split(": ") for line in file)["syscw"])

def talk():
    sys.stdout.flush()
    before = writes()
    for number in range(20_000):
        print(number, "is", "a", "line")
    sys.stdout.flush()
    return writes() - before

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    alone = talk()
    child = multiprocessing.Process(target=int)
    child.start()
    beside = talk()
    child.join()
    print(alone, beside, talk())
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/io").exists(), reason="the kernel does not count")
@pytest.mark.parametrize("to", ["file", "pipe"])
def test_a_parent_makes_no_more_writes_after_its_first_child(run_buffered, method, to):
    *lines, last = run_buffered(COUNTED, method, to=to).splitlines()
    assert lines == [f"{number} is a line" for number in range(20_000)] * 3
    alone, beside, after = map(int, last.split())
    # A write ends with a line here. On a pipe it is at most a page, so that each block of the text layer, which
    # has the size of two pages, is written in two pieces or, as lines do not end with pages, three.
    blocks = sum(len(line) + 1 for line in lines) / 3 / 8192
    assert max(beside, after) <= (1.1 * alone if to == "file" else 3 * blocks), last


MIXED = """
import multiprocessing, os, sys

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=print, args=("child",))
    child.start()
    child.join()
    size = lambda: os.fstat(1).st_size - len("child\\n")
    print("text", end="")
    assert size() == 0
    print(end="", flush=True)
    assert size() == 4
    sys.stdout.buffer.write(memoryview(b"+bytes"))
    sys.stdout.buffer.flush()
    assert size() == 10
    print("-" * 20_000, end="")
    position = sys.stdout.tell()
    assert position == size() + len("child\\n") == 20_016
    print("\\nnext")
    try:
        sys.stdout.buffer.write("text")
    except TypeError:
        print("refused")
    sys.stdout = open(sys.stdout.detach().detach().fileno(), "w", closefd=False)
    print("end", end="")
"""


def test_what_is_flushed_is_written_in_order(run_buffered, method):
    text = run_buffered(MIXED, method)
    assert text == "child\ntext+bytes" + "-" * 20_000 + "\nnext\nrefused\nend"


class Writer:
    def __init__(self):
        self.did = []

    def write(self, data):
        self.did.append(data)

    def flush(self):
        self.did.append("flush")

    def seek(self, *args):
        self.did.append(("seek", *args))

    def tell(self):
        self.did.append(("tell",))

    def truncate(self, *args):
        self.did.append(("truncate", *args))


@pytest.mark.parametrize(
    ("most", "given", "did"),
    [
        (None, [b"a", b"b\nc", b"d\n"], [b"ab\n", b"cd\n", "flush"]),
        (None, [b"a\nb\nc"], [b"a\nb\n", b"c", "flush"]),
        (None, [b"", b"x" * 8191, b"y"], [b"x" * 8191 + b"y", "flush"]),
        (None, [b"x" * 8191, b"\ny"], [b"x" * 8191 + b"\n", b"y", "flush"]),
        (None, [b"x" * 9000, b"y"], [b"x" * 9000, b"y", "flush"]),
        (None, [b"a\n" + b"x" * 9000], [b"a\n" + b"x" * 9000, "flush"]),
        (None, [b"a\n" + b"x" * 8191], [b"a\n", b"x" * 8191, "flush"]),
        (4, [b"a\nb\n"], [b"a\nb\n", "flush", "flush"]),
        (4, [b"a\nb\nc\nd"], [b"a\nb\n", "flush", b"c\n", "flush", b"d", "flush", "flush"]),
        (4, [b"long line\nb\n"], [b"long line\n", "flush", b"b\n", "flush", "flush"]),
        (4, [b"long line"], [b"long line", "flush", "flush"]),
    ],
)
def test_pieces_end_with_a_line(most, given, did):
    writer = Writer()
    lines = Lines(writer, most)
    assert [lines.write(data) for data in given] == [len(data) for data in given]
    lines.flush()
    assert writer.did == did


@pytest.mark.parametrize("call", [("tell",), ("seek", 0, 2), ("truncate",), ("truncate", 3)])
def test_what_asks_for_the_position_is_told_of_all_text(call):
    writer = Writer()
    lines = Lines(writer)
    lines.write(b"text")
    name, *args = call
    getattr(lines, name)(*args)
    assert writer.did == [b"text", call]


UNLINED = """
import multiprocessing, os, sys

if __name__ == "__main__":
    buffer = sys.stdout.buffer
    reached = []
    for _ in range(2):
        before = os.fstat(1).st_size
        buffer.write(bytes(200_000))
        reached.append(os.fstat(1).st_size - before)
        buffer.flush()
        child = multiprocessing.get_context("fork").Process(target=int)
        child.start()
        child.join()
    buffer.write(b"more")
    assert buffer.tell() == 400_004
    buffer.seek(0)
    assert buffer.truncate() == 0
    print(*reached)
"""


def test_bytes_without_line_ends_are_written_as_before_the_first_child(run_buffered):
    before, after = map(int, run_buffered(UNLINED).split())
    assert before == after > 100_000


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


FORKED = """
import contextlib, io, multiprocessing, sys

class Log:
    def write(self, text):
        return len(text)
    def flush(self):
        pass

def start_all():
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        child = context.Process(target=int)
        child.start()
        child.join()
        assert child.exitcode == 0

if __name__ == "__main__":
    print("hello")
    if sys.argv[1] == "redirected":
        with contextlib.redirect_stdout(io.StringIO()):
            start_all()
    else:
        sys.stdout = Log()
        start_all()
        sys.stdout = sys.__stdout__
    print("bye")
"""


@pytest.mark.parametrize("how", ["redirected", "replaced"])
@pytest.mark.parametrize("to", ["file", "pipe"])
def test_text_that_waits_in_a_replaced_stream_is_written_once(run_buffered, how, to):
    assert run_buffered(FORKED, how, to=to) == "hello\nbye\n"


WRAPPED = """
import io, multiprocessing, sys
sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    for _ in range(2):
        child = multiprocessing.Process(target=print, args=("child",))
        child.start()
        child.join()
"""


def test_a_stream_can_be_wrapped_anew(run_buffered, method):
    assert run_buffered(WRAPPED, method) == "child\nchild\n"


CLOSED_BENEATH = """
import multiprocessing, os, sys

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    if sys.argv[2] == "replaced":
        print("lost")
        sys.stdout = open(os.devnull, "w")
    os.close(1)
    child = multiprocessing.Process(target=int)
    child.start()
    child.join()
    os._exit(child.exitcode + 5)
"""


@pytest.mark.parametrize("stream", ["own", "replaced"])
def test_a_closed_descriptor_is_no_obstacle(run_program, method, stream):
    environment = {"PYTHONUNBUFFERED": ""}
    done = run_program(CLOSED_BENEATH, method, stream, under="import", env=environment)
    assert (done.stderr, done.returncode) == ("", 5)


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


def test_what_another_thread_prints_before_the_fork_is_written_once(run_program):
    text = """
import procession, sys
from procession import util

flush = util._flush_std_streams

def flush_and_print():
    util._flush_std_streams = flush
    flush()
    print("as another thread would")

if __name__ == "__main__":
    fork = procession.get_context("fork")
    fork.Process().start()  # from now on this process writes blocks of lines
    util._flush_std_streams = flush_and_print  # the last that the parent does before it forks
    child = fork.Process(target=print, args=("the child",))
    child.start()
    child.join()
"""
    done = run_program(text)
    assert sorted(done.stdout.splitlines()) == ["as another thread would", "the child"], done.stderr
