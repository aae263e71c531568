"""ctypes objects in shared memory.

Their types, which processes see them, how they travel, and that their memory is freed.
"""

import ctypes
import os
import pickle
import signal
import sys

import pytest

import procession
from procession import heap, sharedctypes
from procession.context import reduction


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_int)]


class Point3(Point):
    _fields_ = [("z", ctypes.c_longlong)]


class Either(ctypes.Union):
    _fields_ = [("whole", ctypes.c_int), ("bytes", ctypes.c_ubyte * 4)]


def family_bytes():
    """Return the size of the family's large pieces of memory, from the arena's file."""
    from procession._procession import arena_fd

    return os.fstat(arena_fd()).st_blocks * 512


class TestBare:
    @pytest.mark.parametrize("code", sorted(sharedctypes.typecode_to_type))
    def test_type_codes(self, code):
        type_ = sharedctypes.typecode_to_type[code]
        value = sharedctypes.RawValue(code)
        assert type(value) is type_
        zero = {"c": b"\0", "u": "\0"}.get(code, 0)
        other = {"c": b"x", "u": "ä"}.get(code, 77)
        assert value.value == zero
        value.value = other
        assert value.value == other
        assert sharedctypes.RawValue(type_, other).value == other
        array = sharedctypes.RawArray(code, 3)
        assert array[:] in ([0, 0, 0], b"\0\0\0", "\0\0\0")
        array[1] = other
        assert array[1] == other

    def test_arrays(self):
        array = sharedctypes.RawArray("i", range(10))
        assert len(array) == 10 and array[:] == list(range(10))
        array[2:4] = [7, 8]
        assert array[1:5] == [1, 7, 8, 4]
        with pytest.raises(IndexError):
            array[10]
        assert len(sharedctypes.RawArray("d", 0)) == 0
        text = sharedctypes.RawArray("c", b"hello")
        assert (text.value, text.raw) == (b"hello", b"hello")
        matrix = sharedctypes.RawArray(ctypes.c_int * 3, 2)
        matrix[1][2] = 5
        assert [list(row) for row in matrix] == [[0, 0, 0], [0, 0, 5]]

    def test_structures(self):
        point = sharedctypes.RawValue(Point, 1.5, 2)
        assert (point.x, point.y) == (1.5, 2) and type(point) is Point
        points = sharedctypes.RawArray(Point, [(1, 2), (3, 4)])
        assert [(p.x, p.y) for p in points] == [(1, 2), (3, 4)]
        either = sharedctypes.RawValue(Either)
        either.whole = 0x01020304
        assert either.bytes[0] == (4 if sys.byteorder == "little" else 1)

    def test_zero_even_where_others_wrote(self):
        for _ in range(5):
            for size in (1, 6, 100, 5000, 100_000):
                array = sharedctypes.RawArray("q", size)
                assert not any(array)
                ctypes.memset(array, 255, ctypes.sizeof(array))
                del array

    def test_copy(self):
        point = sharedctypes.RawValue(Point, 1.5, 2)
        copy = sharedctypes.copy(point)
        point.x = 0
        assert (copy.x, copy.y) == (1.5, 2)
        assert list(sharedctypes.copy((ctypes.c_int * 3)(1, 2, 3))) == [1, 2, 3]

    def test_too_much(self):
        with pytest.raises(OSError, match="too large"):
            sharedctypes.RawArray("q", 1 << 50)
        with pytest.raises(MemoryError):
            sharedctypes.RawArray("q", 1 << 43)
        assert sharedctypes.RawValue("i", 3).value == 3

    def test_numpy(self):
        numpy = pytest.importorskip("numpy")
        array = sharedctypes.RawArray("d", 1000)
        view = numpy.frombuffer(array)
        view += 1
        assert sum(array) == 1000
        del array
        assert view.sum() == 1000


