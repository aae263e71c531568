"""What a child with its own interpreter needs: command line, the parent's settings and main module.

The settings and the process object wait for the child in shared memory as mailboxes; the command line
only names them. The start methods spawn and forkserver use this module.
"""

from __future__ import annotations

# `signal` makes enumerations of its numbers, which takes a while.
import _signal  # type: ignore[import-not-found]
import os
import sys

from . import context, process, util
from ._start import main_module
from ._start.main_module import check_not_importing as _check_not_importing_main
from ._start.main_module import old_main_modules as old_main_modules
from .context import _force_start_method, _spawning, get_spawning_popen, set_spawning_popen

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

get_start_method = context._default_context.get_start_method
set_start_method = context._default_context.set_start_method

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]

#: Whether this is a frozen Windows executable, or a Windows service.
WINEXE = WINSERVICE = False

_python_exe: bytes | None = os.fsencode(sys.executable) if sys.executable else None

#: The folder of this package: a child started with -S, -E or -I would not find it by itself.
PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: The folder is on the path for this one import only, so that nothing else in it shadows another
#: module.
_FIND = f"import sys; sys.path.insert(0, {PACKAGE_FOLDER!r}); import procession; del sys.path[0]; "


def set_executable(exe: str | bytes | os.PathLike[str] | None) -> None:
    """Set the interpreter that children run."""
    global _python_exe
    _python_exe = None if exe is None else os.fsencode(exe)


def get_executable() -> bytes | None:
    """Return the path of the interpreter that children run."""
    return _python_exe


def is_forking(argv: list[str]) -> bool:
    """Return whether a command line is that of a child."""
    return len(argv) >= 2 and argv[1] == "--multiprocessing-fork"


def freeze_support() -> None:
    """Run the child, or other process of this package, that a frozen executable was started as.

    Then exit. Otherwise do nothing.
    """
    if is_forking(sys.argv):
        items = (arg.split("=") for arg in sys.argv[2:])
        numbers: dict[str, Any] = {
            name: None if value == "None" else int(value) for name, value in items
        }
        spawn_main(**numbers)
        sys.exit()
    if getattr(sys, "frozen", False) and sys.argv[-2:-1] == ["-c"]:
        code = sys.argv[-1]
        if code.startswith(_FIND):
            exec(code, {"__name__": "__main__"})
            sys.exit()


def get_command_line(**kwds: int | None) -> list[str]:
    """Return the command line of a child that calls `spawn_main` with these arguments."""
    if getattr(sys, "frozen", False):
        return [
            sys.executable,
            "--multiprocessing-fork",
            *(f"{name}={value!r}" for name, value in kwds.items()),
        ]
    call = f"spawn_main({', '.join(f'{name}={value!r}' for name, value in kwds.items())})"
    return [
        *interpreter_running(f"from procession.spawn import spawn_main; {call}"),
        "--multiprocessing-fork",
    ]


def interpreter_running(code: str) -> list[str]:
    """Return the command line of an interpreter, with this one's flags, that runs `code`.

    The code can import this package.
    """
    executable = get_executable()
    if executable is None:
        raise RuntimeError(
            "the path of the interpreter is not known: say multiprocessing.set_executable(path)"
        )
    return [os.fsdecode(executable), *util._args_from_interpreter_flags(), "-c", _FIND + code]


def spawn_main(
    arena_fd: int,
    mailbox: int,
    parent_fd: int | None = None,
    fork_server_fd: int | None = None,
    fork_server_pid: int | None = None,
) -> None:
    """Run the child: join the family over the descriptor `arena_fd`, and do what the mailbox says.

    `parent_fd` becomes readable when the parent ends. `fork_server_fd` and `fork_server_pid` lead to the
    family's fork server.
    """
    assert is_forking(sys.argv), "Not forking"
    from ._procession import attach, attach_fork_server, note_exit

    code = 1
    try:
        attach(arena_fd)
        if fork_server_fd is not None and fork_server_pid is not None:
            attach_fork_server(fork_server_fd, fork_server_pid)
        for fd in (parent_fd, fork_server_fd):
            if fd is not None:
                os.set_inheritable(fd, False)
        try:
            code = _main(mailbox, parent_fd)
        finally:
            _hide_own_interrupts()
            note_exit(code & 0xFF)
    except KeyboardInterrupt:
        pass
    sys.exit(code)


