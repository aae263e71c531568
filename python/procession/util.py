"""What the other modules share: logger, finalizers, after-fork functions, and the process's end.

Modules that are slow to load (logging, subprocess, tempfile) are loaded where they are used. The
file is long because programs replace its functions here, where the standard library has them.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading  # before atexit.register below: threads end before the package cleans up
import weakref

from . import process
from ._threads import Thread, is_own, report

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = [
    "SUBDEBUG",
    "SUBWARNING",
    "Finalize",
    "ForkAwareLocal",
    "ForkAwareThreadLock",
    "close_all_fds_except",
    "debug",
    "get_logger",
    "get_temp_dir",
    "info",
    "is_exiting",
    "log_to_file",
    "log_to_stderr",
    "register_after_fork",
    "sub_debug",
    "sub_warning",
    "warn",
]

NOTSET = 0
SUBDEBUG = 5
DEBUG = 10
INFO = 20
SUBWARNING = 25
WARNING = 30

LOGGER_NAME = "multiprocessing"
DEFAULT_LOGGING_FORMAT = "[%(levelname)s/%(processName)s] %(message)s"

_logger: Any = None
_log_to_stderr = False


def _log(level: int, msg: str, args: tuple[Any, ...]) -> None:
    if _logger:
        try:
            _logger.log(level, msg, *args, stacklevel=3)
        except BaseException as error:  # of the program's handler
            if not is_own():
                raise
            report(error)


def sub_debug(msg: str, *args: Any) -> None:
    """Log at `SUBDEBUG`; do nothing unless the package's logger is in use."""
    _log(SUBDEBUG, msg, args)


def debug(msg: str, *args: Any) -> None:
    """Log at DEBUG; do nothing unless the package's logger is in use."""
    _log(DEBUG, msg, args)


def info(msg: str, *args: Any) -> None:
    """Log at INFO; do nothing unless the package's logger is in use."""
    _log(INFO, msg, args)


def sub_warning(msg: str, *args: Any) -> None:
    """Log at `SUBWARNING`; do nothing unless the package's logger is in use."""
    _log(SUBWARNING, msg, args)


def warn(msg: str, *args: Any) -> None:
    """Log at WARNING; do nothing unless the package's logger is in use."""
    _log(WARNING, msg, args)


def get_logger() -> Any:
    """Return the package's logger, made at the first call."""
    global _logger
    if not _logger:
        import logging

        _name_log_records()
        _logger = logging.getLogger(LOGGER_NAME)
        _logger.propagate = False
        # Registered last, so it runs first: the package's last messages need a logging module that
        # still works.
        atexit.unregister(_exit_function)
        atexit.register(_exit_function)
    return _logger


def _name_log_records() -> None:
    """Make the records of all loggers name this family's processes, if the program logs at all.

    A child of fork does not call this and keeps what its parent had. At the fork, another thread of
    the parent may have been importing `logging`, and in the child nothing completes that import.
    """
    logging = sys.modules.get("logging")
    # A signal handler may get here while its own thread imports `logging`.
    if logging is not None and not getattr(logging.__spec__, "_initializing", False):
        from . import _logging

        _logging.name_records()


def log_to_stderr(level: int | str | None = None) -> Any:
    """Make the package's logger print to standard error, from `level` on; return it."""
    global _log_to_stderr
    from . import _logging

    logger = get_logger()
    _logging.add_stderr(logger, DEFAULT_LOGGING_FORMAT)
    _set_level(logger, level)
    _log_to_stderr = True
    return logger


def log_to_file(path: str | os.PathLike[str], level: int | str | None = None) -> Any:
    """Make the package's logger append to the file `path`, here and in all future children.

    Each record is one write at the end of the file, so no line is lost or torn when several
    processes write at once. `level` is the logger's level, as in `log_to_stderr`. Return the
    logger; raises OSError if the file cannot be opened.
    """
    from . import _logging

    logger = get_logger()
    _logging.add_file(logger, os.path.abspath(path), DEFAULT_LOGGING_FORMAT)
    _set_level(logger, level)
    return logger


