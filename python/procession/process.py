"""The `Process` object: what a child is to do, its identity, and how it ended.

The ``popen_*`` modules start the child; ``context`` decides which of them is used.

The file is long because programs replace its functions here, where the standard library has them.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from _collections_abc import Callable, Iterable, Mapping
from _weakrefset import WeakSet

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

#: From Python 3.13 on a child runs its ``atexit`` functions and logs "shutting down" after
#: "exiting"; before, it does neither.
RUNS_ATEXIT_IN_CHILD = sys.version_info >= (3, 13)

try:
    ORIGINAL_DIR: str | None = os.path.abspath(os.getcwd())
except OSError:
    ORIGINAL_DIR = None


def current_process() -> BaseProcess:
    """Return the process object of the calling process."""
    return _current_process


def active_children() -> list[BaseProcess]:
    """Return the living children of the calling process; this joins those that have ended."""
    _cleanup()
    return list(_children)


def parent_process() -> BaseProcess | None:
    """Return the process object of the parent, None in the family's main process."""
    return _parent_process


def _cleanup() -> None:
    """Reap the children that have ended."""
    if not _children:
        return  # the usual case at a start
    for child in _ended(list(_children)):
        popen = child._popen
        if popen is not None:
            _reaped(child, popen.poll())


def _status_of(of: BaseProcess) -> tuple[str, int | None]:
    """Return a process's state as `repr` shows it, and its exit code once it is known."""
    if of is _current_process:
        return "started", None
    if of._closed:
        return "closed", None
    if of._parent_pid != os.getpid():
        return "unknown", None
    if of._popen is None:
        return "initial", None
    exitcode = of._popen.poll()
    return ("started" if exitcode is None else "stopped"), exitcode


def _reaped(child: BaseProcess, exitcode: int | None) -> bool:
    """Return whether a child has ended, from its exit code; an ended child is no longer listed."""
    if exitcode is None:
        return False
    _children.discard(child)
    return True


def _ended(children: list[BaseProcess]) -> list[BaseProcess]:
    """Return those of the children that may have ended.

    One system call polls them all: every start does this, however many children there are. Where
    that fails, all may have ended. It can fail in any way: a program's own `Popen` has any object as
    its sentinel, eventlet removes `select.poll`, and RLIMIT_NOFILE may now allow fewer descriptors
    than there are children.
    """
    import select

    watched: dict[int, BaseProcess] = {}
    try:
        poll = select.poll()
        for child in children:
            popen = child._popen
            if popen is not None:
                watched[popen.sentinel] = child
                poll.register(popen.sentinel, select.POLLIN)
        return [watched[sentinel] for sentinel, _ in poll.poll(0)]
    except Exception:
        return children


def path_of_main() -> str | None:
    """Return the path of the file that is the main module; None if it is not a file.

    The interpreter forgets `__file__` when the file has run to its end. Threads and exit functions
    may start processes after that.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    # The prompt of `python -i` does not stand in the file.
    if path is None and not sys.flags.interactive:
        path = getattr(getattr(main, "__loader__", None), "path", None)
    return path


def definitions_of_main() -> dict[str, Any]:
    """Return the names of `__main__`, with their values where these are functions or classes.

    `_pickling.by_value` asks what a process had when it began. Other values are None, so that data is not
    kept alive for that.
    """
    kinds = (type, type(_cleanup))
    # A copy, because other threads may define something meanwhile.
    names = sys.modules["__main__"].__dict__.copy()
    return {
        name: value
        if isinstance(value, kinds) or type(value).__name__ == "_lru_cache_wrapper"
        else None
        for name, value in names.items()
    }


class MainState:
    """What this process got as its main module's definitions: see `definitions_of_main`."""

    #: What `__main__` had when this process was forked, None if it was not.
    at_fork: dict[str, Any] | None = None
    #: What importing the main module bound here, None if neither this process nor one that it is a
    #: copy of has imported it.
    at_import: dict[str, Any] | None = None


