"""Accesses to `Value` and `Array` that the extension makes itself, without ctypes.

They give what ctypes gives, take the lock as its methods do, and are used only where nothing of the
program stands between.
"""

import ctypes
import gc
import itertools
import math
import operator
import struct
import sys
import threading

import pytest

import procession
from procession import sharedctypes

CODES = [*sharedctypes.typecode_to_type.values(), ctypes.c_bool, ctypes.c_ssize_t, ctypes.c_size_t]
OTHERS = [
    ctypes.c_longdouble,
    ctypes.c_void_p,
    ctypes.c_int.__ctype_be__,
    ctypes.c_double.__ctype_be__,
]


class Odd(ctypes.c_int):
    """Items of this type are objects, not numbers."""


class Index:
    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


class Real(float):
    def __float__(self):
        raise AssertionError("ctypes does not ask a float")


class Number(int):
    """Its methods of conversion are not asked, where it is an int."""


POWERS = [1 << bits for bits in (7, 8, 15, 16, 31, 32, 53, 63, 64, 70, 1100)]
VALUES = [
    *(0, 1, -1, 2, 77, 255, 256, True, False, None, Number(7), Index(9), Index(-(1 << 65))),
    *POWERS,
    *(power - 1 for power in POWERS),
    *(-power for power in POWERS),
    *(0.0, -0.0, 0.1, 1.5, -2.75, 1e39, -1e39, 1e308, 5e-324, 1e-46, math.inf, -math.inf, math.nan),
    *(Real(2.5), 1j, "", "a", "ä", "\0", "\ud800", "\U0010ffff", "ab", b"", b"x", b"\0", b"xy"),
    *(bytearray(b"x"), bytearray(b"xy"), [], (), [1], object, ctypes.c_int(3), ctypes.c_char(b"y")),
]
INDICES = [
    *(0, 1, -1, 4, -5, 5, -6, True, Number(3), Index(2), Index(-9), 1 << 70, -(1 << 70)),
    *(None, 1.0, "0", (0,), ..., sys.maxsize, -sys.maxsize - 1),
]
ENDS = [None, 0, 1, -1, 3, 5, 9, -9, 1 << 70, Index(2)]
STEPS = [None, 1, 2, -1, -3, 0, 1 << 70, -sys.maxsize]
SLICES = [
    *itertools.starmap(slice, itertools.product(ENDS, ENDS, STEPS)),
    slice("a", 2),
    slice(1.0),
]


class OtherLock:
    """A lock of the program: accesses go through it and through ctypes."""

    def __init__(self):
        self.acquired = 0
        self.depth = 0

    def acquire(self):
        self.acquired += 1
        self.depth += 1
        return True

    def release(self):
        self.depth -= 1


def exact(result):
    """Return a result such that equal ones have the same types and bits."""
    if isinstance(result, float):
        return "float", struct.pack("d", result)
    if isinstance(result, list):
        return [exact(one) for one in result]
    return type(result), getattr(result, "value", result)


def outcome(do, *arguments):
    try:
        return exact(do(*arguments))
    except Exception as error:
        return type(error), str(error)


def content(wrapper):
    bare = wrapper.get_obj()
    item = getattr(type(bare), "_type_", None)
    if ctypes.c_longdouble in (type(bare), item):
        return ()  # the padding may be anything
    return bytes(bare)


def is_direct(wrapper):
    """Return whether an access does without the ctypes object."""
    kept = wrapper.__dict__.pop("_obj")
    try:
        wrapper[0] if isinstance(wrapper, sharedctypes.SynchronizedArray) else wrapper.value
    except AttributeError:
        return False
    finally:
        wrapper.__dict__["_obj"] = kept
    return True


def write(wrapper, value):
    wrapper.value = value


def write_item(wrapper, key, value):
    wrapper[key] = value


def read_item(wrapper, key):
    return wrapper[key]


