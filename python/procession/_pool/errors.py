"""The exceptions of a pool's tasks: how they are sent from a worker, and what unfinished tasks raise.

The engine's bindings call the private functions of this module by name.
"""

from __future__ import annotations

import types
from _collections_abc import Callable

from .._errors import Catchable, TaskCancelled, TaskTimeout, WorkerDied, counterpart
from .._procession import load_body
from .._threads import is_own
from ..process import _describe_exitcode
from ..reduction import ForkingPickler
from .worker import CALL, CALL_WITH_KEYWORDS, CHUNK, ITEM, STARRED_CHUNK

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


def _is_result(error: BaseException) -> bool:
    """Return whether what the program's code raised is the result of a task.

    An exit or an interrupt is for the thread in which it is raised, unless that is the package's.
    """
    return isinstance(error, Exception) or is_own()


class RemoteTraceback(Exception):
    """A worker's traceback as text: the ``__cause__`` of the exception in the parent."""

    def __init__(self, tb: str) -> None:
        self.tb = tb

    def __str__(self) -> str:
        return self.tb


class ExceptionWithTraceback:
    """An exception that is sent with its traceback: as text, as its ``__cause__``."""

    def __init__(self, exc: BaseException, tb: types.TracebackType | None) -> None:
        import traceback

        text = "".join(traceback.format_exception(type(exc), exc, tb))
        self.exc = exc
        # A frame of it may hold objects that cannot be sent, or that should not stay alive.
        self.exc.__traceback__ = None
        self.tb = f'\n"""\n{text}"""'

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exc, (self.exc, self.tb)


def rebuild_exc(exc: BaseException, tb: str) -> BaseException:
    """Set the text `tb` as the cause of an exception."""
    exc.__cause__ = RemoteTraceback(tb)
    return exc


@counterpart("pool")
class MaybeEncodingError(Catchable):
    """A result or an exception could not be sent from the worker.

    Attributes:
        exc: `repr` of the error that pickle raised.
        value: `repr` of the object that could not be sent.
    """

    def __init__(self, exc: object, value: object) -> None:
        self.exc = _safe_repr(exc)
        self.value = _safe_repr(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except BaseException as error:
        if not _is_result(error):
            raise
        return f"<{type(value).__name__} object whose repr() raises {type(error).__name__}>"


def _pack_exception(error: BaseException) -> tuple[bytes, str, str]:
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        pickled = ForkingPickler.dumps(error)
    except Exception as reason:
        pickled = ForkingPickler.dumps(MaybeEncodingError(reason, error))
    return bytes(pickled), f'\n"""\n{text}"""', _safe_repr(error)


def _unpack_exception(parts: tuple[bytes, str, str]) -> BaseException:
    pickled, text, description = parts
    try:
        error = ForkingPickler.loads(pickled)
        if not isinstance(error, BaseException):
            raise TypeError(f"it unpickles as {type(error).__name__}")
    except BaseException as reason:
        if not _is_result(reason):
            raise
        error = MaybeEncodingError(reason, None)
        error.value = description
    error.__cause__ = RemoteTraceback(text)
    return error


class _FailedItem:
    """An exception in place of an item's result: it is pickled so that it arrives in any case."""

    def __init__(self, parts: tuple[bytes, str, str]) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack_exception, (self.parts,)


def _failed_item(error: BaseException) -> _FailedItem:
    return _FailedItem(_pack_exception(error))


def _unencodable(error: Exception, value: object) -> MaybeEncodingError:
    # A `repr` may take long, and may show what must stay private.
    result = MaybeEncodingError(error, None)
    result.value = f"an object of type {type(value).__module__}.{type(value).__qualname__}"
    return result


def _undecodable(error: BaseException) -> MaybeEncodingError:
    result = MaybeEncodingError(error, None)
    result.value = "a result that cannot be unpickled"
    result.__cause__ = error
    return result


class _Named:
    """A function under the name that its call was given."""

    def __init__(self, func: Callable[..., object], name: str) -> None:
        self.func = func
        self.__qualname__ = name

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return self.func(*args, **kwds)


def _named(func: Callable[..., object], name: str) -> _Named:
    return _Named(func, name)


def _task(func: Callable[..., object], number: int) -> str:
    return f"task {number} of {getattr(func, '__qualname__', None) or _safe_repr(func)}"


def _arguments(
    mode: int | None, body: bytes | None, load: Callable[[bytes], Any] = load_body
) -> str:
    """Return a task's arguments in a few words, as far as they are known."""
    import reprlib

    if body is None:
        return ""
    try:
        arguments = load(body)
        if mode in (CHUNK, STARRED_CHUNK) or (mode is not None and mode > CALL_WITH_KEYWORDS):
            return f" over {', '.join(reprlib.repr(item) for item in arguments[:3])}{', ...' * (len(arguments) > 3)}"
        kwds: dict[str, object] = {}
        if mode == ITEM:
            arguments = (arguments,)
        elif mode != CALL:
            arguments, kwds = arguments[-2:]
        words = [reprlib.repr(value) for value in arguments]
        words += [f"{name}={reprlib.repr(value)}" for name, value in kwds.items()]
        return f"({', '.join(words)})"
    except BaseException as error:
        if not _is_result(error):
            raise
        return ""  # arguments that cannot be shown are not worth a second error


def _worker_died(
    func: Callable[..., object],
    mode: int | None,
    number: int,
    arguments: bytes | None,
    timeout: float | None,
    death: tuple[int, int, bool, str | None],
    where: str = "",
    load: Callable[[bytes], Any] = load_body,
) -> WorkerDied | TaskTimeout:
    pid, exitcode, out_of_memory, stack = death
    task = _task(func, number) + _arguments(mode, arguments, load)
    last = f"; its last stack:\n{stack}" if stack else ""
    if timeout is not None:
        text = f"worker process {pid}{where} was stopped: {task} took more than {timeout:g} seconds{last}"
        return TaskTimeout(text, timeout, pid, task, stack)
    if exitcode < 0:
        end = f"was killed by {str(_describe_exitcode(exitcode)).lstrip('-')}"
        if out_of_memory:
            end += ", as memory ran out,"
    else:
        end = f"exited with code {exitcode}"
    text = f"worker process {pid}{where} {end} during {task}{last}"
    return WorkerDied(text, pid, exitcode, task, stack, out_of_memory)


def _cancelled(func: Callable[..., object], number: int) -> TaskCancelled:
    return TaskCancelled(f"{_task(func, number)} was cancelled")


def _already_taken() -> RuntimeError:
    return RuntimeError("the result was taken already")


def _foreign(pid: int) -> ValueError:
    return ValueError(
        f"this pool belongs to process {pid}: a child of it cannot use it, but can make its own"
    )


for _public in (RemoteTraceback, ExceptionWithTraceback, rebuild_exc, MaybeEncodingError):
    _public.__module__ = "procession.pool"
