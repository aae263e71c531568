"""`procession run` and `install()`: only `multiprocessing` itself looks different to a program.

Programs run unchanged, in their own interpreter.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import PACKAGE_FOLDER

#: The file that an installation puts beside the package.
HOOK = (
    pathlib.Path(__file__).resolve().parents[2]
    / "procession.data"
    / "purelib"
    / "procession_run.pth"
)

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


def run_one(flags, args, cwd, input="", **environment):
    """Run the interpreter with `flags` and `args`; return output, errors and exit code."""
    done = subprocess.run(
        [sys.executable, *flags, *args],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={"PYTHONPATH": PACKAGE_FOLDER, "PATH": "/usr/bin:/bin", **environment},
        input=input,
    )
    return done.stdout, done.stderr, done.returncode


def both_ways(args, cwd, flags=(), **more):
    """Run the interpreter with `args`, and `procession run` with the same."""
    run = ["-m", "procession", "run"]
    return run_one(flags, args, cwd, **more), run_one([*flags, *run], args, cwd, **more)


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


# The functions for children are in a module: a child of plain Python's spawn finds none in a main
# module that it cannot import.
ELSEWHERE = (
    "import elsewhere, sys\nif __name__ == '__main__':\n    elsewhere.main(globals())\n    %s\n"
)
ELSEWHERE_MODULE = """
import multiprocessing, os, sys

def show():
    main = sys.modules["__main__"]
    print(multiprocessing.current_process().name, os.getpid() != os.getppid(), sys.argv, sys.path[0], main.__name__,
          getattr(main, "__file__", None), getattr(main.__spec__, "name", None), sys.flags.optimize, flush=True)

def main(scope):
    print(scope["__name__"], scope.get("__file__"), getattr(scope["__spec__"], "name", None), scope["__package__"], sys.argv, sys.path[0], __debug__)
    multiprocessing.set_start_method(os.environ["METHOD"])
    child = multiprocessing.Process(target=show)
    child.start()
    child.join()
    print(child.exitcode)
    with multiprocessing.Pool(1) as pool:
        print(pool.map(abs, [-1, 2]))
"""

WAYS = {
    "module": ["-m", "program", "-c", "x"],
    "package": ["-m", "package", "x"],
    "submodule": ["-m", "package.part"],
    "folder": ["package", "x"],
    "archive": ["app.pyz", "x"],
    "code": ["-c", ELSEWHERE % "1 / 0", "x"],
    "stdin -": ["-", "x"],
    "stdin": [],
}


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """Make a folder with the programs of `WAYS`."""
    folder = tmp_path_factory.mktemp("ways")
    (folder / "elsewhere.py").write_text(ELSEWHERE_MODULE)
    (folder / "program.py").write_text(ELSEWHERE % "raise KeyError('lost')")
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    for name, ending in (("__main__.py", "sys.exit(3)"), ("part.py", "sys.exit('words')")):
        (folder / "package" / name).write_text(ELSEWHERE % ending)
    (folder / "package" / "elsewhere.py").write_text(ELSEWHERE_MODULE)
    with zipfile.ZipFile(folder / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", ELSEWHERE % "")
        archive.writestr("elsewhere.py", ELSEWHERE_MODULE)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_start_a_program(ways, method, way):
    text = ELSEWHERE % "sys.exit(7)" if way.startswith("stdin") else ""
    if text and method != "fork":
        # With plain Python the child looks for a file named "<stdin>".
        done = run_one(["-m", "procession", "run"], WAYS[way], ways, input=text, METHOD=method)
        assert done[0].endswith("\n0\n[1, 2]\n") and done[1:] == ("", 7)
        return
    plain, ours = both_ways(WAYS[way], ways, METHOD=method, input=text)
    assert ours == plain
    assert "[1, 2]\n" in ours[0]


@pytest.mark.parametrize(
    "args", [["-m", "no_such"], ["no_such.py"], ["-c", "x = ("], ["-m", "package.no"]]
)
def test_what_cannot_run(ways, args):
    plain, ours = both_ways(args, ways)
    assert ours == plain and plain[2] != 0


def test_flags_of_the_interpreter_are_kept(ways):
    for flags in (["-O"], ["-u", "-OO", "-B"], ["-X", "utf8"]):
        plain, ours = both_ways(["program.py"], ways, flags=flags, METHOD="spawn")
        assert ours == plain


def test_i_leaves_one_in_the_program(ways):
    lines = "print(__name__, sys.argv)\n"
    plain, ours = both_ways(["program.py", "x"], ways, flags=["-i"], METHOD="fork", input=lines)
    assert ours == plain
    assert "__main__ ['program.py', 'x']" in ours[0]


BENEATH = """
import multiprocessing, subprocess, sys

ASK = "import sys; early = 'procession' in sys.modules; import multiprocessing.pool as p, multiprocessing as m; print(early, p.__name__, m.get_start_method(), sys.path[-1])"

def ask(*command):
    subprocess.run([*command, "-c", ASK], check=True)

if __name__ == "__main__":
    child = multiprocessing.Process(target=ask, args=sys.argv[1:])
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


def test_interpreters_beneath_run_procession_too(run_program, method):
    plain = run_program(BENEATH, sys.executable, under="plain")
    flags = ["-m", "procession", "run", "--start-method", method]
    done = run_program(BENEATH, sys.executable, flags=flags)
    _, _, _, last = plain.stdout.split()
    assert (done.stdout, done.stderr) == (f"False procession.pool {method} {last}\n", "")


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    """Return the interpreters of two virtual environments, the first with procession installed."""
    folder = tmp_path_factory.mktemp("environments")
    pythons = []
    for name in ("ours", "other"):
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(folder / name)],
            check=True,
            timeout=60,
        )
        pythons.append(str(folder / name / "bin" / "python"))
    (site,) = (folder / "ours" / "lib").glob("python*/site-packages")
    (site / "procession").symlink_to(os.path.join(PACKAGE_FOLDER, "procession"))
    shutil.copy(HOOK, site)
    return pythons


@pytest.mark.parametrize("flags", [[], ["-E"], ["-I"]], ids=str)
def test_installed_the_flags_e_and_i_do_not_keep_it_out(tmp_path, environments, flags):
    ours, other = environments
    (tmp_path / "program.py").write_text(BENEATH)
    # Only what is installed counts here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for interpreter, expected in ((ours, "procession.pool spawn"), (other, "multiprocessing.pool")):
        done = subprocess.run(
            [
                ours,
                "-m",
                "procession",
                "run",
                "--start-method",
                "spawn",
                "program.py",
                interpreter,
                *flags,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=environment,
        )
        assert done.stdout.startswith(f"False {expected}") and done.stderr == ""


def test_a_sitecustomize_of_the_users_has_its_turn(run_program, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("seen = True")
    text = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sitecustomize, multiprocessing as m; print(sitecustomize.seen, m.__name__)'])"
    done = run_program(
        text, under="run", env={"PYTHONPATH": f"{PACKAGE_FOLDER}:{tmp_path / 'own'}"}
    )
    assert (done.stdout, done.stderr) == ("True procession\n", "")


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
