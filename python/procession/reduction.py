"""How objects become bytes for other processes, and descriptors sent over sockets.

Queues, pools and processes pickle in the extension, which uses the reducers registered here.
Objects that pickle cannot carry are left to `_pickling.by_value`.
"""

from __future__ import annotations

import copyreg
import functools
import io
import os
import sys
from _collections_abc import Callable, Iterable

# After `copyreg`, which it loads. The module `pickle` is slow to load.
from _pickle import Pickler, PicklingError
from _pickle import loads as _loads
from abc import ABCMeta

from . import context
from .context import _DeferredModule

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    import array
    import socket
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds
    # Only those that send sockets and descriptors need them, and they take as long to load as the queues do.
    array = _DeferredModule("array")
    socket = _DeferredModule("socket")

__all__ = [
    "DupFd",
    "ForkingPickler",
    "dump",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]


def __getattr__(name: str) -> Any:
    if name == "pickle":  # as in the standard library
        import pickle

        return pickle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


HAVE_SEND_HANDLE = True
ACKNOWLEDGE = False


class ForkingPickler(Pickler):
    """A pickler for objects sent to other processes.

    Besides the reducers of `copyreg` it uses those given to `register`.
    """

    _extra_reducers: dict[type, Callable[[Any], Any]] = {}
    _copyreg_dispatch = copyreg.dispatch_table

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _register_sockets()
        self.dispatch_table = {**self._copyreg_dispatch, **self._extra_reducers}

    @classmethod
    def register(cls, type: type, reduce: Callable[[Any], Any]) -> None:
        """Register `reduce(obj)` to pickle objects of exactly this `type`, like `__reduce__`."""
        cls._extra_reducers[type] = reduce

    @classmethod
    def dumps(cls, obj: object, protocol: int | None = None) -> memoryview:
        """Return the pickle of `obj`.

        Functions and classes that the receiver may lack go by value.
        """
        if cls is _ForkingPickler:
            from ._procession import pickle_in_band

            if protocol is None:
                import pickle

                protocol = pickle.DEFAULT_PROTOCOL
            return memoryview(pickle_in_band(obj, protocol))
        buffer = io.BytesIO()
        try:
            cls(buffer, protocol).dump(obj)
        except (TypeError, AttributeError, PicklingError) as error:
            from ._procession import import_whole

            import_whole(f"{__package__}._pickling.by_value")
            from ._pickling import by_value

            return memoryview(by_value.dump_refused(obj, None, error))
        return buffer.getbuffer()

    loads = _loads


def dispatch_table() -> dict[type, Callable[[Any], Any]]:
    """Return all registered reducers."""
    _register_sockets()
    return {**copyreg.dispatch_table, **_ForkingPickler._extra_reducers}


def _array_reducers() -> dict[type, Callable[[Any], Any]]:
    """Return the reducers that make read-only arrays arrive writable."""
    numpy = sys.modules.get("numpy")
    return {} if numpy is None else {numpy.ndarray: _reduce_array}


def _reduce_array(array: Any) -> Any:
    if array.flags.writeable or array.dtype.hasobject:
        return array.__reduce_ex__(5)
    return _Alias(array).as_array().__reduce_ex__(5)


class _Alias:
    """A writable view of a read-only array's memory, for a pickler, which does not write to it."""

    def __init__(self, array: Any) -> None:
        self._array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface

    def as_array(self) -> Any:
        """Return the array, which keeps this object alive, and this object the memory."""
        return sys.modules["numpy"].asarray(self).view(self._array.dtype)


# The extension uses its fast path as long as no program has replaced this class.
_ForkingPickler = ForkingPickler
register = ForkingPickler.register


def dump(obj: object, file: Any, protocol: int | None = None) -> None:
    """Write the pickle of `obj` to `file`."""
    ForkingPickler(file, protocol).dump(obj)


def _pickle_for_neighbour(popen: Any) -> None:
    """Tell the standard library's objects which process they are pickled for, None if for none.

    `concurrent.futures` passes the standard library's queues and connections to its workers. This is
    called only where the standard library's `multiprocessing` is loaded beside this package.
    """
    import importlib

    # Another thread may be importing either module: this waits until the import is complete.
    importlib.import_module("multiprocessing.context").set_spawning_popen(popen)
    if "multiprocessing.connection" not in sys.modules:
        return
    theirs = importlib.import_module("multiprocessing.connection")
    if theirs.Connection not in ForkingPickler._extra_reducers:
        register(theirs.Connection, theirs.reduce_connection)


# Descriptors over Unix sockets