def _hide_own_interrupts() -> None:
    """Do not report an interrupt of the package's own work at the interpreter's end.

    One that arrives in a function of the program is reported by the hook that the program has.
    """
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt and _is_own(unraisable.exc_value):
            return
        report(unraisable)

    sys.unraisablehook = hook


def _is_own(error: BaseException) -> bool:
    """Return whether this package or `threading` was at work, and nothing of the program."""
    traceback = error.__traceback__
    if traceback is None:
        return False
    module = traceback.tb_frame.f_globals.get("__name__") or ""
    own = module.partition(".")[0] in (__name__.partition(".")[0], "threading")
    return own and not process._came_to_the_program(error)


def let_interrupts_in(settings: dict[str, Any]) -> None:
    """Unblock SIGINT, which is blocked when programs are started.

    It stays blocked if the parent blocks it too. Code of the program runs only after this, and
    finds the handler that any interpreter has.
    """
    if not settings.get("sigint_blocked"):
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {_signal.SIGINT})


def _main(mailbox: int, parent_sentinel: int | None) -> int:
    from ._procession import expect_mail, take_mail

    current = process.current_process()
    current._inheriting = True
    try:
        try:
            preparation_data, process_mailbox = take_mail(mailbox)
            expect_mail(process_mailbox)  # it is taken late: the parent may have ended by then
        except ValueError:
            if not _has_ended(parent_sentinel):
                raise
            return 1  # before it handed the mailbox over to this process: no process knows this one
        let_interrupts_in(preparation_data)
        prepare(preparation_data)
        if process.main_state.at_import is None:
            process.main_state.at_import = {}  # there is no main module to import
        self = take_mail(process_mailbox)
    except main_module.MainNotGuarded as error:
        sys.stderr.write(f"RuntimeError: {error}\n")
        util._flush_std_streams()
        return 1
    except KeyboardInterrupt:
        # The target has not begun. Ctrl-C reaches the parent too, which reports it.
        util._flush_std_streams()
        return 1
    finally:
        del current._inheriting
    util._name_log_records()
    return self._bootstrap(parent_sentinel)


def _has_ended(sentinel: int | None) -> bool:
    import select

    if sentinel is None:
        return False
    poll = select.poll()
    poll.register(sentinel, select.POLLIN)
    return bool(poll.poll(0))


class SpawnRequest:
    """A process object and this process's settings, packed for a child.

    Keep it until the child has ended.
    """

    def __init__(self, popen: Any, process_obj: process.BaseProcess) -> None:
        from ._procession import Mailbox, refresh_main

        settings = get_preparation_data(process_obj._name)
        refresh_main()  # a new receiver, which has what it imports
        # Not None in a signal handler that has interrupted another start.
        before = get_spawning_popen()
        try:
            set_spawning_popen(popen)
            self._process = Mailbox(process_obj)
            self._all = Mailbox((settings, self._process.token))
        finally:
            _spawning.popen = before  # no signal handler runs before this
            set_spawning_popen(before)
        self.token: int = self._all.token

    def address(self, pid: int) -> None:
        """Make the request outlive this process: it now belongs to the child, process `pid`."""
        # In this order: a child that finds the settings finds the process object too.
        self._process.address(pid)
        self._all.address(pid)


#: The settings of a program on another node, which the children of this process have instead of
#: this process's: it is a cluster's agent.
_adopted: dict[str, Any] | None = None


def adopt(settings: dict[str, Any]) -> None:
    """Start children, and the fork server, as the program would whose settings these are."""
    global _adopted
    _adopted = settings