def _set_level(logger: Any, level: int | str | None) -> None:
    if level:
        logger.setLevel(level)


abstract_sockets_supported = sys.platform in ("linux", "android")


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Return whether a Unix socket's address is abstract, that is, begins with a null."""
    if not address:
        return False
    if isinstance(address, (bytes, str)):
        return address[0] in (0, "\0")
    raise TypeError(f"address type of {address!r} unrecognized")


def _remove_temp_dir(rmtree: Any, tempdir: str) -> None:
    from .resource_tracker import unregister

    while os.path.isdir(tempdir):
        try:
            rmtree(tempdir)
        except FileNotFoundError:
            continue  # another process, perhaps the tracker, is removing it too
    unregister(tempdir, "folder")
    current = process.current_process()
    if current is not None:  # None late in the interpreter's own shutdown
        current._config["tempdir"] = None


def get_temp_dir() -> str:
    """Return the family's temporary directory.

    It is removed when the process that first asked for it ends, however it ends.
    """
    config = process.current_process()._config
    tempdir = config.get("tempdir")
    if tempdir is None:
        tempdir = config["tempdir"] = _make_temp_dir()
    return tempdir


def _make_temp_dir() -> str:
    import shutil
    import tempfile

    from .resource_tracker import register

    path = tempfile.mkdtemp(prefix="pymp-")
    # Finalizers do not run in a process that is killed.
    register(path, "folder")
    info("created temp directory %s", path)
    Finalize(None, _remove_temp_dir, args=(shutil.rmtree, path), exitpriority=-100)
    return path


def living(objects: weakref.WeakSet[Any]) -> list[Any]:
    """Return the living objects of a weak set.

    Unlike iterating over it, this allows other threads, signal handlers and finalizers to add some.
    """
    refs = list(objects.data)  # type: ignore[attr-defined]  # in one step
    return [obj for obj in [ref() for ref in refs] if obj is not None]


def living_items(objects: weakref.WeakValueDictionary[Any, Any]) -> list[tuple[Any, Any]]:
    """Return the keys and living values of a dictionary of weak values, as `living` does."""
    items = [(ref.key, ref()) for ref in objects.valuerefs()]
    return [(key, obj) for key, obj in items if obj is not None]


_afterfork_registry: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
_afterfork_counter = itertools.count()


def _run_after_forkers() -> None:
    for (_, _, func), obj in sorted(living_items(_afterfork_registry), key=lambda item: item[0][0]):
        try:
            func(obj)
        except Exception as error:
            info("after forker raised exception %s", error)


def register_after_fork(obj: Any, func: Any) -> None:
    """Call `func(obj)` in each child before it runs, as long as `obj` is alive."""
    _afterfork_registry[(next(_afterfork_counter), id(obj), func)] = obj


def _is_logging() -> bool:
    """Return whether this thread holds the lock of one of the logger's handlers.

    A finalizer that the collector runs there may wait for threads that log, too.
    """
    handlers = list(_logger.handlers) if _logger else []
    locks = [getattr(handler, "lock", None) for handler in handlers]
    return any(getattr(lock, "_is_owned", bool)() for lock in locks)


_finalizer_registry: dict[Any, Finalize] = {}
_finalizer_counter = itertools.count()


