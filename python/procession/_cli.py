"""The `procession` command: run a program with procession standing in for `multiprocessing`.

The program must not see the difference: exit code, `sys.argv`, `sys.path`, tracebacks and
`__main__` are the same as without the command. The commands that look at running programs are in
Rust, the same code as in the crate `procession-cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType, TracebackType

from . import context

__all__: list[str] = []

USAGE = """\
usage: procession run [--start-method fork|spawn|forkserver|ray] [--cluster ADDRESS] [--executor] [--trace FILE] [script.py | folder | archive | -m module | -c code | -] [args...]

Run a Python program in which `import multiprocessing` means procession, here and in all it starts; with --executor,
concurrent.futures.ProcessPoolExecutor is procession's too. With --cluster, its processes run on the nodes of the Ray cluster at ADDRESS:
whatever ray.init(address=...) takes, such as auto or head:6379. With --trace, what its processes do is written to FILE, as procession
trace does. Without a program, or with -, it is read from standard input. Options of
the interpreter come first: python -O -m procession run script.py.

To see what running programs do, from outside:

  procession ps                list the families of processes of this user
  procession dump [PID]        what each process waits for, what holds each lock, how much lies in each queue
  procession top [PID]         the same, live in the terminal
  procession web [PID]         a page for the browser: the same with a graph and time lines
  procession metrics [PID]     its figures, for Prometheus
  procession trace [PID] -o FILE  what happens, written to a file for a viewer of traces
  procession completions SHELL print a script that completes the words of these commands

procession dump --help, for example, says more.
"""

#: The options of `run` that take a value, and what that is.
_TAKES = {"--start-method": "a name", "--cluster": "an address", "--trace": "a file"}
#: The commands that are in Rust.
SIGHT = ("ps", "dump", "top", "web", "metrics", "trace", "completions")


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, by default `sys.argv[1:]`.

    Return the exit code, unless the program exits by itself.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if args and args[0] == "--version":
        from ._procession import __version__

        sys.stdout.write(f"procession {__version__}\n")
        return 0
    if args and args[0] in SIGHT:
        return _look(args)
    if not args:
        return _misused("a command is missing")
    if (word := args.pop(0)) != "run":
        return _misused(f"there is no command {word!r}")
    given: dict[str, str] = {}
    executor = False
    while args and (args[0] == "--executor" or args[0].startswith(tuple(_TAKES))):
        if args[0] == "--executor":
            executor = bool(args.pop(0))
            continue
        option, has_value, value = args.pop(0).partition("=")
        if option not in _TAKES or (not has_value and not args):
            name = next(name for name in _TAKES if option.startswith(name))
            return _misused(f"{name} takes {_TAKES[name]}")
        given[option] = value if has_value else args.pop(0)
    if args and args[0] in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if args and args[0] in ("-m", "-c") and len(args) < 2:
        return _misused(f"{args[0]} takes an argument")
    if args and args[0].startswith("-") and args[0] not in ("-", "-m", "-c"):
        return _misused(f"unknown option {args[0]}")

    from ._compat.install import install_for_run

    address = given.get("--cluster")
    method = given.get("--start-method", None if address is None else "ray")
    if method is not None and method not in (*context._concrete_contexts, "ray"):
        return _misused(f"unknown start method {method!r}")
    if address is not None and method != "ray":
        return _misused("--cluster goes with the start method 'ray' alone")
    install_for_run(None if method == "ray" else method, executor)
    if method == "ray":
        # After `install`, because the cluster's modules may load others that use multiprocessing.
        try:
            options = {} if address is None else {"address": address}
            context._default_context.get_context("ray", **options)
        except ModuleNotFoundError as error:
            sys.stderr.write(f"procession: {error}\n")
            return 1
        context._change_default_method("ray")
    if (file := given.get("--trace")) is not None and not _trace(file):
        return 1
    return _run(_program(args or [""]))


def _trace(file: str) -> bool:
    """Trace this process's family until it exits, after all else that its exit ends."""
    from . import util
    from ._trace import Trace

    trace = Trace(file)
    try:
        trace.__enter__()
    except RuntimeError as error:
        sys.stderr.write(f"procession: {error}\n")
        return False
    util.Finalize(None, trace.__exit__, (None, None, None), exitpriority=-1000)
    return True