def plus(wrapper, addend):
    before = wrapper.value
    wrapper.value = before + addend
    return before


def delete_value(wrapper):
    del wrapper.value


def delete_item(wrapper, key):
    del wrapper[key]


@pytest.fixture(params=[True, procession.Lock], ids=["RLock", "Lock"])
def lock(request):
    return request.param if request.param is True else request.param()


class TestAsCtypes:
    """Each operation on a directly accessed object and on one that goes through ctypes."""

    @pytest.mark.parametrize("type_", [*CODES, *OTHERS, Odd])
    def test_values(self, type_, lock):
        ours, other = procession.Value(type_, lock=lock), procession.Value(type_, lock=OtherLock())
        assert is_direct(ours) == (type_ in CODES) and not is_direct(other)
        for value in VALUES:
            assert outcome(write, ours, value) == outcome(write, other, value), value
            assert content(ours) == content(other), value
            assert outcome(getattr, ours, "value") == outcome(getattr, other, "value"), value
        assert outcome(delete_value, ours) == outcome(delete_value, other)
        assert other.get_lock().depth == 0 and ours.get_lock().acquire(False)

    @pytest.mark.parametrize("type_", [*CODES, *OTHERS, Odd])
    def test_items(self, type_, lock):
        ours, other = (procession.Array(type_, 5, lock=each) for each in (lock, OtherLock()))
        assert is_direct(ours) == (type_ in CODES) and not is_direct(other)
        assert len(ours) == len(other) == 5
        for at, value in enumerate(VALUES):
            assert outcome(write_item, ours, at % 5, value) == outcome(
                write_item, other, at % 5, value
            )
        for key in [*INDICES, *SLICES]:
            assert outcome(read_item, ours, key) == outcome(read_item, other, key), key
            for value in (1, b"x", "x", None):
                assert outcome(write_item, ours, key, value) == outcome(
                    write_item, other, key, value
                )
        assert content(ours) == content(other)
        assert outcome(list, ours) == outcome(list, other)
        assert outcome(list, map(exact, reversed(ours))) == outcome(
            list, map(exact, reversed(other))
        )
        assert outcome(delete_item, ours, 0) == outcome(delete_item, other, 0)
        assert outcome(delete_item, ours, slice(2)) == outcome(delete_item, other, slice(2))
        assert ours.get_lock().acquire(False)

    @pytest.mark.parametrize("type_", CODES)
    def test_slices(self, type_):
        ours, other = (procession.Array(type_, 9, lock=each) for each in (True, OtherLock()))
        one = {ctypes.c_char: b"x", ctypes.c_wchar: "ß"}.get(type_, 77)
        for number, key in enumerate(SLICES):
            size = len(range(9)[key]) if outcome(range(9).__getitem__, key)[0] is range else 3
            for new in (
                [one] * size,
                (one,) * size,
                [number % 2 == 0] * size,
                [*[one] * (size - 1), object],  # ctypes has written the items before the wrong one
                [one] * (size + 1),
                iter([one] * size),
                b"z" * size,
                "z" * size,
                range(size),
            ):
                assert outcome(write_item, ours, key, new) == outcome(write_item, other, key, new)
                assert content(ours) == content(other)
            assert outcome(read_item, ours, key) == outcome(read_item, other, key)

    @pytest.mark.parametrize("type_", CODES)
    def test_empty(self, type_):
        ours, other = (procession.Array(type_, 0, lock=each) for each in (True, OtherLock()))
        assert len(ours) == 0 and list(ours) == []
        for key in (0, -1, slice(None), slice(None, None, -1)):
            assert outcome(read_item, ours, key) == outcome(read_item, other, key)

    def test_every_byte_is_a_value(self):
        for type_ in CODES:
            ours, other = (procession.Value(type_, lock=each) for each in (True, OtherLock()))
            for byte in (0x00, 0x01, 0x7F, 0x80, 0xD8, 0xFF):
                for wrapper in (ours, other):
                    ctypes.memset(ctypes.addressof(wrapper.get_obj()), byte, ctypes.sizeof(type_))
                assert outcome(getattr, ours, "value") == outcome(getattr, other, "value")

    def test_strings(self):
        ours, other = (procession.Array("c", 6, lock=each) for each in (True, OtherLock()))
        for new in (b"abc", b"a\0bcde", b"", b"abcdef", b"abcdefg", "abc", None, bytearray(b"xyz")):
            for name in ("value", "raw"):
                assert outcome(setattr, ours, name, new) == outcome(setattr, other, name, new)
                for read in ("value", "raw"):
                    assert getattr(ours, read) == getattr(other, read)
                assert ours[:] == other[:] == ours.raw

    @pytest.mark.parametrize("type_", [*CODES, *OTHERS])
    def test_additions(self, type_):
        """`add` leaves what `+=` leaves and raises what it raises."""
        ours, other = (procession.Value(type_, lock=each) for each in (True, OtherLock()))
        array = procession.Array(type_, 3)
        for addend in VALUES:
            for start in (b"a", "a", 0, 1, -1, 3.5, (1 << 63) - 1, -1e308, True):
                if outcome(write, other, start) != (type(None), None):
                    continue
                ours.value = array[1] = start
                expected = outcome(plus, other, addend)
                assert outcome(ours.add, addend) == outcome(array.add, 1, addend) == expected
                assert exact(ours.value) == exact(array[1]) == exact(other.value)

    def test_indices_of_additions(self):
        array, expected = procession.Array("i", 5), [0] * 5
        for key in INDICES:
            before = outcome(read_item, array, key)
            assert outcome(array.add, key, 1) == before
            if before[0] is int:
                expected[operator.index(key)] += 1
        assert array[:] == expected

    @pytest.mark.parametrize("arguments", [(), (1, 2), (1, 2, 3)])
    def test_arguments_of_add(self, arguments):
        wrapper = procession.Value("i") if len(arguments) != 2 else procession.Value("d")
        with pytest.raises(TypeError, match="takes exactly"):
            wrapper.add(*arguments)
        with pytest.raises(TypeError, match="keyword"):
            wrapper.add(n=1)


