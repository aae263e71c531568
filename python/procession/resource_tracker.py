"""Names that must not outlive the program.

They are removed when its last process has ended, however it ended.

procession's own objects have no names: their memory is freed with the last process that maps it.
What remains is the named shared memory of `shared_memory`, the temporary folder of `util`, and
whatever a program registers here. When the first of these is registered, one process for the whole
family is started, `_start.tracker`. The family's processes find it by an abstract socket named after the
family, so it need not be started beforehand nor be inherited.
"""

from __future__ import annotations

import os
import signal
import warnings

from . import process, util
from ._threads import RLock

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["ensure_running", "register", "unregister"]

_TRACKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_start", "tracker.py")
_LONGEST_MESSAGE = 512


class ReentrantCallError(RuntimeError):
    """An error of the standard library's tracker, when a finalizer calls it during another call.

    This tracker allows such calls.
    """


def cleanup_noop(name: str) -> None:
    """Raise RuntimeError: nothing of this type is ever registered."""
    raise RuntimeError("noop should never be registered or cleaned up")


def _unlink_shared_memory(name: str) -> None:
    import _posixshmem

    _posixshmem.shm_unlink(name)


# What removes a name; the tracker process has its own copy. 'noop' and 'dummy' are for tests.
_CLEANUP_FUNCS: dict[str, Any] = {
    "noop": cleanup_noop,
    "dummy": lambda name: None,
    "shared_memory": _unlink_shared_memory,
}


class ResourceTracker:
    """A connection to a tracker: the family's if `shared`, else one of this object's own."""

    # CPython's newer protocol encodes names. Here any name without a newline is sent as it is.
    _use_simple_format = True

    _fd: int | None = None
    #: The tracker's process, if this process started it.
    _pid: int | None = None
    _exitcode: int | None = None
    _waitpid_timed_out = False

    def __init__(self, shared: bool = False) -> None:
        self._shared = shared
        self._lock = RLock()

    def _after_fork(self) -> None:
        # The connection is shared with the parent, like the end of a pipe. The child is not the
        # tracker's parent.
        self._lock = RLock()
        self._pid = None

    def getfd(self) -> int:
        """Return the connection's descriptor."""
        self.ensure_running()
        assert self._fd is not None
        return self._fd

    def ensure_running(self) -> None:
        """Find the tracker or start it. Warn if the one in use has died."""
        with self._lock:
            if self._fd is None:
                self._connect()
            elif not self._check_alive():
                self._forget_dead()
                warnings.warn(
                    "resource_tracker: process died unexpectedly, relaunching.  Some resources might leak.",
                    stacklevel=2,
                )
                self._connect()

    def _check_alive(self) -> bool:
        try:
            return os.write(self._fd, b"PROBE:0:noop\n") > 0  # type: ignore[arg-type]
        except OSError:
            return False

    def _forget_dead(self) -> None:
        descriptor, child = self._fd, self._pid
        self._fd = self._pid = self._exitcode = None
        os.close(descriptor)  # type: ignore[arg-type]
        if child is not None:
            try:
                os.waitpid(child, 0)
            except ChildProcessError:
                pass  # the program has reaped it

    def _find(self) -> bool:
        """Connect to the tracker if it is running, and return whether it is."""
        import socket

        if not self._shared:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            try:
                connection.connect(self._address)
            except ConnectionRefusedError:
                return False
            # Any user may bind such a name, so check the owner.
            uid = _peer_uid(connection)
            if uid != os.geteuid():
                raise PermissionError(f"the resource tracker's address is taken by user {uid}")
            self._fd = connection.detach()
        return True

    @property
    def _family(self) -> str:
        # Read late: a child learns its identity only after it has imported this module.
        return process.current_process()._config["family"] if self._shared else ""

    @property
    def _address(self) -> str:
        # Without a name the kernel chooses one.
        return f"\0procession-tracker-{self._family}" if self._shared else ""

    def _connect(self) -> None:
        """Connect to the tracker; start it if it is not running."""
        import socket

        while not self._find():
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
            ):
                try:
                    listener.bind(self._address)
                except OSError:
                    continue  # another process of the family is starting it at this moment
                listener.listen(128)
                connection.connect(listener.getsockname())
                # It accepts messages from here on: a finalizer may send one while the process is
                # being started.
                self._fd = connection.detach()
                try:
                    self._start(listener.fileno())
                except BaseException:
                    os.close(self._fd)
                    self._fd = None
                    raise
                return

    def _start(self, listener: int) -> None:
        import sys

        from .spawn import get_executable, interpreter_running

        executable = get_executable()
        root = self._family.partition("-")[0] or "0"
        arguments: list[Any] = [executable, "-I", "-S", _TRACKER, str(listener), root]
        arguments.append("resource_tracker")  # tools recognise the process by this word
        if getattr(sys, "frozen", False):
            # A frozen program has no module files.
            code = f"from procession._start.tracker import main; main({listener}, {root})"
            arguments = interpreter_running(code)
        passed = [listener]
        try:
            passed.append(sys.stderr.fileno())
        except (AttributeError, OSError, ValueError):
            pass  # its warnings are lost
        # Blocked until the tracker ignores them.
        ignored = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ignored)
        try:
            self._pid = int(util.spawnv_passfds(executable, arguments, passed))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _stop(self, wait_timeout: float | None = None) -> None:
        """Leave the tracker.

        If this process started it, wait for its end, at most `wait_timeout` seconds. The limit is
        needed because other processes may still use the tracker.
        """
        with self._lock:
            if self._fd is None:
                if self._exitcode is None:
                    self._exitcode = 0  # it was not needed, so nothing was left
                return
            try:
                os.write(self._fd, b"LEAVE:0:noop\n")
            except OSError:
                pass
            os.close(self._fd)
            self._fd = None
            if self._pid is not None:
                self._waitpid_timed_out = not _ends(self._pid, wait_timeout)
                self._exitcode = None
                if not self._waitpid_timed_out:
                    try:
                        self._exitcode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
                    except (ChildProcessError, ValueError):
                        pass
                self._pid = None

    def register(self, name: str, rtype: str) -> None:
        """Have `name`, of type `rtype`, removed at the end of the family unless it is unregistered.

        Registering it again changes nothing. Raises ValueError when the name is too long.
        """
        self._send("REGISTER", name, rtype)

    def unregister(self, name: str, rtype: str) -> None:
        """Stop tracking `name`; do nothing if it was not registered."""
        with self._lock:
            if self._fd is None and not self._find():
                return  # it was never started, so nothing is registered
        self._send("UNREGISTER", name, rtype)

    def _send(self, command: str, name: str, rtype: str) -> None:
        message = f"{command}:{name}:{rtype}\n".encode("utf-8", "surrogateescape")
        if len(message) > _LONGEST_MESSAGE:
            raise ValueError("msg too long")
        self.ensure_running()
        assert self._fd is not None
        os.write(self._fd, message)


def _ends(pid: int, timeout: float | None) -> bool:
    """Return whether a child ends, or has ended, within `timeout` seconds.

    None: waits without limit.
    """
    import select

    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(pidfd)


def _peer_uid(connection: Any) -> int:
    import socket
    import struct

    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    return struct.unpack("3i", credentials)[1]


_resource_tracker = ResourceTracker(shared=True)
os.register_at_fork(after_in_child=_resource_tracker._after_fork)
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd
