"""`procession run` and `install()`: the program cannot tell, except by what `multiprocessing` is."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import pytest
from conftest import PACKAGE_FOLDER

SHOW = """
import multiprocessing, sys, os

def show():
    import multiprocessing.process, multiprocessing.context
    from concurrent.futures import process as futures
    print(multiprocessing.current_process().name, __name__ in ("__main__", "__mp_main__"), sys.argv, sys.path[0],
          multiprocessing.process is sys.modules[type(multiprocessing.current_process()).__mro__[-2].__module__],
          futures.mp is multiprocessing, flush=True)

if __name__ == "__main__":
    print(globals().get("__file__"), getattr(__spec__, "name", None), __package__, sys.argv, sys.path[0])
    show()
    child = multiprocessing.Process(target=show)
    child.start()
    child.join()
    print(child.exitcode)
    %s
"""


def both_ways(args, cwd, **more):
    """Run the interpreter with `args`, and `procession run` with them."""
    results = []
    for command in ([sys.executable], [sys.executable, "-m", "procession", "run"]):
        done = subprocess.run(
            [*command, *args],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=cwd,
            env={"PYTHONPATH": PACKAGE_FOLDER, "PATH": "/usr/bin:/bin"},
            **more,
        )
        results.append((done.stdout, done.stderr, done.returncode))
    return results


ENDINGS = {
    "nothing": "",
    "exit 3": "sys.exit(3)",
    "exit with words": "sys.exit('words')",
    "exception": "raise KeyError('lost')",
    "chained": "exec('try:\\n 1 / 0\\nexcept ZeroDivisionError:\\n raise KeyError')",
    "ctrl-c": "raise KeyboardInterrupt",
    "signal": "sys.stdout.flush(); os.kill(os.getpid(), 15)",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_script(tmp_path, ending):
    (tmp_path / "program.py").write_text(SHOW % ending)
    plain, ours = both_ways(["program.py", "-x", "--start-method", "y"], tmp_path)
    assert ours == plain


def test_script_elsewhere_and_linked(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "program.py").write_text(SHOW % "")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "program.py")
    for args in (["real/program.py"], ["link.py", "a"], [str(tmp_path / "link.py")]):
        plain, ours = both_ways(args, tmp_path)
        assert ours == plain and plain[2] == 0


def test_module_package_code_stdin_folder_archive(tmp_path):
    (tmp_path / "program.py").write_text(SHOW % "1 / 0")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text(SHOW % "")
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", SHOW % "")
    for args in (
        ["-m", "program", "-c", "x"],
        ["-m", "package", "x"],
        ["-m", "no_such_module"],
        ["package", "x"],
        ["app.pyz", "x"],
        ["-c", SHOW % "", "x"],
        ["no_such_file.py"],
        ["-c", "x = ("],
    ):
        plain, ours = both_ways(args, tmp_path)
        assert ours == plain, args
    plain, ours = both_ways(["-", "x"], tmp_path, input=SHOW % "")
    assert ours == plain and plain[2] == 0


def test_multiprocessing_is_procession_in_every_process(run_program, method):
    done = run_program(
        """
import sys, multiprocessing

def show(depth):
    import multiprocessing.connection, multiprocessing.queues, multiprocessing
    own = [name for name in sys.modules if name.split(".")[0] == "multiprocessing"]
    wrong = [name for name in own if sys.modules[name] is not sys.modules["procession" + name[15:]]]
    print(multiprocessing.__name__, multiprocessing.get_start_method(), wrong, sys.modules["multiprocessing"].__spec__.name, flush=True)
    if depth:
        child = multiprocessing.Process(target=show, args=(depth - 1,))
        child.start()
        child.join()

if __name__ == "__main__":
    show(2)
""",
        under="plain",
        flags=["-m", "procession", "run", "--start-method", method],
    )
    assert (done.stdout, done.stderr) == (f"procession {method} [] procession\n" * 3, "")


def test_the_program_may_choose_another_start_method(run_program):
    text = "import multiprocessing; multiprocessing.set_start_method('spawn'); print(multiprocessing.get_start_method())"
    done = run_program(text, flags=["-m", "procession", "run", "--start-method=forkserver"])
    assert (done.stdout, done.stderr) == ("spawn\n", "")


def test_install(run_program, method):
    done = run_program(
        """
import procession
procession.install()
procession.install()
import multiprocessing.pool, multiprocessing, sys

def show(cls):
    print(cls.__module__, multiprocessing is procession, flush=True)

if __name__ == "__main__":
    assert multiprocessing.pool is procession.pool
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=show, args=(multiprocessing.Process,))
    child.start()
    child.join()
    try:
        import multiprocessing.no_such_module
    except ModuleNotFoundError as error:
        print(error)
""",
        method,
    )
    expected = "procession.context True\nNo module named 'multiprocessing.no_such_module'\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_install_too_late_says_so(run_program):
    done = run_program("import multiprocessing, procession; procession.install()")
    assert "RuntimeError: multiprocessing has been imported already" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["walk"],
        ["run"],
        ["run", "-m"],
        ["run", "--start-method"],
        ["run", "--start-method", "x", "y"],
        ["run", "-z"],
    ],
)
def test_misuse(args):
    done = subprocess.run(
        [sys.executable, "-m", "procession", *args], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stdout == ""
    assert re.match(r"usage: procession run(.|\n)*\nprocession: .+\n$", done.stderr)


def test_help():
    done = subprocess.run(
        [sys.executable, "-m", "procession", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: procession run")
