"""When memory runs out, the caller gets a typed error.

The arena, an address space and a control group can each be full. Other processes are unharmed, and
all works again once there is room.
"""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.conftest import METHODS, PACKAGE_FOLDER
from tests.reliability.exhaustion import expect_done, program, run
from tests.waiting import until

#: Feeds a queue until memory runs out, then reads all of it.
FEED = """
    queue, lock = procession.Queue(), procession.Lock()
    count = 0
    try:
        while True:
            queue.put(bytes([count % 256]) * 100_000)
            count += 1
    except MemoryError as error:
        assert "shared memory" in str(error), error
    assert count > 100
    with lock:
        pass
    for number in range(count):
        item = queue.get()
        assert item == bytes([number % 256]) * 100_000
    assert queue.empty() and works()
    print("done")
"""


def test_a_queue_fed_faster_than_it_is_read(run_program):
    run(run_program, FEED, PROCESSION_ARENA_SIZE="64M")


def test_a_queue_fed_until_the_address_space_ends(run_program):
    text = """
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
"""
    run(run_program, text + FEED)


#: A child that has no address space for the memory of a dictionary that its parent fills.
DICTIONARY = """
    shared, other = procession.SharedDict(x=1), procession.SharedDict()
    assert shared.get("x") == len(shared) == 1
    (ready_in, ready_out), (go_in, go_out) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready_out, b"r")
        os.read(go_in, 1)
        pages = int(open("/proc/self/statm").read().split()[0])
        bytes_now = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (bytes_now, bytes_now))
        failed = 0
        for use in uses:
            try:
                use(shared)
            except MemoryError:
                failed += 1
        os._exit(failed)
    os.read(ready_in, 1)
    for number in range(60_000):
        other[number] = b"z" * 100
    for number in range(66_000):
        shared[number] = number
    os.write(go_out, b"g")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(uses)
    assert all(shared[number] == number for number in range(66_000))
    assert len(shared) == 66_001 == len(shared.copy())
    shared.clear()
    assert len(shared) == 0 and works()
    print("done")
"""


@pytest.mark.parametrize(
    "use", ["len(it)", "it.copy()", "it.clear()", "it.update({number: 0 for number in range(9)})"]
)
def test_a_dictionary_of_which_a_process_cannot_map_all(run_program, use):
    run(run_program, f"\n    uses = [lambda it: {use}] * 3" + DICTIONARY)


#: Uses a list of long calls in less and less address space, until there is enough for one.
LIST = """
    shared = procession.SharedList(range(100_000))
    pages = int(open("/proc/self/statm").read().split()[0])
    now, failed, done = pages * resource.getpagesize(), 0, 0
    for room in range(0, 600 << 20, 4 << 20):
        resource.setrlimit(resource.RLIMIT_AS, (now + room, resource.RLIM_INFINITY))
        before = len(shared)
        try:
            use(shared)
            done += 1
        except MemoryError:
            failed += 1
            assert len(shared) == before
        else:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            break
    assert failed and done, (failed, done)
    assert 0 in (shared[0], shared[-1])
    assert works()
    print("done")
"""


@pytest.mark.parametrize(
    "use",
    [
        "it.extend(many)",
        "it[1:1] = many",
        "it.copy()",
        "it.reverse()",
        "it.append(b'x' * (50 << 20))",
    ],
)
def test_a_list_of_which_a_process_has_no_room_for_all(run_program, use):
    functions = f"""
def use(it, many=[1.5] * 300_000):
    {use}
"""
    run(run_program, LIST, functions=functions)


def remove(group):
    """Remove a control group. Its last processes may still be leaving."""

    def removed():
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    until(removed)


