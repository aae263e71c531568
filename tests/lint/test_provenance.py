"""`tests/lint/provenance.py`, which finds functions that are too much like the standard library's."""

import inspect
import multiprocessing.managers
import pathlib
import re
import subprocess
import sys
import textwrap

CHECK = pathlib.Path(__file__).parent / "provenance.py"

OWN = '''
def total(path):
    """Return the sum of the numbers in a file, one a line."""
    result = 0
    with open(path) as lines:
        for line in lines:
            if line.strip():
                result += int(line)
    return result
'''


def check(*arguments):
    """Run the check; return its exit code and the lines that it printed."""
    command = [sys.executable, CHECK, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert not ended.stderr
    return ended.returncode, ended.stdout.splitlines()


def disguised(function):
    """Return the source of a function with other names, other layout and one more statement."""
    source = textwrap.dedent(inspect.getsource(function)).removeprefix("@staticmethod\n")
    for name in inspect.signature(function).parameters:
        source = re.sub(rf"\b{name}\b", f"the_{name}", source)
    head, body = re.match(r"(def .*?\):\n)(.*)", source, re.DOTALL).groups()
    body = body.replace("\n\n", "\n").replace("(", "(  # a comment\n        ", 3)
    return f'{head}    """Do something else entirely."""\n    begun = True\n{body}'


def test_a_copy_is_found_and_nothing_else(tmp_path):
    finalize = multiprocessing.managers.BaseManager._finalize_manager
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "copied.py").write_text(disguised(finalize) + OWN)
    # Too short to be more than its interface, whatever it is like.
    short = textwrap.dedent(inspect.getsource(multiprocessing.managers.BaseManager.join))
    (tmp_path / "short.py").write_text(short)
    code, (line,) = check(tmp_path)
    place, ratio, *rest = line.split()
    assert code == 1 and place == "sub/copied.py:_finalize_manager"
    assert 75 <= int(ratio.removesuffix("%")) <= 100
    assert rest == ["like", "multiprocessing.managers.BaseManager._finalize_manager"]


def test_the_package_passes():
    assert check() == (0, [])