class TestWhoseLock:
    """Methods and objects of the program are used."""

    def test_the_program_s_lock(self):
        lock = OtherLock()
        value = procession.Value("i", 1, lock=lock)
        value.value += 1
        assert (value.value, value.add(3), value.value, lock.acquired) == (2, 2, 5, 5)

    @pytest.mark.parametrize("name", ["acquire", "release"])
    def test_replaced_methods(self, name):
        value, calls = procession.Value("i", 1), []
        own = getattr(value, name)
        setattr(value, name, lambda: calls.append(name) or own())
        value.value += 1
        assert value.value == 2 and calls == [name] * 3

    def test_a_deleted_method_is_missed(self):
        array = procession.Array("i", 1)
        del array.acquire
        with pytest.raises(AttributeError, match="acquire"):
            array[0]

    def test_a_replaced_object(self):
        value = procession.Value("i", 1)
        value._obj = ctypes.c_int(7)
        assert value.value == 7 and value.add(1) == 7 and value._obj.value == 8

    @pytest.mark.parametrize("kind", ["Lock", "RLock"])
    def test_a_subclass_of_the_lock(self, kind):
        calls = []
        context = procession.get_context()

        class Counted(getattr(procession.synchronize, kind)):
            def acquire(self, *arguments):
                calls.append("acquire")
                return super().acquire(*arguments)

        value = procession.Value("i", lock=Counted(ctx=context))
        value.value = 5
        assert value.value == 5 and calls == ["acquire"] * 2

    def test_a_method_set_on_the_lock(self):
        lock, calls = procession.RLock(), []
        own = lock.acquire
        lock.acquire = lambda *arguments: calls.append(1) or own(*arguments)
        assert procession.Value("i", lock=lock).value == 0 and calls == [1]

    def test_a_method_set_on_the_class(self, monkeypatch):
        calls = []
        own = procession.synchronize.RLock.acquire
        monkeypatch.setattr(
            procession.synchronize.RLock,
            "acquire",
            lambda self, *args: calls.append(1) or own(self, *args),
        )
        assert procession.Value("i").value == 0 and calls == [1]

    def test_a_subclass(self):
        calls = []

        class Counted(sharedctypes.Synchronized):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                self.release = self.counted

            def counted(self):
                calls.append(1)
                return self._lock.release()

        assert Counted(sharedctypes.RawValue("i", 3)).value == 3 and calls == [1]

    def test_objects_elsewhere(self):
        plain = sharedctypes.synchronized(ctypes.c_int(3))
        assert plain.value == 3 and plain.add(2) == 3 and plain.value == 5
        array = sharedctypes.synchronized((ctypes.c_double * 3)(1, 2, 3))
        assert array[1:] == [2, 3] and array.add(0, 0.5) == 1 and array[0] == 1.5

    def test_arrays_with_methods_of_their_own(self):
        class Doubled(ctypes.c_int * 3):
            def __getitem__(self, key):
                return super().__getitem__(key) * 2

        array = sharedctypes.synchronized(sharedctypes.RawValue(Doubled, 1, 2, 3))
        assert array[1] == 4

    def test_errors_of_both_methods(self):
        value = procession.Value("i")

        def fail():
            raise KeyError("release")

        value.release = fail
        with pytest.raises(KeyError, match="release") as caught:
            value.value = "x"
        assert isinstance(caught.value.__context__, TypeError)

    def test_binding_is_checked(self):
        wrapper = sharedctypes.RawArray("i", 4)._wrapper.shared._memory
        lock = procession.RLock()
        fresh = sharedctypes.GuardedArray()
        for code, length, of in (
            ("i", 5, lock),
            ("q", 3, lock),
            ("i", sys.maxsize, lock),
            ("g", 1, lock),
        ):
            with pytest.raises(ValueError):
                fresh._bind(wrapper, code, length, of)
        with pytest.raises(TypeError):
            fresh._bind(wrapper, "i", 4, threading.RLock())
        with pytest.raises(AttributeError, match="acquire"):
            fresh[0]


