"""Strings, bytes-likes and arrays as items, which do not pass through pickle, and within other objects.

What comes out is compared with what pickle makes of the same object.
"""

from __future__ import annotations

import copyreg
import pickle

import numpy
import pytest

import procession
from procession import _procession
from tests.conftest import METHODS

SIZES = [
    0,
    1,
    2,
    95,
    96,
    97,
    103,
    104,
    105,
    4095,
    4096,
    4097,
    16383,
    16384,
    16385,
    65535,
    65536,
    1 << 20,
]
#: Characters of one, two and four bytes, and half of a pair of surrogates.
CHARACTERS = ["x", "\xe9", "\u20ac", "\U0001f600", "\ud800"]
NUMBERS = "?bBhHiIlLqQefdgFDG"
DTYPES = [*NUMBERS, ">f8", ">i4", "<u2", ">c16"]
SHAPES = [(1,), (5,), (3, 4), (2, 3, 4), (70, 100), (1, 1, 9), (1, 2, 1, 1, 1, 1, 1), (2,) * 8]


@pytest.fixture
def queue():
    return procession.get_context("fork").Queue()


def through(queue, item):
    queue.put(item)
    got = queue.get()
    assert queue.empty()
    return got


def owned():
    """Return how many blocks this process owns."""
    return _procession.counters()["owned"]


def same(got, item):
    """Assert that two objects are of the same type and equal, also in what arrays are made of."""
    assert type(got) is type(item)
    if isinstance(item, numpy.ndarray):
        known = pickle.loads(pickle.dumps(item, 5))
        assert (got.dtype, got.shape, got.strides) == (known.dtype, known.shape, known.strides)
        assert got.dtype.metadata == known.dtype.metadata
        for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "ALIGNED", "WRITEABLE", "OWNDATA"):
            expected = flag == "WRITEABLE" or known.flags[flag]
            assert got.flags[flag] == expected or flag == "OWNDATA", flag
        assert got.tobytes() == item.tobytes()
    else:
        assert got == item