class Finalize:
    """A callback that runs once: when `obj` is collected, when called, or at exit.

    At exit, callbacks run in the order of `exitpriority`.

    In a child of fork it does nothing. Raises ValueError if `obj` and `exitpriority` are both None.
    """

    def __init__(
        self,
        obj: Any,
        callback: Any,
        args: Any = (),
        kwargs: Any = None,
        exitpriority: int | None = None,
    ) -> None:
        _check_priority(exitpriority, needed=obj is None)
        self._callback, self._args, self._kwargs = callback, args, kwargs or {}
        self._key: Any = (exitpriority, next(_finalizer_counter))
        self._pid = os.getpid()
        # Only after all that the call needs is set: an interrupt may end the object at any line.
        self._weakref: Any = obj if obj is None else weakref.ref(obj, self)
        _finalizer_registry[self._key] = self

    # The defaults are bound early: at interpreter shutdown this module's globals may be gone.
    def __call__(
        self,
        wr: Any = None,
        _finalizer_registry: Any = _finalizer_registry,
        sub_debug: Any = sub_debug,
        getpid: Any = os.getpid,
        logs: Any = _is_logging,
        is_finalizing: Any = sys.is_finalizing,
    ) -> Any:
        """Run the callback, unless it has already run or was cancelled."""
        if wr is not None and is_finalizing():
            # The callback may wait for a lock of a daemonic thread, which runs no more. It was registered after
            # the exit functions had run the others, or it was not meant to run at exit.
            return None
        here = self._pid == getpid()
        if wr is not None and here and logs() and self._start_in_thread():
            return None
        key = self._key
        try:
            if _finalizer_registry.pop(key, None) is None:
                sub_debug("finalizer no longer registered")
                return None
            result = None
            if not here:
                sub_debug("finalizer ignored because different process")
            else:
                sub_debug(
                    "finalizer calling %s with args %s and kwargs %s",
                    self._callback,
                    self._args,
                    self._kwargs,
                )
                result = self._callback(*self._args, **self._kwargs)
        except Exception:
            raise
        except BaseException:
            # An interrupt: the callback runs again at exit to finish the rest.
            if key is not None:
                _finalizer_registry[key] = self
            raise
        self._forget()
        return result

    def _start_in_thread(self) -> bool:
        """Run the callback in a thread of its own. Return False if no thread can be started."""
        thread = Thread(self, "Finalizer")
        thread.daemon = False  # the exit of the interpreter waits for it
        try:
            thread.start()
        except RuntimeError:
            return False
        return True

    def cancel(self) -> None:
        """Cancel the callback, so that it never runs."""
        if _finalizer_registry.pop(self._key, None) is not None:
            self._forget()

    def _forget(self) -> None:
        self._weakref = self._callback = self._args = self._kwargs = self._key = None

    def still_active(self) -> bool:
        """Return whether the callback is still to be run."""
        return self._key in _finalizer_registry

    def __repr__(self) -> str:
        try:
            obj = self._weakref()
        except (AttributeError, TypeError):
            obj = None
        kind = type(self).__name__
        if obj is None:
            return f"<{kind} object, dead>"
        parts = [f"<{kind} object, callback={getattr(self._callback, '__name__', self._callback)}"]
        if self._args:
            parts.append(f"args={self._args}")
        if self._kwargs:
            parts.append(f"kwargs={self._kwargs}")
        if self._key[0] is not None:
            parts.append(f"exitpriority={self._key[0]}")
        return ", ".join(parts) + ">"


def _check_priority(exitpriority: Any, needed: bool) -> None:
    if exitpriority is None:
        if needed:
            raise ValueError("Without object, exitpriority cannot be None")
    elif not isinstance(exitpriority, int):
        raise TypeError(
            f"Exitpriority ({exitpriority!r}) must be None or int, not {type(exitpriority)}"
        )


def _run_finalizers(minpriority: int | None = None) -> None:
    """Run the finalizers that have a priority, of at least `minpriority`.

    The highest run first, then the youngest.
    """
    if _finalizer_registry is None:  # this module's globals are gone
        return
    # A copy, and each is looked up again: finalizers, the collector and other threads change the
    # registry meanwhile.
    keys = [key for key in list(_finalizer_registry) if key[0] is not None]
    keys = sorted(
        (key for key in keys if minpriority is None or key[0] >= minpriority), reverse=True
    )
    for key in keys:
        finalizer = _finalizer_registry.get(key)
        if finalizer is None:
            continue
        sub_debug("calling %s", finalizer)
        try:
            finalizer()
        except Exception:
            import traceback

            traceback.print_exc()
    if minpriority is None:
        _finalizer_registry.clear()


