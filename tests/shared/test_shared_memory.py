"""Named shared memory, the list in it, and how names are removed at the end of a program.

Programs of their own show what is left after a leak, a kill and an end.
"""

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap

import pytest

import procession
from procession import managers, resource_tracker, shared_memory

LEAKED = (
    "resource_tracker: There appear to be {} leaked shared_memory objects to clean up at shutdown"
)


@pytest.fixture
def segment():
    segment = shared_memory.SharedMemory(create=True, size=4096)
    yield segment
    segment.close()
    try:
        segment.unlink()
    except FileNotFoundError:
        pass


def exists(name):
    return os.path.exists(f"/dev/shm/{name}")


def program(code, *args):
    """Run a program; its standard error ends when its tracker, too, has ended."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class TestSegments:
    def test_create_attach_unlink(self, segment):
        assert segment.size == 4096 and len(segment.buf) == 4096
        assert re.fullmatch("psm_[0-9a-f]{8}", segment.name) and exists(segment.name)
        assert repr(segment) == f"SharedMemory({segment.name!r}, size=4096)"
        assert bytes(segment.buf) == bytes(4096)
        other = shared_memory.SharedMemory(segment.name, size=1 << 20)
        assert other.size == 4096
        other.buf[:3] = b"abc"
        assert bytes(segment.buf[:3]) == b"abc"
        other.close()
        assert other.buf is None
        segment.unlink()
        assert not exists(segment.name)
        with pytest.raises(FileNotFoundError):
            segment.unlink()
        with pytest.raises(FileNotFoundError):
            shared_memory.SharedMemory(segment.name)
        assert bytes(segment.buf[:3]) == b"abc"

    def test_wrong_use(self, segment):
        for arguments in [
            {"create": True},
            {"create": True, "size": 0},
            {"create": True, "size": -1},
            {"size": -1},
        ]:
            with pytest.raises(ValueError, match="'size' must be"):
                shared_memory.SharedMemory(**arguments)
        with pytest.raises(ValueError, match="'name' can only be None if create=True"):
            shared_memory.SharedMemory()
        with pytest.raises(FileExistsError):
            shared_memory.SharedMemory(segment.name, create=True, size=1)
        with pytest.raises(ValueError, match="null"):
            shared_memory.SharedMemory(segment.name + "\0a")

    def test_more_than_there_is_room_for(self):
        room = os.statvfs("/dev/shm")
        before = set(os.listdir("/dev/shm"))
        with pytest.raises(MemoryError, match="/dev/shm"):
            shared_memory.SharedMemory(create=True, size=room.f_blocks * room.f_frsize + (1 << 20))
        assert set(os.listdir("/dev/shm")) == before

    def test_open_views_are_not_pulled_away(self, segment):
        view = segment.buf[:10]
        with pytest.raises(BufferError):
            segment.close()
        view.release()

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle(self, segment, protocol):
        segment.buf[:2] = b"hi"
        other = pickle.loads(pickle.dumps(segment, protocol))
        assert other.name == segment.name and bytes(other.buf[:2]) == b"hi"
        other.close()

    def test_in_a_child(self, ctx, segment):
        child = ctx.Process(target=write, args=(segment, segment.name))
        child.start()
        child.join()
        assert child.exitcode == 0 and bytes(segment.buf[:4]) == b"both"

    @pytest.mark.parametrize("maker", ["procession", "multiprocessing"])
    def test_strangers(self, maker):
        """A program of the standard library attaches a segment of procession, and the reverse."""
        user = {"procession": "multiprocessing", "multiprocessing": "procession"}[maker]
        make = f"""
            from {maker}.shared_memory import SharedMemory
            segment = SharedMemory(create=True, size=100)
            segment.buf[:5] = b'hello'
            print(segment.name, flush=True)
            input()
            print(bytes(segment.buf[:5]))
            segment.unlink()
        """
        use = f"""
            import sys
            from {user}.shared_memory import SharedMemory
            segment = SharedMemory(sys.argv[1])
            print(bytes(segment.buf[:5]))
            segment.buf[:5] = b'world'
        """
        with program(make) as one:
            name = one.stdout.readline().strip()
            with program(use, name) as other:
                assert other.communicate()[0] == "b'hello'\n"
            out, err = one.communicate("\n")
            assert out == "b'world'\n"
            if maker == "multiprocessing":
                assert err == "" and one.returncode == 0


def write(segment, name):
    segment.buf[:2] = b"bo"
    other = shared_memory.SharedMemory(name)
    other.buf[2:4] = b"th"


class TestTracking:
    def test_unlinked_says_nothing(self):
        code = """
            from procession.shared_memory import SharedMemory
            s = SharedMemory(create=True, size=10)
            s.close()
            s.unlink()
        """
        with program(code) as one:
            assert one.communicate() == ("", "")

    def test_left_at_the_end(self):
        code = """
            from procession.shared_memory import SharedMemory
            for _ in range(2):
                s = SharedMemory(create=True, size=10)
                print(s.name)
        """
        with program(code) as one:
            out, err = one.communicate()
        assert LEAKED.format(2) in err
        assert not any(exists(name) for name in out.split())

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_left_by_a_killed_program(self, number):
        code = """
            import sys, time
            from procession.shared_memory import SharedMemory
            s = SharedMemory(create=True, size=10)
            print(s.name, flush=True)
            time.sleep(100)  # until it is killed
        """
        with program(code) as one:
            name = one.stdout.readline().strip()
            assert exists(name)
            one.send_signal(number)
            assert LEAKED.format(1) in one.stderr.read()
            assert not exists(name)

    def test_one_that_is_gone_already(self):
        code = """
            import os
            from procession.shared_memory import SharedMemory
            s = SharedMemory(create=True, size=10)
            os.unlink('/dev/shm/' + s.name)
        """
        with program(code) as one:
            err = one.communicate()[1]
        assert re.search(r"resource_tracker: '/psm_\w+': \[Errno 2\]", err)

    def test_untracked(self):
        code = """
            from procession.shared_memory import SharedMemory
            print(SharedMemory(create=True, size=10, track=False).name)
        """
        with program(code) as one:
            out, err = one.communicate()
        assert err == "" and exists(out.strip())
        os.unlink(f"/dev/shm/{out.strip()}")

    @pytest.mark.parametrize(
        "track, removed", [("", False), ("track=False", False), ("track=True", True)]
    )
    def test_attached(self, segment, track, removed):
        """procession removes a segment that it only attached if told to by `track=True`.

        The standard library always does.
        """
        code = f"""
            import sys
            from procession.shared_memory import SharedMemory
            SharedMemory(sys.argv[1], {track})
        """
        with program(code, segment.name) as one:
            err = one.communicate()[1]
        assert (LEAKED.format(1) in err, not exists(segment.name)) == (removed, removed)

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_children_and_parents_share_a_tracker(self, method, tmp_path):
        """Whichever process makes and unlinks it, nothing is printed, removed early, or left."""
        path = tmp_path / "program.py"
        path.write_text(
            textwrap.dedent("""
            import sys, procession
            from procession.shared_memory import SharedMemory
            def make(results):
                s = SharedMemory(create=True, size=10)
                s.buf[0] = 7
                results.send(s.name)
            def unlink(name):
                SharedMemory(name).unlink()
            if __name__ == '__main__':
                ctx = procession.get_context(sys.argv[1])
                r, w = ctx.Pipe(False)
                for number in range(2):
                    child = ctx.Process(target=make, args=(w,))
                    child.start()
                    child.join()
                    name = r.recv()
                    seen = SharedMemory(name)
                    assert seen.buf[0] == 7
                    if number:
                        SharedMemory(name).unlink()
                    else:
                        child = ctx.Process(target=unlink, args=(name,))
                        child.start()
                        child.join()
                child = ctx.Process(target=make, args=(w,))
                child.start()
                child.join()
                print(r.recv())
            """)
        )
        command = [sys.executable, str(path), method]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as one:
            out, err = one.communicate()
        assert (
            LEAKED.format(1) in err and err.count("UserWarning") == 1 and "Traceback" not in err
        ), err
        assert not exists(out.strip()) and one.returncode == 0

    def test_a_child_outlives_the_program(self):
        code = """
            import os, sys, signal
            from procession.shared_memory import SharedMemory
            r, w = os.pipe()
            if os.fork():
                os.read(r, 1)
                os.kill(os.getpid(), signal.SIGKILL)
            s = SharedMemory(create=True, size=10)
            print(s.name, flush=True)
            os.write(w, b'.')
            input()
            print(os.path.exists('/dev/shm/' + s.name), flush=True)
            os._exit(0)
        """
        with program(code) as one:
            name = one.stdout.readline().strip()
            one.wait()
            assert one.communicate("\n")[0] == "True\n"
            assert not exists(name)

    def test_the_tracker_dies(self):
        code = """
            import os, signal, sys, warnings
            from procession import resource_tracker
            from procession.shared_memory import SharedMemory
            tracker = resource_tracker._resource_tracker
            resource_tracker.ensure_running()
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(tracker._pid, number)
            assert tracker._check_alive()
            os.kill(tracker._pid, signal.SIGKILL)
            os.waitid(os.P_PID, tracker._pid, os.WEXITED | os.WNOWAIT)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                s = SharedMemory(create=True, size=10)
            print(caught[0].message)
            print(s.name)
        """
        with program(code) as one:
            out, err = one.communicate()
        assert (
            out.startswith("resource_tracker: process died unexpectedly")
            and LEAKED.format(1) in err
        )
        assert not exists(out.split()[-1])

    @pytest.mark.parametrize("leave, exitcode", [(True, 1), (False, 0)])
    def test_exit_code(self, leave, exitcode):
        tracker = resource_tracker.ResourceTracker()
        tracker.ensure_running()
        assert tracker._check_alive() and tracker._exitcode is None
        tracker.register("somename", "dummy")
        if not leave:
            tracker.unregister("somename", "dummy")
        tracker._stop()
        assert tracker._exitcode == exitcode

    def test_nonsense(self, segment):
        with pytest.raises(ValueError, match="too long"):
            resource_tracker.register("a" * 500, "shared_memory")
        resource_tracker.unregister("/never-registered", "shared_memory")
        tracker = resource_tracker.ResourceTracker()
        tracker.register("a:b:c", "dummy")
        tracker.register("x", "unheard-of")
        tracker._stop()
        assert tracker._exitcode in (1, 3)

    def test_nothing_is_started_for_nothing(self):
        code = """
            from procession import resource_tracker, shared_memory
            resource_tracker.unregister('/x', 'shared_memory')
            assert resource_tracker._resource_tracker._fd is None
        """
        with program(code) as one:
            assert one.communicate() == ("", "")


class TestShareableList:
    def test_items(self):
        items = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "ä€" * 10]
        shared = shared_memory.ShareableList(items)
        try:
            assert list(shared) == items and len(shared) == 8 and shared[-1] == "ä€" * 10
            assert repr(shared) == f"ShareableList({items}, name={shared.shm.name!r})"
            assert shared.format == "8s8sdqxxxxxx?xxxxxxxx?q56s"
            assert shared.count(42) == 1 and shared.index(100) == 3
            with pytest.raises(ValueError, match="not in this container"):
                shared.index("nothing")
            for position in (8, -9):
                with pytest.raises(IndexError, match="index out of range"):
                    shared[position]
                with pytest.raises(IndexError, match="assignment index out of range"):
                    shared[position] = 1
            shared[4], shared[3], shared[-2], shared[0] = "some", None, 2.5, b"12345678"
            assert list(shared)[:7] == [b"12345678", b"HoWdY", -273.154, None, "some", True, 2.5]
            with pytest.raises(ValueError, match="exceeds available storage"):
                shared[0] = "123456789"
            with pytest.raises(KeyError):
                shared[0] = []
        finally:
            shared.shm.unlink()

    def test_others_see_it(self, ctx):
        shared = shared_memory.ShareableList(range(5))
        try:
            child = ctx.Process(target=negate, args=(shared,))
            child.start()
            child.join()
            assert list(shared) == [0, -1, -2, -3, -4]
            copy = shared_memory.ShareableList(shared)
            copy[0] = 9
            assert shared[0] == 0 and list(copy) == [9, -1, -2, -3, -4]
            copy.shm.unlink()
        finally:
            shared.shm.unlink()

    def test_the_layout_is_the_standard_librarys(self):
        from multiprocessing import shared_memory as plain

        items = ["a", b"bc", 1.5, 7, None, False, "long" * 10]
        ours, theirs = shared_memory.ShareableList(items), plain.ShareableList(items)
        try:
            size = len(ours.shm.buf)
            assert bytes(ours.shm.buf) == bytes(theirs.shm.buf[:size])
            other = shared_memory.ShareableList(name=theirs.shm.name)
            assert list(other) == items
            other.shm.close()
        finally:
            ours.shm.unlink()
            theirs.shm.unlink()

    def test_empty(self):
        shared = shared_memory.ShareableList()
        assert len(shared) == 0 and list(shared) == [] and shared.format == ""
        shared.shm.unlink()


def negate(shared):
    for position in range(len(shared)):
        shared[position] = -shared[position]


class TestSharedMemoryManager:
    def test_segments_end_with_it(self, ctx):
        with managers.SharedMemoryManager(ctx=ctx) as manager:
            one = manager.SharedMemory(size=100)
            shared = manager.ShareableList([1, "two"])
            attached = shared_memory.ShareableList(name=shared.shm.name)
            assert list(attached) == [1, "two"] and exists(one.name)
            with pytest.raises(procession.ProcessError, match="Already started SharedMemoryServer"):
                manager.get_server()
        assert not exists(one.name) and not exists(shared.shm.name)
        with pytest.raises(procession.ProcessError, match="SharedMemoryManager has shut down"):
            manager.get_server()

    def test_before_start(self):
        before = set(os.listdir("/dev/shm"))
        with pytest.raises(ValueError):
            managers.SharedMemoryManager().SharedMemory(size=9)
        assert set(os.listdir("/dev/shm")) == before

    def test_quietly(self, tmp_path):
        path = tmp_path / "program.py"
        path.write_text(
            textwrap.dedent("""
            from procession.managers import SharedMemoryManager
            if __name__ == '__main__':
                manager = SharedMemoryManager()
                manager.start()
                shared = manager.ShareableList(range(10))
                manager.shutdown()
            """)
        )
        done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