def _look(args: list[str]) -> int:
    """Run a command that is in Rust. Ctrl-C ends it at once: no Python code runs that could notice it."""
    import signal

    from ._procession import command

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return command(["procession", *args])
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _misused(reason: str) -> int:
    sys.stderr.write(f"{USAGE}\nprocession: {reason}\n")
    return 2


def _program(args: list[str]) -> Callable[[], None]:
    """Set `sys.argv`, `sys.path` and `__main__` as the interpreter would.

    Return a function that runs the program.
    """
    main_module = ModuleType("__main__")
    main_module.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={})
    if args[0] == "-m":
        sys.argv = ["-m", *args[2:]]
        _put_first(os.getcwd())
        run = _module_runner(args[1], alter_argv=True)
    elif args[0] == "-c":
        sys.argv = ["-c", *args[2:]]
        _put_first("")
        if sys.version_info >= (3, 13):
            # Since 3.13 the interpreter shows the lines of such code in tracebacks.
            import linecache

            lines = args[1].splitlines(keepends=True)
            linecache.cache["<string>"] = (len(args[1]), None, lines, "<string>")
        run = _source_runner(
            main_module, lambda: compile(args[1], "<string>", "exec", dont_inherit=True)
        )
    elif args[0] in ("", "-"):
        sys.argv = args
        _put_first("")
        run = _stdin_runner(main_module)
    else:
        sys.argv = args
        run = _file_runner(main_module, args[0])
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main_module
    return run


def _put_first(folder: str) -> None:
    """Let `folder` take the place on the path that the interpreter gave to the command's folder."""
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path[0:1] = [folder]


def _module_runner(name: str, alter_argv: bool) -> Callable[[], None]:
    import runpy

    return lambda: runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _source_runner(module: ModuleType, code: Callable[[], object]) -> Callable[[], None]:
    from importlib.machinery import BuiltinImporter

    module.__loader__ = BuiltinImporter

    return lambda: exec(code(), module.__dict__)  # type: ignore[arg-type]


def _stdin_runner(module: ModuleType) -> Callable[[], None]:
    if not sys.stdin.isatty():
        module.__file__ = "<stdin>"
        return _source_runner(
            module, lambda: compile(sys.stdin.read(), "<stdin>", "exec", dont_inherit=True)
        )

    def converse() -> None:
        import code

        try:
            import readline  # noqa: F401 - lines can be edited
        except ImportError:
            pass
        banner = f"Python {sys.version} on {sys.platform}, with procession as multiprocessing"
        code.interact(banner, local=module.__dict__, exitmsg="")

    return converse


def _file_runner(module: ModuleType, script: str) -> Callable[[], None]:
    from importlib.machinery import SourceFileLoader
    from pkgutil import get_importer, read_code

    path = os.path.abspath(script)
    importer = get_importer(path)
    if (importer is not None and not os.path.isfile(path)) or type(
        importer
    ).__name__ == "zipimporter":
        sys.path[0:1] = [path]
        return _module_runner("__main__", alter_argv=False)
    _put_first(os.path.dirname(os.path.realpath(script)))
    module.__file__ = path
    module.__dict__["__cached__"] = None
    module.__loader__ = SourceFileLoader("__main__", path)

    def run() -> None:
        try:
            file = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            sys.stderr.write(
                f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n"
            )
            sys.exit(2)
        with file:
            code = read_code(file)
            if code is None:
                file.seek(0)
                code = compile(file.read(), path, "exec", dont_inherit=True)
        exec(code, module.__dict__)

    return run


def _run(program: Callable[[], None]) -> int:
    """Run the program; the report of an uncaught exception leaves out the frames of this module."""
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        _report_without_own_frames(error)
        raise
    return 0


def _report_without_own_frames(error: BaseException) -> None:
    # The interpreter itself must report the error and end, because only it handles Ctrl-C right. So
    # its hook makes the cut.
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    hook = sys.excepthook

    def report(kind: type[BaseException], value: BaseException, _: TracebackType | None) -> None:
        hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = report
