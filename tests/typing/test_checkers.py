"""Type checkers report the same for programs on procession as for those on the standard library.

tests/typing/usage.py is the program that they check.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

import procession

PACKAGE = pathlib.Path(procession.__file__).parent
TYPING = pathlib.Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="assert_type came in 3.11")


@pytest.fixture
def of_actors(tmp_path):
    """The annotated program about actors, which the standard library does not have."""
    (tmp_path / "procession").symlink_to(PACKAGE)
    (tmp_path / "actors.py").write_text((TYPING / "actors.py").read_text())
    (tmp_path / "pyrightconfig.json").write_text("{}")
    return tmp_path


@pytest.fixture(params=["multiprocessing", "procession"])
def program(request, tmp_path):
    """The annotated program, as it stands and with its import swapped."""
    text = (TYPING / "usage.py").read_text()
    if request.param == "procession":
        text = re.sub(
            r"^import multiprocessing$", "import procession as multiprocessing", text, flags=re.M
        )
        text = re.sub(r"^from multiprocessing", "from procession", text, flags=re.M)
        (tmp_path / "procession").symlink_to(PACKAGE)
    (tmp_path / "usage.py").write_text(text)
    # Its own file, so that one in a parent folder does not count.
    (tmp_path / "pyrightconfig.json").write_text("{}")
    return tmp_path


def check(folder, *command):
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_mypy(program):
    pytest.importorskip("mypy")
    check(
        program,
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir=.mypy_cache",
        "usage.py",
    )


def test_pyright(program):
    pytest.importorskip("pyright")
    check(program, "pyright", "usage.py")


def test_mypy_knows_an_actor_s_methods(of_actors):
    pytest.importorskip("mypy")
    options = "--strict", "--follow-imports=silent", "--cache-dir=.mypy_cache"
    check(of_actors, "mypy", *options, "actors.py")


def test_pyright_knows_an_actor_s_methods(of_actors):
    pytest.importorskip("pyright")
    check(of_actors, "pyright", "actors.py")


def test_an_annotated_program_that_is_wrong_is_refused(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "procession").symlink_to(PACKAGE)
    (tmp_path / "wrong.py").write_text(
        "from procession import Pool, actor, queues\n"
        "items: queues.Queue[int]\n"
        "items.put('text')\n"
        "numbers: list[int] = Pool(2).map(str, [1])\n"
        "class Counter:\n"
        "    def add(self, by: int) -> int: return by\n"
        "counter = actor(Counter)\n"
        "counter.add('text')\n"
        "actor.submit(counter.add, 'text')\n"
        "counter.no_such()\n"
        "actor(Counter, 1)\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "wrong.py"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    wrong = re.findall(r"^wrong.py:(\d+): error", result.stdout, re.M)
    assert wrong == ["3", "4", "8", "9", "10", "11"], result.stdout
