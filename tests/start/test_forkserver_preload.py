"""What the fork server does about modules that it cannot import.

It does nothing, warns, or ends, and then the caller learns of it.
"""

from __future__ import annotations

import pytest

from procession import forkserver

PROGRAM = """
import multiprocessing
import sys


def answer():
    print("child", flush=True)


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(sys.argv[2:], on_error=sys.argv[1])
    child = context.Process(target=answer)
    try:
        child.start()
    except (EOFError, ConnectionError) as error:
        print("broken", *getattr(error, "__notes__", ()))
    else:
        child.join()
        print(child.exitcode)
"""


def test_ignored(run_program):
    done = run_program(PROGRAM, "ignore", "no_such_module", "os", under="import")
    assert (done.stdout, done.stderr) == ("child\n0\n", "")


def test_warned_of(run_program):
    flags = ["-W", "always"]
    done = run_program(PROGRAM, "warn", "no_such_module", under="import", flags=flags)
    assert done.stdout == "child\n0\n"
    assert "ImportWarning: Failed to preload module 'no_such_module'" in done.stderr


def test_failed(run_program):
    done = run_program(PROGRAM, "fail", "os", "no_such_module", under="import")
    assert done.stdout.startswith("broken")
    assert done.stderr.count("ModuleNotFoundError: No module named 'no_such_module'") == 1


def test_what_can_be_imported_is(run_program):
    done = run_program(PROGRAM, "fail", "os", "__main__", under="import")
    assert done.stdout == "child\n0\n"


@pytest.mark.parametrize("on_error", ["ignore", "warn", "fail"])
def test_a_main_module_that_raises(tmp_path, on_error):
    main = tmp_path / "program.py"
    main.write_text("raise RuntimeError('not today')")

    def preload():
        forkserver._handle_preload(["__main__"], main_path=str(main), on_error=on_error)

    if on_error == "fail":
        with pytest.raises(RuntimeError, match="not today"):
            preload()
    elif on_error == "warn":
        with pytest.warns(ImportWarning, match="Failed to preload __main__ .*not today"):
            preload()
    else:
        preload()


def test_other_words_are_refused():
    with pytest.raises(ValueError, match="on_error must be 'ignore', 'warn', or 'fail'"):
        forkserver.set_forkserver_preload(["os"], on_error="shrug")
