"""Names and creation sites: what the program calls its objects, seen by other processes, errors and commands."""

from __future__ import annotations

import os
import pathlib
import pickle
import subprocess
import sys

import pytest

import procession
from tests.conftest import PACKAGE_FOLDER
from tests.sight.family import dump, program, run
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

#: The lists of a snapshot that have the objects that each function of a context makes.
KINDS = {
    "Lock": ("locks", ()),
    "RLock": ("locks", ()),
    "Semaphore": ("semaphores", (2,)),
    "BoundedSemaphore": ("semaphores", (2,)),
    "Condition": ("conditions", ()),
    "Event": ("events", ()),
    "Barrier": ("barriers", (2,)),
    "Queue": ("queues", (5,)),
    "JoinableQueue": ("queues", ()),
    "SimpleQueue": ("queues", ()),
    "SharedList": ("collections", ((1, 2),)),
}


def line() -> int:
    """Return the number of the calling line."""
    return sys._getframe(1).f_lineno


def listed(kind: str, name: str) -> list:
    return [one for one in getattr(procession.snapshot(), kind) if one.name == name]


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_has_its_name_and_the_line_that_made_it(ctx, kind):
    where, arguments = KINDS[kind]
    made, here = getattr(ctx, kind)(*arguments, name=f"the {kind}"), line()
    [seen] = listed(where, f"the {kind}")
    assert seen.made is not None and seen.made.endswith(f"test_names.py:{here}")
    if kind != "SharedList":
        assert f"name='the {kind}'" in repr(made)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_without_a_name_has_its_line(kind):
    where, arguments = KINDS[kind]
    made, here = getattr(procession, kind)(*arguments), line()
    seen = [
        one
        for one in getattr(procession.snapshot(), where)
        if (one.made or "").endswith(f"test_names.py:{here}")
    ]
    assert [one.name for one in seen] == [None] and "name=" not in repr(made)


def test_dictionaries_are_named_by_a_method_because_keywords_are_entries():
    plain = procession.SharedDict(name="an entry")
    named = procession.SharedDict.named("cache", {"a": 1}, b=2)
    assert plain == {"name": "an entry"} and named == {"a": 1, "b": 2}
    [seen] = listed("collections", "cache")
    assert (seen.kind, (seen.made or "").partition(":")[0][-13:]) == ("dictionary", "test_names.py")


def test_a_pool_is_named(method):
    with procession.get_context(method).Pool(1, name="resize") as pool:
        [seen] = listed("pools", "resize")
        assert pool.name == "resize" and "test_names.py" in (seen.made or "")


def test_an_executor_is_named():
    with procession.ProcessPoolExecutor(1, name="thumbnails") as executor:
        executor.submit(os.getpid).result()
        assert len(listed("pools", "thumbnails")) == 1


def _repr_of(made, to):
    to.put(repr(made))


def test_a_name_is_the_same_in_the_process_that_receives_the_object(ctx):
    to, lock = ctx.SimpleQueue(), ctx.Lock(name="database")
    child = ctx.Process(target=_repr_of, args=(lock, to))
    child.start()
    assert to.get() == "<Lock(name='database', owner=None)>"
    child.join()


def _die_with(lock):
    lock.acquire()
    os._exit(0)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_the_report_of_a_death_names_the_lock(ctx, kind):
    lock = getattr(ctx, kind)(name='the "db"\x1b')
    child = ctx.Process(target=_die_with, args=(lock,))
    child.start()
    child.join()
    with pytest.raises(procession.OwnerDied) as info:
        lock.acquire()
    error = pickle.loads(pickle.dumps(info.value))
    assert (error.object, error.object_name, error.pid) == (kind, 'the "db"\x1b', child.pid)
    assert f'holding the {kind} "the \\"db\\"\\u{{1b}}" made at ' in str(error)


def test_a_long_name_is_cut_between_characters_and_an_empty_one_is_none():
    long, empty = procession.Lock(name="é" * 40 + "x"), procession.Lock(name="")
    assert f"name={'é' * 32!r}," in repr(long) and "name=" not in repr(empty)
    with pytest.raises(TypeError):
        procession.Event(name=5)
    with pytest.raises(TypeError):
        procession.Queue(0, "jobs")


def test_a_lone_surrogate_does_no_harm():
    assert "name='?'" in repr(procession.Event(name="\udc80")) or "\ufffd" in repr(
        procession.Event(name="\udc80")
    )


def test_a_name_and_a_name_are_two_objects():
    one, other = procession.Queue(name="jobs"), procession.Queue(name="jobs")
    one.put(1)
    assert sorted(seen.depth for seen in listed("queues", "jobs")) == [0, 1]
    assert other.empty()


PROGRAM = """
import procession

def want(lock):
    lock.acquire()

if __name__ == "__main__":
    procession.set_start_method("fork")
    lock, jobs = procession.Lock(name="stock\\x1b[2J"), procession.Queue(name="orders")
    lock.acquire()
    procession.Process(target=want, args=(lock,), name="wanter", daemon=True).start()
    print("ready", flush=True)
    procession.Event(name="end of time").wait()
"""


def test_commands_show_names_and_escape_what_a_terminal_would_obey(tmp_path: pathlib.Path, capfd):
    script = tmp_path / "named.py"
    script.write_text(PROGRAM)
    with program(script) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        until(lambda: all(one["waits"] for one in dump(process.pid, capfd)["processes"]))
        seen = dump(process.pid, capfd)
        assert run("dump", str(process.pid)) == 0
        text = capfd.readouterr().out
        assert run("metrics", str(process.pid)) == 0
        metrics = capfd.readouterr().out
    assert [(lock["kind"], lock["name"]) for lock in seen["locks"]] == [("lock", "stock\x1b[2J")]
    assert "\x1b" not in text and 'acquire on lock 0.0 "stock\\u{1b}[2J", held by' in text
    assert "wait on event" in text and '"end of time"' in text
    [queue] = [one for one in seen["queues"] if one["name"] == "orders"]
    [info] = [line for line in metrics.splitlines() if 'name="orders"' in line]
    assert f'object="{queue["id"]}",kind="queue"' in info and info.endswith(" 1")


def test_the_line_is_the_program_s_whatever_made_the_first_object(tmp_path):
    """Parts of the package that lie in folders of their own make objects too."""
    script = tmp_path / "program.py"
    script.write_text(
        "import procession; procession.set_start_method('fork')\n"
        "counter = procession.actor(list)\n"
        "lock = procession.Lock()\n"
        "print([one.made for one in procession.snapshot().locks if 'program' in str(one.made)])\n"
        "procession.actor.terminate(counter)\n"
    )
    environment = {**os.environ, "PYTHONPATH": PACKAGE_FOLDER}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.endswith("program.py:3']\n") and done.stderr == ""