def get_preparation_data(name: str) -> dict[str, Any]:
    """Return what a child called `name` must know before it unpickles its process object."""
    _check_not_importing_main()
    if _adopted is not None:
        return {**_adopted, "name": name, "authkey": process.current_process().authkey}
    data: dict[str, Any] = {
        "name": name,
        "authkey": process.current_process().authkey,
        "log_to_stderr": util._log_to_stderr,
        "sys_path": [process.ORIGINAL_DIR if folder == "" else folder for folder in sys.path],
        "sys_argv": sys.argv,
        "orig_dir": process.ORIGINAL_DIR,
        "dir": os.getcwd(),
        "start_method": get_start_method(allow_none=True),
        "installed": context._stands_in,
        "sigint_blocked": util.is_blocked(_signal.SIGINT),
    }
    # Only proxies need it, and loading that library costs a child half of its start.
    theirs = util._neighbour("managers") and util._neighbour("process")
    if theirs is not None:
        data["neighbour_key"] = process.AuthenticationString(theirs.current_process().authkey)
    if util._logger is not None:
        from . import _logging

        data["log_level"] = util._logger.getEffectiveLevel()
        data["log_files"] = _logging.files(util._logger)
    main_module = sys.modules["__main__"]
    main_name = getattr(getattr(main_module, "__spec__", None), "name", None)
    if main_name is not None:
        data["init_main_from_name"] = main_name
    else:
        main_path = process.path_of_main()
        if main_path is not None and main_path != "<stdin>":
            if process.ORIGINAL_DIR is not None:
                main_path = os.path.join(process.ORIGINAL_DIR, main_path)
            data["init_main_from_path"] = os.path.normpath(main_path)
    return data


def _stand_in(how: str | None) -> None:
    if how:
        from ._compat.install import install

        install(how == "executor")


def _use_start_method(method: str | None) -> None:
    if method is not None:
        _force_start_method(method)


#: How a child takes over the settings that `get_preparation_data` names, in this order. The main
#: module follows.
_TAKE_OVER: dict[str, Any] = {
    "installed": _stand_in,
    "name": lambda name: setattr(process.current_process(), "name", name),
    "authkey": lambda key: setattr(process.current_process(), "authkey", key),
    "log_to_stderr": lambda wanted: wanted and util.log_to_stderr(),
    "log_files": lambda paths: [util.log_to_file(path) for path in paths],
    "log_level": lambda level: util.get_logger().setLevel(level),
    "sys_path": lambda path: setattr(sys, "path", path),
    "sys_argv": lambda argv: setattr(sys, "argv", argv),
    "dir": lambda folder: os.chdir(folder),
    "orig_dir": lambda folder: setattr(process, "ORIGINAL_DIR", folder),
    "neighbour_key": util._introduce_neighbour,
    "start_method": _use_start_method,
}


def prepare(data: dict[str, Any]) -> None:
    """Make this process like its parent, as far as `get_preparation_data` described it.

    No code of the user runs before this.
    """
    for setting, take_over in _TAKE_OVER.items():
        if setting in data:
            take_over(data[setting])
    if "init_main_from_name" in data:
        _fixup_main_from_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        _fixup_main_from_path(data["init_main_from_path"])


def _fixup_main_from_name(mod_name: str) -> None:
    current_main = sys.modules["__main__"]
    # The `__main__` of a package, folder or archive is code for the program alone, by convention. A
    # child needs nothing from it.
    if mod_name == "__main__" or mod_name.endswith(".__main__"):
        return
    # The fork server has imported it already.
    if getattr(current_main.__spec__, "name", None) == mod_name:
        return
    from importlib.util import find_spec

    spec = find_spec(mod_name)
    code = spec.loader.get_code(mod_name) if spec and spec.loader else None  # type: ignore[attr-defined]
    if spec is None or code is None:
        raise ImportError(f"no code found for the main module {mod_name}", name=mod_name)
    attributes = {
        "__file__": spec.origin,
        "__cached__": spec.cached,
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }
    main_module.import_main(code, attributes)


def _fixup_main_from_path(main_path: str) -> None:
    current_main = sys.modules["__main__"]
    # IPython's start script has no guard; it is treated like a `__main__.py`.
    if os.path.splitext(os.path.basename(main_path))[0] == "ipython":
        return
    # The fork server has imported it already.
    if getattr(current_main, "__file__", None) == main_path:
        return
    attributes = dict.fromkeys(("__cached__", "__loader__", "__spec__"), None)
    main_module.import_main(
        main_module.read_code(main_path), {**attributes, "__file__": main_path, "__package__": ""}
    )


def import_main_path(main_path: str) -> None:
    """Import the file `main_path` as the main module."""
    _fixup_main_from_path(main_path)
