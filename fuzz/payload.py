"""Pickles of shared objects with changed numbers, types and lengths, against what unpickles them.

`play` takes any bytes and lets a sender of the family do what they say. It raises AssertionError
if an object came out that is not what the number stands for, and lets no exception pass except
those of wrong values. `tests/pickling/test_payload_seeds.py` plays the inputs of `seeds/payload` and others
like them. Run as a program, with atheris installed, this file looks for new ones:
`python fuzz/payload.py CORPUS... [libFuzzer's options]`.

The pickles themselves are sound: a pickle may call whatever it names, and is accepted only from
trusted peers.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import pickle
import queue
import sys
import threading

from choices import Choices

if __name__ == "__main__":
    try:
        import atheris
    except ImportError:
        sys.exit("the target `payload` needs atheris: pip install atheris")
    watched = atheris.instrument_imports(include=["procession"])
else:
    watched = contextlib.nullcontext()

with watched:
    import procession
    from procession import _procession

#: The exceptions for wrong values. A panic of the engine is none of these.
REFUSALS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    queue.Empty,
    queue.Full,
    threading.BrokenBarrierError,
)
STEPS = 40


@functools.cache
def objects() -> list:
    """Return one object of every kind that is pickled as a number."""
    return [
        procession.Lock(),
        procession.RLock(),
        procession.Semaphore(3),
        procession.Semaphore(3, recover="silent"),
        procession.Condition(),
        procession.Event(),
        procession.Barrier(2),
        procession.Queue(4),
        procession.JoinableQueue(),
        procession.SimpleQueue(),
        procession.Value("q", 7),
        procession.RawArray("i", 10),
        procession.Pipe()[0],
        pickle.PickleBuffer(bytearray(40_000)),
        *plain_memory(),
    ]


def plain_memory() -> list:
    """Return one object of each kind that is sent without a pickle."""
    found = [b"bytes" * 50, bytearray(b"more"), "text", "t\u20ac", "\U0001f600" * 60]
    with contextlib.suppress(ImportError):
        import numpy

        found += [numpy.arange(6.0).reshape(2, 3), numpy.zeros((200, 100), "i1", "F")]
    return found


class Changed:
    """Pickled as another object is, except for what the input changes."""

    def __init__(self, obj: object, choices: Choices) -> None:
        self._obj = obj
        self._choices = choices

    @property
    def __class__(self) -> type:
        # The pickler checks whether it is of the class that is to be made.
        return type(self._obj)

    def __reduce_ex__(self, protocol: int) -> tuple:
        obj = self._obj
        if isinstance(obj, pickle.PickleBuffer):
            return bytearray, (obj,)
        register = procession.reduction.ForkingPickler._extra_reducers
        reduce = register.get(type(obj))
        callable_, arguments, *state = reduce(obj) if reduce else obj.__reduce_ex__(protocol)
        changed = [self._change(part) for part in state[:1]]
        return callable_, tuple(self._change(part) for part in arguments), *changed

    def _change(self, value: object) -> object:
        choices = self._choices
        if isinstance(value, (tuple, list)):
            parts = [self._change(part) for part in value]
            length = choices.below(24)
            if length == 0:
                parts = parts[:-1]
            elif length == 1:
                parts.append(None)
            return type(value)(parts)
        if isinstance(value, dict):
            return {key: self._change(part) for key, part in value.items()}
        if type(value) is int:
            return self._number(value)
        return (
            (value, value, value, None, b"?", 1.5)[choices.below(6)] if is_plain(value) else value
        )

    def _number(self, value: int) -> object:
        choices = self._choices
        how = choices.below(12)
        if how == 0:
            return value ^ 1 << choices.below(64)
        if how == 1:
            return int.from_bytes(choices.take(8), "big")
        if how == 2:
            return -1 - choices.below(3)
        if how == 3:
            return (0, 1, 1 << 63, 1 << 64, 1 << 200)[choices.below(5)]
        if how == 4:
            return (None, "1", 1.5, b"1", ())[choices.below(5)]
        if how == 5:
            return numbers()[choices.below(len(numbers()))]
        return value


def is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, str, bytes, float))


@functools.cache
def numbers() -> list[int]:
    """Return the numbers as which the first ten shared objects are pickled."""
    found: list[int] = []

    def look(value: object) -> None:
        if type(value) is int:
            found.append(value)
        elif isinstance(value, (tuple, list)):
            for part in value:
                look(part)
        elif type(value).__module__ == "procession._procession":
            look(value.__reduce_ex__(5)[1:])

    class Looking:
        def __reduce_ex__(self, protocol: int) -> tuple:
            for obj in objects()[:10]:
                look(obj.__reduce_ex__(protocol)[1:])
            return int, ()

    # Objects of the package are pickled only inside a message: then they name what they refer to.
    unpickled(_procession.Mailbox(Looking()))
    return found


def play(data: bytes) -> None:
    """Unpickle what `data` says, and use what comes out."""
    choices = Choices(data)
    for _ in range(STEPS):
        if not choices:
            return
        obj = objects()[choices.below(len(objects()))]
        try:
            got = unpickled(mailbox(obj, choices))
        except REFUSALS:
            continue
        try:
            use(got)
        except REFUSALS:
            pass
        if isinstance(obj, ctypes.Array):
            assert ctypes.sizeof(got) <= ctypes.sizeof(obj), "more memory than there is"  # type: ignore[arg-type]
        else:
            kinds = tuple(map(type, plain_memory())) if is_memory(obj) else (type(obj), bytearray)
            assert isinstance(got, kinds), f"{got!r} instead of {obj!r}"


def is_memory(obj: object) -> bool:
    return type(obj) in map(type, plain_memory())


def unpickled(mailbox: _procession.Mailbox) -> object:
    # The memory is given back once no object refers to it.
    return _procession.take_mail(mailbox.token)


def mailbox(obj: object, choices: Choices) -> _procession.Mailbox:
    """Pack an object: changed, or as it is but cut short and without its buffers."""
    if is_memory(obj):
        return _procession.Mailbox.from_bytes(damaged(obj, choices))
    if choices.below(6):
        return _procession.Mailbox(Changed(obj, choices))
    whole = _procession.Mailbox(Changed(obj, Choices(b"")))
    body = _procession.take_mail_bytes(whole.token)
    end = int.from_bytes(choices.take(2), "big") % (len(body) + 1)
    return _procession.Mailbox.from_bytes(body[:end])


def damaged(obj: object, choices: Choices) -> bytes:
    """Return the message of an object, with other bytes at its beginning, cut short or as it is."""
    body = bytearray(_procession.take_mail_bytes(_procession.Mailbox(obj).token))
    for _ in range(choices.below(4)):
        at = choices.below(24) % len(body)
        body[at] = choices.below(256)
    # A first byte that begins no such message is a pickle's, which may do anything.
    body[0] = 1 + (body[0] - 1) % 6
    if choices.below(4) == 0:
        del body[1 + choices.below(64) :]
    return bytes(body)


def use(got: object) -> None:
    """Do with it whatever can be done without waiting."""
    if hasattr(got, "acquire") and got.acquire(False):
        if hasattr(got, "notify_all"):
            got.notify_all()
        got.release()
    if hasattr(got, "put"):
        while not got.empty():
            got.get()
        got.put((1, b"x" * 300))
        assert got.get() == (1, b"x" * 300)
    for name in ("is_set", "get_value", "get_obj", "fileno", "parties", "n_waiting", "broken"):
        with contextlib.suppress(*REFUSALS):
            found = getattr(got, name)
            if callable(found):
                found()
    if isinstance(got, str):
        assert all(ord(character) <= sys.maxunicode for character in got), "no character"
    with contextlib.suppress(TypeError):
        memoryview(got).tobytes()


if __name__ == "__main__":
    atheris.Setup(sys.argv, play)
    atheris.Fuzz()
