"""The program's code on a node that does not have it, and classes that go by value."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import procession
from procession._cluster import shipping

from ..conftest import PACKAGE_FOLDER
from ..waiting import LONG, until


@pytest.fixture
def program(tmp_path):
    """A folder with a program, and the settings of a driver that runs it."""
    folder = tmp_path / "program"
    (folder / "package").mkdir(parents=True)
    (folder / "venv").mkdir()
    (folder / "main.py").write_text("import package.part\n")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "part.py").write_text("VALUE = 1\n")
    (folder / "data.bin").write_bytes(b"not code")
    (folder / "venv" / "pyvenv.cfg").write_text("")
    (folder / "venv" / "library.py").write_text("")
    return {
        "init_main_from_path": str(folder / "main.py"),
        "sys_path": [str(folder), "/somewhere/else"],
        "dir": str(tmp_path),
        "orig_dir": str(tmp_path),
    }


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    monkeypatch.setattr(shipping, "_folders", [])
    monkeypatch.setattr(shipping, "_made", [])
    yield
    shipping.remove()
    assert not any(map(os.path.exists, shipping._made))


def _walk(folder):
    return {
        os.path.relpath(os.path.join(where, name), folder)
        for where, _, names in os.walk(folder)
        for name in names
    }


def test_code_is_unpacked_where_it_is_missing(program):
    packed = shipping.pack(program, None)
    shutil.rmtree(os.path.dirname(program["init_main_from_path"]))
    settings = shipping.unpack(packed)
    main = settings["init_main_from_path"]
    folder = os.path.dirname(main)
    assert _walk(folder) == {"main.py", "package/__init__.py", "package/part.py"}
    assert settings["sys_path"][:2] == [folder, "/somewhere/else"]
    assert settings["dir"] == program["dir"]
    assert shipping.localized(program)["init_main_from_path"] == main


def test_what_was_unpacked_stays_until_its_process_ends(program, monkeypatch):
    monkeypatch.setattr(shipping, "_watched_ends", [])
    packed = shipping.pack(program, None)
    shutil.rmtree(os.path.dirname(program["init_main_from_path"]))
    shipping.unpack(packed)
    [folder], [end] = shipping._made, shipping._watched_ends
    with open(end, "wb") as watched:
        watched.write(bytes(1 << 20))  # more than fits: what removes the folder reads, and waits
        assert os.listdir(folder)
    until(lambda: not os.path.exists(folder))


def test_code_that_is_there_is_used(program):
    settings = shipping.unpack(shipping.pack(program, None))
    assert settings["init_main_from_path"] == program["init_main_from_path"]
    assert shipping._made == []


def test_the_folder_that_ray_ships_is_used(program, tmp_path, monkeypatch):
    folder = os.path.dirname(program["init_main_from_path"])
    packed = shipping.pack(program, folder)
    monkeypatch.chdir(shutil.move(folder, tmp_path / "as_ray_unpacked_it"))
    settings = shipping.unpack(packed)
    assert settings["init_main_from_path"] == str(tmp_path / "as_ray_unpacked_it" / "main.py")
    assert shipping._made == []


def test_too_much_code_is_left_out(program, monkeypatch):
    monkeypatch.setattr(shipping, "_MOST_FILES", 2)
    _folder, files = shipping.pack(program, None)["shipped"]
    assert list(files) == ["main.py", "package/__init__.py"]


PROGRAM = """
import procession
from tests.cluster.loopback import Loopback

GREETING = "a variable of the main module"

def local_class():
    class Local(procession.Process):
        def __init__(self, queue):
            self.queue = queue  # pickled before what the base sets
            super().__init__()

        def run(self):
            self.queue.put(GREETING)

    return Local

def refuse():
    raise ImportError("not on this node")

class NotThere:
    def __reduce__(self):
        return refuse, ()

if __name__ == "__main__":
    cluster = Loopback()
    procession.set_start_method("ray")
    queue = procession.Queue()
    for child in local_class()(queue), procession.Process(target=print, args=(NotThere(),)):
        child.start()
        child.join()
        print(child.exitcode)
    print(queue.get())
    cluster.close()
"""


#: Ray loads the standard library's package, too.
WITH_NEIGHBOUR = """
import multiprocessing
import multiprocessing.managers
import procession
from tests.cluster.loopback import Loopback

def key():
    return bytes(multiprocessing.current_process().authkey)

def tell(queue, depth):
    queue.put((depth, key()))
    if depth:
        child = procession.Process(target=tell, args=(queue, depth - 1))
        child.start()
        child.join()

if __name__ == "__main__":
    cluster = Loopback()
    procession.set_start_method("ray")
    queue = procession.Queue()
    child = procession.Process(target=tell, args=(queue, 1))
    child.start()
    child.join()
    assert [queue.get(), queue.get()] == [(1, key()), (0, key())]
    print(child.exitcode)
    cluster.close()
"""


def _run(tmp_path, program):
    path = tmp_path / "program.py"
    path.write_text(program)
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    return subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGE_FOLDER, root])},
        capture_output=True,
        text=True,
        timeout=LONG,
    )


def test_what_goes_by_value_and_what_fails_before_the_program_runs(tmp_path):
    done = _run(tmp_path, PROGRAM)
    assert done.stdout == "0\n1\na variable of the main module\n"
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("ImportError: not on this node\n")


def test_the_standard_librarys_key_reaches_other_nodes(tmp_path):
    done = _run(tmp_path, WITH_NEIGHBOUR)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_without_ray_one_line_says_so(run_program):
    done = run_program(
        "import sys; sys.modules['ray'] = None\nimport procession\n"
        "try: procession.get_context('ray')\nexcept ModuleNotFoundError as error: print(error)",
        timeout=LONG,
    )
    assert done.stdout == "the start method 'ray' needs Ray: pip install 'procession[ray]'\n"


def test_options_are_checked():
    with pytest.raises(TypeError, match="no option 'nodes'"):
        procession.get_context("ray", nodes=3)
    with pytest.raises(ValueError, match="strategy"):
        procession.get_context("ray", strategy="random")
    with pytest.raises(TypeError, match="only 'ray' has"):
        procession.get_context("fork", address="auto")