@pytest.mark.parametrize("size", SIZES)
def test_bytes_and_strings_of_all_sizes(queue, size):
    items = [b"\x00\xff" * (size // 2) + b"a" * (size % 2), bytearray(b"ab"[: size % 3] * size)]
    items += [character * size for character in CHARACTERS]
    items += ["x" * (size - 1) + character for character in CHARACTERS if size]
    for item in items:
        same(through(queue, item), item)
        same(through(queue, [item])[0], item)


def test_64_mb(queue):
    for item in (
        bytes(range(256)) * (1 << 18),
        bytearray(b"ab" * (1 << 25)),
        "\u20ac" * (1 << 25),
        numpy.arange(1 << 23),
    ):
        same(through(queue, item), item)


@pytest.mark.parametrize("size", [(4 << 20) - 1, 4 << 20, (6 << 20) + 12345])
def test_sizes_from_which_on_the_kernel_gives_huge_pages(queue, size):
    data = numpy.arange(size).astype("u1").tobytes()
    for item in (data, bytearray(data)):
        same(through(queue, item), item)
        kept = [through(queue, item) for _ in range(3)]
        assert kept == [item] * 3


def test_a_byte_array_can_be_changed_on_both_sides(queue):
    item = bytearray(100_000)
    queue.put(item)
    item += b"more"
    got = queue.get()
    got += b"longer"
    assert len(item) == 100_004
    assert len(got) == 100_006


@pytest.mark.parametrize("base", [bytes, bytearray, str])
def test_subclasses_keep_their_type(queue, base):
    kind = KINDS[base]
    for size in (3, 100_000):
        item = kind(b"x" * size) if base is not str else kind("x" * size)
        same(through(queue, item), item)
        same(through(queue, {1: (item,)})[1][0], item)


class Bytes(bytes):
    pass


class ByteArray(bytearray):
    pass


class Text(str):
    pass


class Array(numpy.ndarray):
    pass


KINDS = {bytes: Bytes, bytearray: ByteArray, str: Text}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("writeable", [True, False])
def test_arrays_of_numbers(queue, dtype, order, writeable):
    for shape in SHAPES:
        array = (numpy.arange(numpy.prod(shape)) % 2).astype(dtype).reshape(shape, order=order)
        array.flags.writeable = writeable
        same(through(queue, array), array)
        for got in through(queue, {"a": array, "b": [array]}).values():
            same(got if type(got) is not list else got[0], array)


@pytest.mark.parametrize("size", [4095, 4096, 16383, 16384, 16385])
def test_arrays_around_the_size_of_a_block(queue, size):
    array = numpy.arange(size).astype("u1")
    for item in (array, array[:-1].reshape(2, -1) if size % 2 else array.reshape(2, -1)):
        same(through(queue, item), item)
        got = through(queue, [item, item])
        same(got[0], item)
        assert got[0] is got[1]
        got[0][...] = 7
        assert got[1].sum() == 7 * item.size


OTHERS = {
    "no dimensions": numpy.array(7),
    "read-only without dimensions": numpy.frombuffer(b"12345678").reshape(()),
    "empty": numpy.empty((3, 0, 2)),
    "every other": numpy.arange(10_000)[::2],
    "backwards": numpy.arange(10_000)[::-1],
    "transposed": numpy.arange(6_000).reshape(2, 3, 1000).transpose(1, 0, 2),
    "broadcast": numpy.broadcast_to(numpy.arange(5_000), (3, 5_000)),
    "objects": numpy.array([None, "x", 3], dtype=object),
    "records": numpy.zeros(3000, dtype=[("a", "i4"), ("b", "f8")]),
    "strings": numpy.array(["abc", "d"]),
    "bytes": numpy.array([b"abc", b"d"]),
    "dates": numpy.arange(5_000).astype("M8[s]"),
    "differences": numpy.arange(5_000).astype("m8[ms]"),
    "metadata": numpy.zeros(5_000, numpy.dtype("f8", metadata={"unit": "m"})),
    "a copy of a dtype": numpy.zeros(5_000, pickle.loads(pickle.dumps(numpy.dtype("f8")))),
    "subclass": numpy.arange(5_000).view(Array),
    "masked": numpy.ma.masked_array(numpy.arange(3), [0, 1, 0]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_arrays(queue, name):
    item = OTHERS[name]
    expected = pickle.loads(pickle.dumps(item, 4))
    for got in (through(queue, item), through(queue, [item])[0]):
        assert type(got) is type(expected)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert got.dtype.metadata == expected.dtype.metadata
        assert got.flags.writeable == expected.flags.writeable
        assert repr(got) == repr(expected)


def test_a_registered_reducer_is_used(queue):
    def reduce(array):
        return str, ("reduced",)

    for table in (procession.reduction.ForkingPickler._extra_reducers, copyreg.dispatch_table):
        table[numpy.ndarray] = reduce
        try:
            for size in (3, 100_000):
                assert through(queue, numpy.zeros(size)) == "reduced"
                assert through(queue, [numpy.zeros(size)]) == ["reduced"]
        finally:
            del table[numpy.ndarray]


def test_one_object_stays_one_object(queue):
    data, text, array = b"d" * 100_000, "t" * 100_000, numpy.arange(10_000)
    before = owned()
    got = through(queue, [data, text, array, {"again": (data, text, array)}])
    assert all(got[number] is got[3]["again"][number] for number in range(3))
    assert owned() == before + 1, "one block, for the array"
    del got
    assert owned() == before


def test_recursion_and_keys(queue):
    text = "key" * 50_000
    item = [{text: text, b"b" * 70_000: 1}]
    item.append(item)
    got = through(queue, item)
    assert got[1] is got
    assert got[0][text] == text
    assert list(got[0]) == list(item[0])
    assert through(queue, {text, b"b" * 70_000}) == {text, b"b" * 70_000}


def test_memory_is_given_back_at_once(queue):
    before = owned()
    kept = [through(queue, item) for item in (b"b" * 100_000, "t" * 100_000, bytearray(100_000))]
    kept.append(through(queue, numpy.zeros(10)))
    assert owned() == before
    kept.append(through(queue, numpy.zeros(10_000)))
    assert owned() == before + 1
    kept.clear()
    assert owned() == before


def test_an_item_that_pickle_refuses_behind_a_large_one(queue):
    before = owned()
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        queue.put([b"b" * 100_000, numpy.zeros(10_000), (number for number in ())])
    assert queue.empty()
    assert owned() == before


def defined_here():
    return "defined here"


def test_a_function_behind_large_parts(queue):
    """The search for names of the main module looks at what the pickler itself wrote."""
    item = [
        "x" * 100_000,
        defined_here,
        b"_main__" * 20_000,
        lambda: "by value",
        list(range(50_000)),
    ]
    text, named, data, by_value, numbers = through(queue, item)
    assert (text, data, numbers) == (item[0], item[2], item[4])
    assert named() == "defined here"
    assert by_value() == "by value"


ITEMS = {
    "bytes": b"b" * 200_000,
    "bytearray": bytearray(200_000),
    "str": "\u20ac\ud800" * 100_000,
    "array": numpy.arange(20_000).reshape(100, -1),
    "small array": numpy.arange(3.0),
    "dict": {"a": numpy.arange(20_000), "b": b"b" * 200_000, "c": "c" * 200_000},
}


def send_back(requests, replies):
    while (item := requests.get()) is not None:
        replies.put(item)


def unchanged(item, **same):
    return item


def equal(got, item):
    if isinstance(item, dict):
        assert list(got) == list(item)
        for key in item:
            same(got[key], item[key])
    else:
        same(got, item)


def test_to_another_process_and_back(ctx):
    requests, replies = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=send_back, args=(requests, replies))
    process.start()
    for item in ITEMS.values():
        requests.put(item)
        equal(replies.get(), item)
    requests.put(None)
    process.join()
    assert process.exitcode == 0


def test_tasks_and_results_of_a_pool(ctx):
    with ctx.Pool(1) as pool:
        for item in ITEMS.values():
            equal(pool.apply(unchanged, (item,)), item)
            equal(pool.apply(unchanged, (), {"item": item}), item)
            for got in pool.imap(unchanged, [item, item]):
                equal(got, item)


@pytest.mark.parametrize("method", METHODS)
def test_an_executor(method):
    with procession.ProcessPoolExecutor(1, procession.get_context(method)) as executor:
        for item in ITEMS.values():
            equal(executor.submit(unchanged, item).result(), item)


def test_a_manager(ctx):
    with ctx.Manager() as manager:
        shared = manager.dict()
        for name, item in ITEMS.items():
            shared[name] = item
            equal(shared[name], item)


def end(item):
    import os

    os._exit(3)


@pytest.mark.parametrize("item", [b"bytes", "text", numpy.arange(3)])
def test_the_report_of_a_death_shows_the_argument(item):
    with procession.get_context("fork").Pool(1) as pool:
        with pytest.raises(procession.WorkerDied) as caught:
            pool.map(end, [item], chunksize=1)
        assert repr(item) in str(caught.value)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6])
def test_damaged_messages(kind):
    """A message of any bytes is a sound object, or an error."""
    samples = [
        b"",
        b"\0",
        b"\0" * 7,
        b"\xff" * 8,
        b"\0\0\0\xff\xff\xff\x10\0",
        b"\0\0\0\x00\x00\x11\0",
    ]
    samples += [
        bytes([number, flags, dimensions]) + b"\0\0\0\0" + b"\2\0\0\0\0\0\0\0" * count + b"z" * more
        for number in (0, 7, 12, 15, 16, 127, 128, 255)
        for flags in (0, 1, 2, 3, 255)
        for dimensions in (0, 1, 2, 33, 65, 255)
        for count in (0, 1, 2, 70)
        for more in (0, 16, 300)
    ]
    for sample in samples:
        mailbox = _procession.Mailbox.from_bytes(bytes([kind]) + sample)
        try:
            got = _procession.take_mail(mailbox.token)
        except (ValueError, RuntimeError, SystemError, MemoryError, TypeError, OverflowError):
            continue
        if isinstance(got, str):
            assert got.encode("utf-32", "surrogatepass").decode("utf-32", "surrogatepass") == got
            assert max(map(ord, got), default=0) <= 0x10FFFF
        elif isinstance(got, numpy.ndarray):
            assert got.nbytes <= len(sample)
            got.tobytes()
            got[...] = 0
        else:
            assert got == sample
            assert type(got) is (bytes if kind == 1 else bytearray)


def test_numpy_is_loaded_only_where_an_array_is(run_program):
    program = """
import sys, procession
queue = procession.Queue()
for item in (b"b" * 100_000, "t" * 100_000, {1: object}, [open]):
    queue.put(item)
    assert queue.get() == item
print("numpy" in sys.modules)
"""
    done = run_program(program)
    assert done.stdout == "False\n", done.stdout + done.stderr


class Clears:
    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        self.array.clear()
        return int, ()


def test_a_bytearray_is_taken_when_the_pickler_meets_it():
    array = bytearray(b"x" * 200_000)
    queue = procession.Queue()
    queue.put([array, Clears(array)])
    got, _number = queue.get()
    assert got == b"x" * 200_000
    assert not array


def test_dtypes_with_fields_keep_them():
    numpy = pytest.importorskip("numpy")
    dtype = numpy.dtype((numpy.int32, {"r": (numpy.int16, 0), "i": (numpy.int16, 2)}))
    array = numpy.zeros(3, dtype)
    queue = procession.Queue()
    for item in (array, [array]):
        queue.put(item)
        got = queue.get()
        assert (got[0] if type(item) is list else got).dtype.fields == dtype.fields