class TestMemory:
    def test_two_never_alias(self):
        values = [procession.Value("i", number) for number in range(100)]
        for value in values[::2]:
            value.value = -1
        assert [value.value for value in values] == [n if n % 2 else -1 for n in range(100)]

    def test_it_lives_as_long_as_the_wrapper(self):
        value = procession.Array("q", range(1000))
        value.__dict__.clear()
        gc.collect()
        others = [procession.Array("q", 1000) for _ in range(50)]
        assert value[:] == list(range(1000)) and not any(map(any, others))

    def test_bare_views_see_the_same(self):
        array = procession.Array("d", 3)
        view = memoryview(array.get_obj())
        array[1] = 0.5
        assert struct.unpack_from("d", view, 8) == (0.5,)


def test_object_s_own_setattr_may_be_used():
    class Own(sharedctypes.Synchronized):
        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)

    value = Own(sharedctypes.RawValue("i", 3))
    object.__setattr__(value, "other", 1)
    value.value += value.other
    assert value.value == 4
    seen = []
    for name in ("acquire", "release"):
        object.__setattr__(value, name, lambda name=name: seen.append(name))
    assert (value.value, seen) == (4, ["acquire", "release"])
    object.__delattr__(value, "other")
    with pytest.raises(AttributeError, match="other"):
        object.__delattr__(value, "other")


def test_arrays_without_items():
    empty = procession.Array("i", 0)
    assert (len(empty), empty[:], list(empty)) == (0, [], [])