def _neighbour(name: str) -> Any:
    """Return the standard library's module `name`, if it is loaded beside this package, else None.

    Under the stand-in that name is this package's own: None. A module that is still being imported
    has no state to update yet: None.
    """
    name = f"multiprocessing.{name}"
    module = sys.modules.get(name)
    if (
        module is None
        or module.__name__ != name
        or getattr(module.__spec__, "_initializing", False)
    ):
        return None
    return module


def _introduce_neighbour(authkey: bytes) -> None:
    """Give the standard library's module the key of the parent's.

    Its managers know their clients by this key. The parent has that library's managers loaded, and so what
    it sends may be a proxy of one: this loads what has the key.
    """
    import importlib

    importlib.import_module("multiprocessing.process")
    if (theirs := _neighbour("process")) is not None:
        theirs.current_process().authkey = authkey


def _begin_neighbour() -> None:
    """Tell the standard library, if it is loaded, that this is a child made by fork.

    Its queues start anew, and its children are the parent's.
    """
    if (theirs := _neighbour("process")) is not None:
        theirs._children = set()
    if (theirs := _neighbour("util")) is not None:
        theirs._finalizer_registry.clear()
        theirs._run_after_forkers()
        if process.RUNS_ATEXIT_IN_CHILD:
            atexit.register(theirs._exit_function)


def _end_neighbour() -> None:
    """Run the standard library's exit functions, if it is loaded.

    They send the items of its queues.
    """
    if (theirs := _neighbour("util")) is not None:
        theirs._exit_function()


_exiting = False


def is_exiting() -> bool:
    """Return whether the process is shutting down."""
    return _exiting or _exiting is None


#: Seconds that the server of a manager without a finalizer has to end before it is killed.
_SERVER_ENDS = 1.0


def _end_children(children: Any, info: Any, servers_end: float = _SERVER_ENDS) -> None:
    """Terminate the daemonic children, and wait for all that there are now.

    A manager's server ends when its manager's finalizer has run. A thread may have started one since the
    finalizers ran: such a server is terminated, too.

    Threads may start more children meanwhile, such as a pool's, which replaces the workers that end here. These are
    not waited for: the daemonic ones end with this process.
    """
    # Terminating a child may let a thread go on that starts the next one: so look once.
    living = children()
    for child in living:
        if child.daemon or child._is_server:
            info("calling terminate() for daemon %s", child.name)
            child._popen.terminate()
    for child in living:
        info("calling join() for process %s", child.name)
        if child._is_server:
            child.join(servers_end)
            child.kill()
        child.join()


# The defaults are bound early: at interpreter shutdown this module's globals may be gone.
def _exit_function(
    info: Any = info,
    debug: Any = debug,
    _run_finalizers: Any = _run_finalizers,
    active_children: Any = process.active_children,
    current_process: Any = process.current_process,
    end_children: Any = _end_children,
) -> None:
    """End this process's part of the family.

    Runs finalizers, terminates daemons and joins the other children.
    """
    global _exiting
    if not _exiting:
        _exiting = True
        info("process shutting down")
        debug('running all "atexit" finalizers with priority >= 0')
        _run_finalizers(0)
        if current_process() is not None:
            end_children(active_children, info)
        # A finalizer may wait until every process that this one started is gone, as viztracer's
        # does. So tell the fork server to end first.
        from ._procession import fork_server_stop

        fork_server_stop()
        debug('running the remaining "atexit" finalizers')
        _run_finalizers()


atexit.register(_exit_function)


_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def free_in_child(lock: Any) -> Any:
    """Make a lock of `threading` free in every child of fork, whatever code forks it.

    Return the lock.
    """
    _locks.add(lock)
    return lock


def _free_locks() -> None:
    for lock in living(_locks):
        lock._at_fork_reinit()
    # Pickling by value takes this lock, perhaps in a thread that the child does not have.
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")
    lock = getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_LOCK", None)
    if lock is not None:
        lock._at_fork_reinit()