main_state = MainState()


class BaseProcess:
    """An activity that runs in its own process; the counterpart of `threading.Thread`.

    Pass a `target` to call, or override `run` in a subclass. A daemonic process ends soon after its
    parent was killed, whatever it is doing. Others then finish their work, unless made with
    `die_with_parent`.
    """

    _start_method: str | None = None
    _identity: tuple[int, ...]
    _config: dict[str, Any]
    _die_with_parent = False
    #: True in a child until it has taken over its parent's settings and unpickled its process
    #: object.
    _inheriting = False
    #: Whether this is a manager's server: it runs until its manager ends it.
    _is_server = False

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        raise NotImplementedError

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        die_with_parent: bool = False,
    ) -> None:
        assert group is None, "group argument must be None for now"
        # First: a number is taken even if an argument is refused.
        self._descend_from(_current_process)
        self._target, self._args, self._kwargs = target, tuple(args), dict(kwargs or {})
        self._popen: Any = None
        self._closed = False
        self._name = name or numbered(type(self).__name__, self._identity)
        if daemon is not None:
            self.daemon = daemon
        if die_with_parent:
            self._die_with_parent = True
        _dangling.add(self)

    def _descend_from(self, parent: BaseProcess) -> None:
        """Take a number among the parent's children, and a copy of the parent's settings."""
        self._parent_pid: int | None = os.getpid()
        self._parent_name = parent.name
        self._identity = (*parent._identity, next(_process_counter))
        self._config = dict(parent._config)

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def _check_maker(self, action: str) -> None:
        """Fail unless this object was made in the calling process."""
        assert self._parent_pid == os.getpid(), f"can only {action}"

    def _check_startable(self) -> None:
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        self._check_maker("start a process object created by current process")
        config = _current_process._config
        assert not config.get("daemon") or config.get("nests"), (
            "daemonic processes are not allowed to have children"
        )

    def run(self) -> None:
        """Do the child's work. By default, call the target."""
        if self._target:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        """Start the child.

        This may be called at most once per object, and only in the process that made the object.
        """
        self._check_startable()
        _cleanup()
        from ._procession import Birth

        # An interrupt that arrives before the child is registered here ends the child. An interrupt
        # that arrives when the block has been left finds the child running, and registered.
        with Birth():
            try:
                self._popen = self._Popen(self)
                self._sentinel = self._popen.sentinel
                _children.add(self)
            except BaseException:
                _children.discard(self)
                self._popen = None
                raise
        # The arguments belong to the child now. Kept here, they could keep alive objects that refer
        # to this one.
        del self._target, self._args, self._kwargs

    def interrupt(self) -> None:
        """Send SIGINT to the child, as Ctrl-C does."""
        self._check_closed()
        self._popen.interrupt()

    def terminate(self) -> None:
        """Send SIGTERM to the child, which ends without running its exit functions.

        Its own children live on.
        """
        self._check_closed()
        self._popen.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the child."""
        self._check_closed()
        self._popen.kill()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the child has ended, at most `timeout` seconds.

        `exitcode` tells whether it has.
        """
        self._check_closed()
        self._check_maker("join a child process")
        assert self._popen is not None, "can only join a started process"
        _reaped(self, self._popen.wait(timeout))

    def is_alive(self) -> bool:
        """Return whether the process has started and not yet ended."""
        self._check_closed()
        if self is not _current_process:
            self._check_maker("test a child process")
            return self._popen is not None and not _reaped(self, self._popen.poll())
        return True

    def close(self) -> None:
        """Release the resources of the object. Raises ValueError while the child is running.

        Afterwards most methods raise ValueError.
        """
        popen = self._popen
        if popen is not None and not _reaped(self, popen.poll()):
            raise ValueError(
                "Cannot close a process while it is still running. You should first call join() or terminate()."
            )
        # An interrupt may come between any two of these: then the call can be repeated.
        if popen is not None:
            popen.close()
        self._popen = None
        self.__dict__.pop("_sentinel", None)
        self._closed = True

    @property
    def name(self) -> str:
        """The process's name, for people; it need not be unique."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        assert isinstance(name, str), "name must be a string"
        self._name = name
        if self is _current_process:
            _announce_name(name)

    @property
    def daemon(self) -> bool:
        """Whether the process is terminated, not waited for, when its parent ends.

        Inherited; set it before `start`.
        """
        return self._config.get("daemon", False)

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        assert self._popen is None, "process has already started"
        self._config["daemon"] = daemonic

    @property
    def authkey(self) -> AuthenticationString:
        """The key with which the family's processes prove themselves to one another, as bytes."""
        return self._config["authkey"]

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._config["authkey"] = AuthenticationString(authkey)

    @property
    def exitcode(self) -> int | None:
        """The child's exit code; None before its end, negative for the signal that ended it."""
        self._check_closed()
        return None if self._popen is None else self._popen.poll()

    @property
    def ident(self) -> int | None:
        """The process ID; None before `start`."""
        self._check_closed()
        if self is _current_process:
            return os.getpid()
        return self._popen and self._popen.pid

    pid = ident

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process ends.

        It can be waited for by `connection.wait`, `select` and the like.
        """
        self._check_closed()
        try:
            return self._sentinel
        except AttributeError:
            raise ValueError("process not started") from None

    def __repr__(self) -> str:
        status, exitcode = _status_of(self)
        parts = (
            type(self).__name__,
            f"name={self._name!r}",
            self._popen is not None and f"pid={self._popen.pid}",
            f"parent={self._parent_pid}",
            status,
            exitcode is not None and f"exitcode={_describe_exitcode(exitcode)}",
            self.daemon and "daemon",
        )
        return f"<{' '.join(part for part in parts if part)}>"

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """Run this process in the child, from its birth to the exit code that this returns."""
        from . import util

        running = False
        try:
            self._become_current(parent_sentinel)
            util.info("child process calling self.run()")
            try:
                running = True
                self.run()
                running = False
                exitcode = 0
            finally:
                if not RUNS_ATEXIT_IN_CHILD:
                    util._exit_function()
                    util._end_neighbour()
        except SystemExit as stop:
            if stop.code is None:
                exitcode = 0
            elif isinstance(stop.code, int):
                exitcode = stop.code
            else:
                sys.stderr.write(f"{stop.code}\n")
                exitcode = 1
        except BaseException as error:
            exitcode = 1
            # Ctrl-C reaches the parent too, which reports it.
            silent = isinstance(error, KeyboardInterrupt) and not _came_to_the_program(error)
            if not silent or (running and not _is_a_worker(self._target)):
                import traceback

                # One write, so that the reports of two children do not mix.
                sys.stderr.write(f"Process {self.name}:\n{traceback.format_exc()}")
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            util.info("process exiting with exitcode %d", exitcode)
            util._flush_std_streams()
        return exitcode

    def _become_current(self, parent_sentinel: int | None) -> None:
        global _current_process, _parent_process, _process_counter, _children
        from . import _stdio, context, util

        if self._start_method is not None:
            context._force_start_method(self._start_method)
        _process_counter = itertools.count(1)
        _children = set()
        util._close_stdin()
        _stdio.keep_lines_whole(in_child=True)
        # Kept until the after-fork functions have run: its finalizers must not run in the child
        # before that.
        old_process = _current_process
        _current_process = self
        parent_pid = self._parent_pid
        _parent_process = _ParentProcess(self._parent_name, parent_pid, parent_sentinel)
        place = self._config.get("cluster")
        if place is not None:
            # On another node than its parent, a process has an agent in its place.
            parent_pid = place.arrive(self)
        if threading._HAVE_THREAD_NATIVE_ID:  # type: ignore[attr-defined]
            threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
        _announce_name(self._name)
        # A pool's worker may have children although it is daemonic; but they end with it.
        if self.daemon or self._die_with_parent or self._config.get("nests"):
            _leave_with_parent(parent_pid)
        try:
            self._after_fork()
        finally:
            del old_process

    @staticmethod
    def _after_fork() -> None:
        from . import util

        util._finalizer_registry.clear()
        util._run_after_forkers()
        util._begin_neighbour()


class AuthenticationString(bytes):
    """A key that refuses to be pickled, except for a child that is being started."""

    def __reduce__(self) -> tuple[Any, ...]:
        from . import context

        if context.get_spawning_popen() is not None:
            return AuthenticationString, (bytes(self),)
        raise TypeError(
            "Pickling an AuthenticationString object is disallowed for security reasons"
        )


class _Ancestor(BaseProcess):
    """A process that this one did not start."""

    _identity = ()
    _parent_pid = None
    _popen = None
    _closed = False


class _ParentProcess(_Ancestor):
    """The parent as its child sees it."""

    def __init__(self, name: str, pid: int | None, sentinel: int | None) -> None:
        self._name, self._pid, self._sentinel = name, pid, sentinel
        self._config = {}

    def is_alive(self) -> bool:
        from .connection import wait

        return not wait([self._sentinel], timeout=0)

    @property
    def ident(self) -> int | None:
        return self._pid

    pid = ident

    def join(self, timeout: float | None = None) -> None:
        """Wait until the parent has ended, at most `timeout` seconds."""
        from .connection import wait

        wait([self._sentinel], timeout=timeout)


class _MainProcess(_Ancestor):
    """The family's first process. Its descendants inherit all of `_config`."""

    _name = "MainProcess"

    def __init__(self) -> None:
        self._config = {
            "authkey": AuthenticationString(os.urandom(32)),
            # The family's name, under which its processes find each other. It begins with the pid
            # of the first process.
            "family": f"{os.getpid()}-{os.urandom(8).hex()}",
        }

    def close(self) -> None:
        pass