def sendfds(sock: socket.socket, fds: Iterable[int]) -> None:
    """Send descriptors over a Unix socket."""
    numbers = array.array("i", fds)
    sock.sendmsg([bytes([len(numbers) % 256])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


def recvfds(sock: socket.socket, size: int) -> list[int]:
    """Receive up to `size` descriptors over a Unix socket.

    Raises EOFError at end of file, and RuntimeError if the data is not what `sendfds` sends.
    """
    fds = array.array("i")
    message, ancillary, _flags, _address = sock.recvmsg(1, socket.CMSG_SPACE(fds.itemsize * size))
    if not message and not ancillary:
        raise EOFError
    if len(ancillary) != 1:
        raise RuntimeError(f"received {len(ancillary)} items of ancdata")
    level, kind, data = ancillary[0]
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
        raise RuntimeError("Invalid data received")
    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if message != bytes([len(fds) % 256]):
        for fd in fds:
            os.close(fd)
        raise RuntimeError("Invalid data received")
    return fds.tolist()


def _socket_of(conn: Any, family: socket.AddressFamily) -> socket.socket:
    """Return a socket with a copy of a connection's descriptor.

    SOCK_NONBLOCK is for the new object alone. Without it, a program's `socket.setdefaulttimeout`
    would make the connection itself non-blocking, because the copy shares its flags.
    """
    return socket.fromfd(conn.fileno(), family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Send a descriptor over a local connection."""
    with _socket_of(conn, socket.AF_UNIX) as sock:
        sendfds(sock, [handle])


def recv_handle(conn: Any) -> int:
    """Receive a descriptor over a local connection."""
    with _socket_of(conn, socket.AF_UNIX) as sock:
        return recvfds(sock, 1)[0]


def DupFd(fd: int) -> Any:
    """Return a picklable stand-in for a descriptor.

    Its `detach` returns the receiver's own descriptor.
    """
    popen = context.get_spawning_popen()
    if popen is not None:
        return popen.DupFd(popen.duplicate_for_child(fd))
    from ._procession import broker_fd, family_id

    number = broker_fd(fd)
    if number is not None:
        return _BrokeredFd(family_id(), number)
    from . import resource_sharer

    return resource_sharer.DupFd(fd)


class _BrokeredFd:
    """A descriptor in a queue's item or a pool's task or result.

    Its sender keeps it until that was read.
    """

    def __init__(self, family: bytes, number: int) -> None:
        self._worker_index = family, number

    def __reduce__(self) -> Any:
        return _Arrived, self._worker_index


class _Arrived:
    """The receiver's side of a `_BrokeredFd`. Raises ValueError when the sender has ended."""

    _fd: int | None = None

    def __init__(self, family: bytes, number: int) -> None:
        from ._procession import claim_fd, family_id

        if family != family_id():
            raise ValueError("this descriptor belongs to another family of processes")
        self._fd = claim_fd(number)

    def detach(self) -> int:
        """Return the descriptor, which the caller now owns. Works once."""
        fd, self._fd = self._fd, None
        if fd is None:
            raise ValueError("this descriptor was taken already")
        return fd

    def __del__(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


# Reducers for callables and sockets


class _Sample:
    def method(self) -> None:
        pass


def _reduce_method(method: Any) -> tuple:
    if method.__self__ is None:
        return getattr, (method.__class__, method.__func__.__name__)
    return getattr, (method.__self__, method.__func__.__name__)


def _reduce_method_descriptor(method: Any) -> tuple:
    return getattr, (method.__objclass__, method.__name__)


def _reduce_partial(partial: functools.partial) -> tuple:
    return _rebuild_partial, (partial.func, partial.args, partial.keywords or {})


def _rebuild_partial(func: Callable, args: tuple, keywords: dict) -> functools.partial:
    return functools.partial(func, *args, **keywords)


def _reduce_socket(sock: socket.socket) -> tuple:
    return _rebuild_socket, (DupFd(sock.fileno()), sock.family, sock.type, sock.proto)


def _rebuild_socket(duplicate: Any, family: int, type: int, proto: int) -> socket.socket:
    return socket.socket(family, type, proto, fileno=duplicate.detach())


def _register_all() -> None:
    register(type(_Sample().method), _reduce_method)
    register(type(list.append), _reduce_method_descriptor)
    register(type(int.__add__), _reduce_method_descriptor)
    register(functools.partial, _reduce_partial)
    _register_sockets()


def _register_sockets() -> bool:
    """Register the reducer of sockets, once their module is loaded; return whether it is."""
    kind = getattr(sys.modules.get("socket"), "socket", None)
    if kind is not None:
        _ForkingPickler._extra_reducers.setdefault(kind, _reduce_socket)
    return kind is not None


_register_all()


class AbstractReducer(metaclass=ABCMeta):  # noqa: B024 - as in the standard library
    """A base class for replacements of this module, to be assigned to a context's `reducer`."""

    ForkingPickler = ForkingPickler
    register = register
    dump = dump
    send_handle = send_handle
    recv_handle = recv_handle
    sendfds = sendfds
    recvfds = recvfds
    DupFd = DupFd

    _reduce_method = _reduce_method
    _reduce_method_descriptor = _reduce_method_descriptor
    _rebuild_partial = _rebuild_partial
    _reduce_socket = _reduce_socket
    _rebuild_socket = _rebuild_socket

    def __init__(self, *args: Any) -> None:
        _register_all()
