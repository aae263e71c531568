"""The fork server: a small single-threaded process; children of forkserver are its copies.

This module decides what the server imports and what a child does first. The engine starts the
server, sends it requests and follows its children. Code that runs between a request and the child's
own work must import nothing and touch little memory: it is the whole cost of such a process.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import signal
import sys
from _collections_abc import Callable

from . import popen_fork, process, spawn, util
from ._procession import (
    Birth,
    Child,
    Mailbox,
    arena_fd,
    attach,
    fork_server_pid,
    fork_server_request,
    fork_server_start,
    fork_server_stop,
    take_mail,
)
from ._threads import RLock
from .context import AuthenticationError as AuthenticationError

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = [
    "connect_to_new_process",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
]

#: What children need before they reach the user's function, besides what their parent has loaded of
#: this package.
_CHILD_MODULES = ("procession.reduction", "procession.synchronize", "procession.queues")

#: Settings that the server takes over from the process that starts it. A child's other settings
#: come with the child.
_SETTINGS = (
    "installed",
    "sys_path",
    "sys_argv",
    "dir",
    "orig_dir",
)


class ForkServer:
    """The fork server as its clients see it.

    One server serves the whole family: children use their parent's.
    """

    def __init__(self) -> None:
        # Reentrant: a signal handler may take it in the thread that holds it.
        self._lock = util.free_in_child(RLock())
        self._inherited_fds: list[int] | None = None
        self._preload_modules = ["__main__"]
        self._preload_on_error = "ignore"
        #: How long a child that is forked ahead waits for a request.
        self._spare_seconds = 0.25
        # The server that this process started, and this process's id: a forked child has a copy.
        self._started: tuple[Child, int] | None = None
        #: Settings for servers that may not have read them yet.
        self._settings: list[Mailbox] = []

    @property
    def _forkserver_pid(self) -> int | None:
        return fork_server_pid()

    def _stop(self) -> None:
        """Let the server end; the next child starts another.

        Return when it has ended, or after 5 s if other processes still use it.
        """
        with self._lock:
            fork_server_stop()
            started, self._started = self._started, None
        if started is not None and started[1] == os.getpid():
            started[0].wait(5)
        self._settings.clear()

    def set_forkserver_preload(self, modules_names: list[str], *, on_error: str = "ignore") -> None:
        """Set the modules that the server imports when it starts.

        `on_error`, for a module that cannot be imported: "ignore", "warn" or "fail".
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        self._preload_modules = modules_names
        self._preload_on_error = on_error

    def get_inherited_fds(self) -> list[int] | None:
        """Return the descriptors that this process's parent passed.

        None if it is not the server's child.
        """
        return self._inherited_fds

    def request(self, token: int, fds: list[int]) -> Child:
        """Request a child for the mailbox `token` from the server, with duplicates of `fds`."""
        fds = [popen_fork.own_sentinel(), *fds]
        child = fork_server_request(token, fds)
        if child is None:
            self.ensure_running()
            child = fork_server_request(token, fds)
        if child is None:
            error = EOFError("the fork server ended before it could start a child")
            if hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(
                    "Forkserver process may have crashed during module preloading. Check stderr,"
                    " and what set_forkserver_preload() has it import."
                )
            raise error
        return child

    def connect_to_new_process(self, fds: list[int]) -> tuple[int, int]:
        """Raise NotImplementedError.

        Unlike the standard library's server, this one takes no requests over a pipe.
        """
        raise NotImplementedError("procession's fork server is asked through Process.start()")

    def ensure_running(self) -> None:
        """Start the server unless the family has one."""
        with self._lock:
            if fork_server_pid() is None:
                with Birth():
                    fork_server_start(self._launch)

    def _launch(self, server_fd: int) -> Child:
        settings: dict[str, Any] = {"sigint_blocked": util.is_blocked(signal.SIGINT)}
        if self._preload_modules:
            data = spawn.get_preparation_data("ignore")
            settings.update((key, data[key]) for key in _SETTINGS if key in data)
            settings["main_path"] = data.get("init_main_from_path")
            settings["main_name"] = data.get("init_main_from_name")
        settings["preload"] = self._preload_modules
        settings["on_error"] = self._preload_on_error
        settings["spare_seconds"] = self._spare_seconds
        # A copy, because other threads may import modules meanwhile.
        loaded = (name for name in list(sys.modules) if name.startswith("procession."))
        settings["own"] = sorted({*_CHILD_MODULES, *loaded})
        if util._neighbour("managers") is not None:
            settings["own"].append(
                "multiprocessing.process"
            )  # as `spawn.prepare` does in each child
        mailbox = Mailbox(settings)
        # A list, because a signal handler may start a server in between: each needs its own
        # settings.
        self._settings.append(mailbox)
        arena = arena_fd()
        call = f"main(arena_fd={arena}, server_fd={server_fd}, mailbox={mailbox.token})"
        command = spawn.interpreter_running(
            # Tools tell the server from its children by the name after the hash sign.
            f"from procession.forkserver import main; {call}  # multiprocessing.forkserver"
        )
        server = util.start_program(command, [arena, server_fd])
        mailbox.address(server.pid)
        self._started = (server, os.getpid())
        return server