def numbered(kind: str, identity: tuple[int, ...]) -> str:
    """Return the default name of a process, such as 'Process-1:2'."""
    return f"{kind}-{':'.join(map(str, identity))}"


def _announce_name(name: str) -> None:
    """Write the name into the family's process table, where other processes see it."""
    from ._procession import set_name

    # A name that is made of bytes may have lone surrogates, which are no text to others.
    set_name(name.encode("utf-8", "replace").decode())


def _leave_with_parent(parent_pid: int | None) -> None:
    """End this process soon after its parent has ended, even if it is busy."""
    from ._procession import watch_parent

    if parent_pid is not None:
        watch_parent(parent_pid)


def _came_to_the_program(error: BaseException) -> bool:
    """Return whether a traceback has a line outside this package and the standard library."""
    own = {__name__.partition(".")[0], *sys.stdlib_module_names}
    traceback = error.__traceback__
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] not in own:
            return True
        traceback = traceback.tb_next
    return False


def _is_a_worker(target: Any) -> bool:
    """Return whether a process with this target was started for a pool, executor or manager."""
    return getattr(target, "__globals__", {}).get("__name__") in _MODULES_OF_WORKERS


#: Where the main functions of processes are that the program did not start itself.
_MODULES_OF_WORKERS = (
    f"{__package__}._actor.server",
    f"{__package__}._pool.worker",
    f"{__package__}._managers.base",
    "concurrent.futures.process",
)


def _describe_exitcode(code: int) -> str:
    import signal

    if code < 0:
        try:
            return f"-{signal.Signals(-code).name}"
        except ValueError:
            pass
    return str(code)


_parent_process: BaseProcess | None = None
_current_process: BaseProcess = _MainProcess()
_process_counter = itertools.count(1)
_children: set[BaseProcess] = set()
#: Every living process object of this process, for tests that look for leaks.
_dangling: WeakSet[BaseProcess] = WeakSet()