class TestLocked:
    def test_value(self):
        value = procession.Value("i", 5)
        assert isinstance(value, sharedctypes.Synchronized) and value.value == 5
        with value.get_lock():
            value.value += 1
        with value:
            assert value.get_obj().value == 6
        assert repr(value) == "<Synchronized wrapper for c_int(6)>"
        assert value.acquire()
        value.release()
        with pytest.raises(TypeError):
            value.value = "x"
        assert value.value == 6

    def test_array(self):
        array = procession.Array("i", range(5))
        assert isinstance(array, sharedctypes.SynchronizedArray)
        array[1:3] = [7, 8]
        assert (len(array), array[0], array[:], list(array)) == (
            5,
            0,
            [0, 7, 8, 3, 4],
            [0, 7, 8, 3, 4],
        )
        with pytest.raises(IndexError):
            array[5] = 1
        array[4] = 9
        assert array[-1] == 9

    def test_string(self):
        text = procession.Array("c", 10)
        assert isinstance(text, sharedctypes.SynchronizedString)
        text.value = b"hello"
        assert (text.value, text.raw) == (b"hello", b"hello" + bytes(5))

    def test_structure(self):
        point = procession.Value(Point3, 1.5, 2)
        assert type(point).__name__ == "SynchronizedPoint3"
        point.y += 1
        point.z = 1 << 40
        assert (point.x, point.y, point.z) == (1.5, 3, 1 << 40)
        assert type(procession.Value(Point3)) is type(point)

    def test_which_lock(self):
        lock = procession.Lock()
        assert procession.Value("i", lock=lock).get_lock() is lock
        bare = procession.Value("i", 5, lock=False)
        assert type(bare) is ctypes.c_int and not hasattr(bare, "get_lock")
        assert procession.Array("i", 5, lock=None).get_lock().acquire()
        for make in (procession.Value, procession.Array):
            with pytest.raises(AttributeError, match="has no method 'acquire'"):
                make("i", 5, lock="none")
        with pytest.raises(AssertionError, match="already synchronized"):
            sharedctypes.synchronized(procession.Value("i"))


def double(integer, floating, point, array, text):
    integer.value *= 2
    floating.value *= 2
    point.x *= 2
    point.y *= 2
    for i in range(len(array)):
        array[i] *= 2
    text.value *= 2


def add(value, array, times):
    for i in range(times):
        with value.get_lock():
            value.value += 1
        with array:
            array[i % len(array)] += 1


def send_back(incoming, outgoing):
    outgoing.put(incoming.get())


def hold(connection):
    memory = sharedctypes.RawArray("b", 50 << 20)
    memory[0] = 1
    connection.send("have it")
    signal.pause()


