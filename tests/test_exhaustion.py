"""When something runs out: a typed error for who asked, harm for nobody else, and all is well again once there is room."""

from __future__ import annotations

#: Each is a program of its own: what it uses up is the whole process's.
HEAD = """\
import os, resource, sys
import procession

def echo(inbox, outbox):
    for item in iter(inbox.get, None):
        outbox.put(item)

def works():
    inbox, outbox = procession.Queue(), procession.Queue()
    child = procession.Process(target=echo, args=(inbox, outbox))
    child.start()
    for item in (1, b"x" * 500_000, None):
        inbox.put(item)
    assert (outbox.get(), len(outbox.get())) == (1, 500_000)
    child.join()
    assert child.exitcode == 0
    with procession.Lock():
        pass
    return True
"""


def run(run_program, text, **env):
    end = run_program(HEAD + "\nif __name__ == '__main__':\n" + text, env=env)
    assert end.returncode == 0, end.stderr
    assert end.stdout.split() == ["done"], end.stdout


def test_a_queue_fed_faster_than_it_is_read(run_program):
    text = """
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
        assert len(item) == 100_000 and set(item) == {number % 256}
    assert queue.empty() and works()
    print("done")
"""
    run(run_program, text, PROCESSION_ARENA_SIZE="64M")


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


def test_an_address_space_that_is_limited(run_program):
    text = """
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    assert works()
    print("done")
"""
    run(run_program, text)


def test_no_descriptor_is_left(run_program):
    text = """
    assert works()  # whatever it imports is imported
    for end in procession.Pipe():
        end.close()
    queue, lock = procession.Queue(), procession.Lock()
    queue.put("first")
    queue.get()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    queue.put("no descriptor is needed")
    assert queue.get() == "no descriptor is needed"
    with lock:
        assert not lock.acquire(timeout=0.1)
    refused = 0
    for start in (procession.Pipe, procession.Process(target=print).start):
        try:
            start()
        except OSError:
            refused += 1
    assert refused == 2
    for fd in taken:
        os.close(fd)
    assert works()
    print("done")
"""
    run(run_program, text)


def test_no_process_may_be_started(run_program):
    text = """
    assert works()  # whatever it imports is imported
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 65534)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    try:
        procession.Process(target=print).start()
    except OSError as error:
        assert isinstance(error, BlockingIOError), error
    else:
        raise AssertionError("no process may be started")
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    assert works()
    print("done")
"""
    run(run_program, text)