def main(arena_fd: int, server_fd: int, mailbox: int) -> None:
    """Run the server until no process is left that could send a request.

    The mailbox holds what to import.
    """
    attach(arena_fd)
    process.current_process().name = "ForkServer"
    try:
        wanted = take_mail(mailbox)
    except ValueError:
        return  # the interrupted start of this server has freed the mailbox: no request will come
    try:
        spawn.let_interrupts_in(wanted)
        _preload(wanted)
        util._close_stdin()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        sys.exit(1)  # Ctrl-C reaches the program too, which reports it
    # Every child shares the objects that exist now: the collector must neither visit nor write to
    # them there.
    gc.collect()
    gc.freeze()
    _serve(server_fd, wanted["spare_seconds"])


def _preload(settings: dict[str, Any]) -> None:
    """Import what the children will need: the package's own modules first, then the user's."""
    if settings.get("installed"):
        # Before any module can import `multiprocessing`.
        from ._compat.install import install

        install(settings["installed"] == "executor")
    for name in settings["own"]:
        importlib.import_module(name)
    try:
        spawn.prepare(settings)
    except OSError:
        pass  # the working directory is gone: each child meets the error again
    main_path, main_name = settings.get("main_path"), settings.get("main_name")
    _handle_preload(
        settings["preload"], main_path, on_error=settings["on_error"], main_name=main_name
    )


def _handle_preload(
    preload: list[str],
    main_path: str | None = None,
    sys_path: list[str] | None = None,
    sys_argv: list[str] | None = None,
    on_error: str = "ignore",
    *,
    main_name: str | None = None,
) -> None:
    """Import the modules of a list.

    `__main__` is the file `main_path`, or the module `main_name`.
    """
    for given, used in ((sys_argv, sys.argv), (sys_path, sys.path)):
        if given is not None:
            used[:] = given
    for name in sorted(preload, key=lambda name: name != "__main__"):
        if name != "__main__":
            load: Callable[[], object] = functools.partial(importlib.import_module, name)
            what = f"module {name!r}"
            errors: tuple[type[BaseException], ...] = (ImportError,)
        elif main := main_name or main_path:
            load, what = (
                functools.partial(_import_main, main, main_name is None),
                f"__main__ from {main!r}",
            )
            # If these are ignored, each child meets the error again and reports it.
            errors = Exception, SystemExit
        else:
            continue
        try:
            load()
        except errors as error:
            _handle_failure(on_error, what, error)
    util._flush_std_streams()


def _import_main(main: str, is_path: bool) -> None:
    load = spawn.import_main_path if is_path else spawn._fixup_main_from_name
    current = process.current_process()
    current._inheriting = True
    try:
        load(main)
    finally:
        del current._inheriting


def _handle_failure(on_error: str, what: str, error: BaseException) -> None:
    if on_error == "fail":
        raise error
    if on_error == "warn":
        import warnings

        warnings.warn(f"Failed to preload {what}: {error}", ImportWarning, stacklevel=3)


def _serve(server_fd: int, spare_seconds: float) -> None:
    from ._procession import ForkServer

    server = ForkServer(server_fd)
    while (request := server.next()) is not None:
        if not request.hand_over():
            try:
                pid = os.fork()
            except OSError as error:
                request.failed(error.errno)  # type: ignore[arg-type]
                continue
            if pid == 0:
                popen_fork.run_forked(lambda: _serve_one(request))
            request.forked(pid)
        _keep_spare(server, spare_seconds)


def _keep_spare(server: Any, seconds: float) -> None:
    """Fork the next child ahead of its request.

    A program that starts one process mostly starts more. One that is not used for `seconds` leaves.
    """
    spare_slot = server.spare_slot()
    if spare_slot is None:
        return
    try:
        pid = os.fork()
    except OSError:
        return  # the next request meets the error again if it still holds
    if pid == 0:
        popen_fork.run_forked(lambda: _serve_one(spare_slot.wait()))
    spare_slot.taken(pid, seconds)


def _serve_one(request: Any) -> int:
    """Run the requested child."""
    if request is None or not request.in_child():
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent_sentinel, *_forkserver._inherited_fds = request.fds
    return spawn._main(request.token, parent_sentinel)


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