@pytest.fixture
def memory_group():
    """Make a control group within this process's, and yield it with the file of its limit."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mount, limit = "/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, limit = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = pathlib.Path(mount + path, f"procession-test-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if os.access(group / limit, os.W_OK):
                yield group, limit
                return
        finally:
            remove(group)
    pytest.skip("this process may not make a control group that limits memory")


def test_a_control_groups_limit_is_an_error_and_kills_nobody(memory_group, tmp_path):
    group, limit = memory_group
    (group / limit).write_text(str(256 << 20))
    script = tmp_path / "program.py"
    enter = f"""
import os
with open({str(group / "cgroup.procs")!r}, "w") as procs:
    procs.write(str(os.getpid()))
"""
    script.write_text(enter + program(FEED))
    expect_done(
        subprocess.run(
            [sys.executable, script],
            env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
            capture_output=True,
            text=True,
            timeout=60,
        )
    )


def test_a_small_dev_shm_does_not_matter(tmp_path):
    text = """
    space = os.statvfs("/dev/shm")
    assert space.f_blocks * space.f_frsize == 1 << 20, space
    array = procession.Array("d", 4_000_000)
    array[-1] = 1.5
    assert works()
    queue = procession.Queue()
    for _ in range(3):
        queue.put(bytearray(20 << 20))
    assert [len(queue.get()) for _ in range(3)] == [20 << 20] * 3
    for method in procession.get_all_start_methods():
        with procession.get_context(method).Pool(2) as pool:
            assert pool.map(bytes, [2_000_000] * 4) == [bytes(2_000_000)] * 4
    print("done")
