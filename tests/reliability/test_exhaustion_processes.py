"""When descriptors or processes run out, the caller gets a typed error.

Other processes are unharmed, and all works again once there is room.
"""

from __future__ import annotations

import pytest

from tests.conftest import METHODS
from tests.reliability.exhaustion import run


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
        # The limit is this process's: a fork server that runs already may start more.
        procession.get_context("fork").Process(target=print).start()
    except OSError as error:
        assert isinstance(error, BlockingIOError), error
    else:
        raise AssertionError("no process may be started")
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    assert works()
    print("done")
"""
    run(run_program, text)


@pytest.mark.parametrize("method", METHODS)
def test_a_family_with_too_many_processes(run_program, method):
    text = """
    ctx = procession.get_context(sys.argv[1])
    full, leave, queue = procession.Event(), procession.Event(), procession.Queue()
    child = procession.get_context("fork").Process(target=fill, args=(full, leave))
    child.start()
    full.wait()
    for _ in range(3):
        try:
            ctx.Process(target=print).start()
        except BlockingIOError as error:
            assert "too many processes" in str(error), error
        else:
            raise AssertionError("there was no room")
    queue.put("nobody else is harmed")
    assert queue.get() == "nobody else is harmed"
    leave.set()
    child.join()
    assert child.exitcode == 0
    # Entries reserved for a child end two seconds after the process that reserved them. A process
    # that waits removes them: so this polls with a wait of the package's.
    while len(_procession.members()) > 10:
        procession.Event().wait(0.2)
    child = ctx.Process(target=queue.put, args=("works again",))
    child.start()
    assert queue.get() == "works again"
    child.join()
    assert child.exitcode == 0 and works()
    print("done")
"""
    # Failed forks that procession does not see keep the entries reserved for the children until the
    # process ends.
    functions = """
from procession import _procession

def fill(full, leave):
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    while True:
        try:
            _procession.check_room()
        except BlockingIOError:
            break
        try:
            os.fork()
        except BlockingIOError:
            continue
        raise AssertionError("no process may be forked")
    full.set()
    leave.wait()
"""
    run(run_program, text, method, functions=functions, PROCESSION_ARENA_SIZE="64M")


def test_starts_succeed_again_once_there_are_descriptors(run_program, method):
    functions = """
def wait(event):
    event.wait()
"""
    text = """
    ctx = procession.get_context(sys.argv[1])
    event = ctx.Event()

    def works_again():
        child = ctx.Process(target=event.is_set)
        child.start()
        child.join()
        assert child.exitcode == 0

    works_again()
    resource.setrlimit(resource.RLIMIT_NOFILE, (48, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for _ in range(2):
        children = []
        try:
            while True:
                children.append(ctx.Process(target=wait, args=(event,)))
                children[-1].start()
        except OSError as error:
            assert error.errno == 24, error
        children.pop()
        assert len(children) > 5
        for child in children:
            child.kill()
        for child in children:
            child.join()
        del children, child
        works_again()
    print("done")
"""
    run(run_program, text, method, functions=functions)