class TestProcesses:
    @pytest.mark.parametrize("lock", [False, True])
    def test_arguments(self, ctx, lock):
        things = (
            ctx.Value("i", 7, lock=lock),
            ctx.Value(ctypes.c_double, 1 / 3, lock=lock),
            ctx.Value(Point, 3, 2, lock=lock),
            ctx.Array("d", range(1000), lock=lock),
            ctx.Array("c", 20, lock=lock),
        )
        things[4].value = b"hello"
        child = ctx.Process(target=double, args=things)
        child.start()
        child.join()
        assert child.exitcode == 0
        integer, floating, point, array, text = things
        assert (integer.value, floating.value, point.x, point.y, text.value) == (
            14,
            2 / 3,
            6,
            4,
            b"hellohello",
        )
        assert array[:] == [2 * i for i in range(1000)]

    def test_increments_are_exact(self, ctx):
        value, array = ctx.Value("i"), ctx.Array("i", 3)
        children = [ctx.Process(target=add, args=(value, array, 20_000)) for _ in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert (value.value, sum(array)) == (80_000, 80_000)

    def test_in_a_queue(self, ctx):
        there, back = ctx.Queue(), ctx.Queue()
        child = ctx.Process(target=send_back, args=(there, back))
        child.start()
        # The message holds the only reference to it.
        there.put([ctx.Value("i", 5), {"a": ctx.RawArray("d", 10_000)}])
        value, table = back.get()
        child.join()
        assert value.value == 5 and len(table["a"]) == 10_000 and not any(table["a"])

    def test_the_memory_of_a_killed_process_comes_back(self, ctx):
        def kill_one():
            reader, writer = ctx.Pipe(False)
            child = ctx.Process(target=hold, args=(writer,))
            child.start()
            assert reader.recv() == "have it"
            child.kill()
            child.join()

        kill_one()
        kill_one()
        before = family_bytes()
        for _ in range(6):
            kill_one()
        assert family_bytes() < before + (100 << 20)


class TestTravelling:
    def test_the_same_memory(self):
        value = sharedctypes.RawValue("i", 5)
        copy = reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(value))
        copy.value = 6
        assert value.value == 6 and type(copy) is ctypes.c_int

    def test_locked(self):
        array = procession.Array("i", 3)
        copy = reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(array))
        copy[1] = 6
        assert array[:] == [0, 6, 0]
        with array.get_lock():
            assert copy.get_lock().acquire(False)
            copy.get_lock().release()

    def test_with_a_pickler_that_knows_nothing_of_it(self):
        """The result is never a copy that is not shared."""
        value, array = procession.Value("i", 5), procession.Array("i", 3)
        pickle.loads(pickle.dumps(value)).value = 6
        pickle.loads(pickle.dumps(array))[1] = 7
        assert value.value == 6 and array[:] == [0, 7, 0]
        with pytest.raises(TypeError):
            pickle.dumps(sharedctypes.RawValue("i", 5))

    def test_ctypes_objects_that_are_not_shared(self):
        sharedctypes.RawValue("i")
        copy = reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(ctypes.c_int(5)))
        assert copy.value == 5

    def test_gone(self):
        pickled = bytes(reduction.ForkingPickler.dumps(sharedctypes.RawArray("d", 1000)))
        with pytest.raises(ValueError, match="no longer exists"):
            pickle.loads(pickled)

    def test_another_family(self, tmp_path):
        import subprocess

        value = sharedctypes.RawValue("i", 5)
        path = tmp_path / "value"
        path.write_bytes(reduction.ForkingPickler.dumps(value))
        code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        assert "belongs to another family of processes" in done.stderr


class TestHeap:
    def test_buffer(self):
        wrapper = heap.BufferWrapper(100)
        view = wrapper.create_memoryview()
        view[:3] = b"abc"
        copy = pickle.loads(pickle.dumps(wrapper))
        assert bytes(copy.create_memoryview()) == b"abc" + bytes(97)
        assert not view.readonly and len(view) == 100
        del wrapper, copy
        assert bytes(view[:3]) == b"abc"

    @pytest.mark.parametrize(
        "size, error", [(-1, ValueError), (sys.maxsize, OverflowError), (1 << 60, OSError)]
    )
    def test_wrong_sizes(self, size, error):
        with pytest.raises(error):
            heap.BufferWrapper(size)

    def test_freed_memory_is_used_again(self):
        def turn():
            wrappers = [heap.BufferWrapper(size) for size in (10, 3000, 200_000, 5 << 20)]
            for wrapper in wrappers:
                wrapper.create_memoryview()[-1] = 1

        turn()
        before = family_bytes()
        for _ in range(50):
            turn()
        assert family_bytes() <= before + (10 << 20)

    def test_arena_and_heap(self):
        arena, start, stop = heap.Heap().malloc(1000)
        arena.buffer[start] = 5
        copy = pickle.loads(pickle.dumps(arena))
        assert (copy.size, copy.buffer[0], stop - start) == (1000, 5, 1000)


@pytest.mark.parametrize("make", ["Value", "RawValue", "Array", "RawArray"])
def test_a_bad_typecode_is_named(make):
    with pytest.raises(TypeError, match="bad typecode"):
        getattr(procession, make)("x", 3)