os.register_at_fork(after_in_child=_free_locks)


class ForkAwareThreadLock:
    """A thread lock that is free in every child of fork."""

    def __init__(self) -> None:
        self._lock = free_in_child(threading.Lock())
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> None:
        return self._lock.__exit__(*args)


class ForkAwareLocal(threading.local):
    """Thread-local data that is empty in every child of fork, and when unpickled."""

    def __init__(self) -> None:
        register_after_fork(self, lambda obj: obj.__dict__.clear())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


try:
    MAXFD = os.sysconf("SC_OPEN_MAX")
except (OSError, ValueError):
    MAXFD = 256


def close_all_fds_except(fds: Any) -> None:
    """Close all descriptors except `fds`."""
    bounds = sorted([*fds, -1, MAXFD])
    assert bounds[-1] == MAXFD, "fd too large"
    for low, high in itertools.pairwise(bounds):
        os.closerange(low + 1, high)


_empty_stdin: Any = None


def _close_stdin() -> None:
    """Connect `sys.stdin` to the null device: the terminal's input belongs to the main process."""
    global _empty_stdin
    if sys.stdin is not None and sys.stdin is not _empty_stdin:
        _attempt(sys.stdin.close)
        null = _attempt(_null_input)
        if null is not None:
            sys.stdin = _empty_stdin = null


def _attempt(action: Any) -> Any:
    """Return the result of an action on a standard stream; None if the stream does not allow it."""
    try:
        return action()
    except (OSError, ValueError):
        return None


def _null_input() -> Any:
    """Return the null device as a text stream that leaves its descriptor open."""
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        return open(fd, encoding="utf-8", closefd=False)
    except BaseException:
        os.close(fd)
        raise


def _flush_std_streams() -> None:
    from . import _stdio

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            pass
    _stdio.flush_replaced()


def _args_from_interpreter_flags() -> list[str]:
    """Return the command line options that give another interpreter the flags of this one."""
    from subprocess import _args_from_interpreter_flags as flags  # type: ignore[attr-defined]

    return flags()


def is_blocked(number: int) -> bool:
    """Return whether this thread blocks a signal."""
    import signal

    return number in signal.pthread_sigmask(signal.SIG_BLOCK, ())


class _Pid(int):
    """The process ID that `spawnv_passfds` returns, with the object that follows the process."""

    child: Any


def spawnv_passfds(path: Any, args: Any, passfds: Any) -> int:
    """Start a program with the descriptors `passfds`, and 0, 1 and 2, open; return its process ID.

    All processes that begin as a new program are started by this function under this name, because
    tools replace it.
    """
    from ._procession import spawn_exec

    child = spawn_exec(
        os.fsdecode(path), [os.fsdecode(arg) for arg in args], [int(fd) for fd in passfds]
    )
    pid = _Pid(child.pid)
    pid.child = child
    return pid


def start_program(command: list[str], passfds: list[int]) -> Any:
    """Start a program by `spawnv_passfds`, looked up at the call.

    Return what follows it to its end. The program begins with SIGINT blocked: an interpreter that
    is interrupted while it starts reports that, and Ctrl-C reaches all processes of a terminal.
    """
    from ._procession import InterruptHeld, adopt

    with InterruptHeld():
        pid = spawnv_passfds(command[0], command, passfds)
    return pid.child if isinstance(pid, _Pid) else adopt(pid)


def close_fds(*fds: int) -> None:
    """Close each of the descriptors."""
    for fd in fds:
        os.close(fd)


def _cleanup_tests() -> None:
    """Leave nothing behind. CPython's own tests call this at their end."""
    from test.support import gc_collect, reap_children  # type: ignore[import-not-found]

    from .forkserver import _forkserver
    from .resource_tracker import _resource_tracker

    servers = _forkserver._stop, _resource_tracker._stop
    for step in (process._cleanup, *servers, _run_finalizers, gc_collect, reap_children):
        step()