"""
    script = tmp_path / "program.py"
    script.write_text(program(text))
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare")
    for apart in (["unshare", "-m"], ["unshare", "-Urm"]):
        if subprocess.run([*apart, "sh", "-c", mount], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("this process may not mount a /dev/shm of its own")
    expect_done(
        subprocess.run(
            [*apart, "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": PACKAGE_FOLDER},
            capture_output=True,
            text=True,
            timeout=60,
        )
    )


def test_small_items_and_objects_until_the_arena_is_full(run_program):
    text = """
    queue, locks = procession.Queue(), []
    put = 0
    try:
        while True:
            queue.put(put)
            put += 1
    except MemoryError:
        pass
    try:
        while True:
            locks.append(procession.Lock())
    except MemoryError:
        pass
    for lock in locks[:100]:
        with lock:
            pass
    del locks, lock
    assert [queue.get() for _ in range(put)] == list(range(put))
    # Memory that small items lay in stays memory for small items.
    for number in range(put // 2):
        queue.put(number)
    assert [queue.get() for _ in range(put // 2)] == list(range(put // 2))
    procession.Lock()
    print("done")
"""
    run(run_program, text, PROCESSION_ARENA_SIZE="64M")


def test_a_message_larger_than_the_arena(run_program):
    text = """
    queue = procession.Queue()
    for _ in range(3):
        try:
            queue.put(b"x" * (100 << 20))
        except MemoryError:
            pass
        else:
            raise AssertionError("it cannot fit")
    queue.put("small")
    assert queue.get() == "small" and works()
    print("done")
"""
    run(run_program, text, PROCESSION_ARENA_SIZE="64M")


def available():
    with open("/proc/meminfo") as meminfo:
        fields = dict(line.split(":") for line in meminfo)
    return int(fields["MemAvailable"].split()[0]) * 1024


@pytest.mark.skipif(
    "PROCESSION_BIG_TESTS" not in os.environ, reason="takes 5 GB: PROCESSION_BIG_TESTS=1"
)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["queue", "pipe"])
def test_a_message_of_5_gb_passes(run_program, way):
    pytest.importorskip("numpy")
    if available() < 8 << 30:
        pytest.skip("there are no 8 GB of free memory")
    # Zeros take no memory in the sender. The receiver of a queue's array needs none of its own; of
    # a pipe it reads 5 GB into bytes.
    text = """
    import numpy, threading, time
    size, at = 5 << 30, [0, 3 << 30, (5 << 30) - 1]
    array = numpy.zeros(size, "u1")
    array[at] = 1, 2, 3
    began = time.monotonic()
    if sys.argv[1] == "queue":
        queue = procession.Queue()
        queue.put(array)
        got = queue.get()
    else:
        ours, theirs = procession.Pipe()
        thread = threading.Thread(target=ours.send_bytes, args=(array,))
        thread.start()
        got = numpy.frombuffer(theirs.recv_bytes(), "u1")
        thread.join()
    print(f"{time.monotonic() - began:.1f} s", file=sys.stderr)
    assert len(got) == size and list(got[at]) == [1, 2, 3] and numpy.count_nonzero(got) == 3
    del got
    assert works()
    print("done")
"""
    run(run_program, text, way, timeout=300)


def test_an_address_space_that_is_limited(run_program):
    text = """
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    assert works()
    print("done")
"""
    run(run_program, text)


#: The limit that a sandbox or judge sets before it runs a program: some room beyond what is in use,
#: no more.
LIMITED = """
def limit(room=320 << 20):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))

def limited(inbox, outbox):
    limit()
    with procession.Lock():
        for item in iter(inbox.get, None):
            outbox.put(item * 2)

def double(item):
    return item * 2
"""


@pytest.mark.parametrize("method", METHODS)
def test_an_address_space_that_is_limited_in_a_child(run_program, method):
    text = """
    inbox, outbox = procession.Queue(), procession.Queue()
    child = procession.Process(target=limited, args=(inbox, outbox))
    child.start()
    for size in (1, 1_000, 100_000, 20_000_000):
        for _ in range(5):
            inbox.put(b"x" * size)
            assert outbox.get() == b"x" * (2 * size)
    inbox.put(None)
    child.join()
    assert child.exitcode == 0, child.exitcode
    with procession.Pool(2, initializer=limit) as pool:
        for size in (1, 1_000, 100_000, 20_000_000):
            items = [b"x" * size] * 4
            assert pool.map(double, items) == [item * 2 for item in items]
    print("done")
"""
    run(run_program, text, method, functions=LIMITED)


def test_memory_is_locked_without_being_filled(run_program):
    text = """
    import ctypes
    assert works()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(1):  # MCL_CURRENT
        assert ctypes.get_errno() in (errno.EPERM, errno.ENOMEM)
    resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    assert resident < 1 << 30, resident
    assert works()
    print("done")
"""
    run(run_program, "\n    import errno" + text)


def test_the_address_space_follows_what_is_used(run_program):
    text = """
    def size():
        return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    before = size()
    assert works()
    assert size() - before < 256 << 20, size() - before
    queue = procession.Queue()
    for _ in range(10):
        queue.put(bytes(40_000_000))
    items = [queue.get() for _ in range(10)]
    assert size() - before < (256 << 20) + 2 * (400_000_000 + sum(map(len, items))), size() - before
    print("done")
"""
    run(run_program, text)


#: A limit of file sizes, as a judge or sandbox sets it: before the package is used, after that, or in a child.
FILE_SIZES = """
import resource, sys
import procession

def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))

def child(queue):
    if sys.argv[2] == "in the child":
        limit()
    for number in range(300):
        queue.put(bytes(100_000))

if __name__ == "__main__":
    context = procession.get_context(sys.argv[1])
    if sys.argv[2] == "before":
        limit()
        try:
            context.Queue()
        except MemoryError as error:
            assert "RLIMIT_FSIZE" in str(error), error
        else:
            raise AssertionError("no error")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    queue = context.Queue()
    if sys.argv[2] == "after":
        limit()
    process = context.Process(target=child, args=(queue,))
    process.start()
    for number in range(300):
        assert queue.get(timeout=60) == bytes(100_000)
    process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize("when", ["before", "after", "in the child"])
@pytest.mark.parametrize("size", [0, 1 << 20, 63 << 20])
def test_a_limit_of_file_sizes(run_program, method, when, size):
    done = run_program(FILE_SIZES, method, when, str(size))
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
