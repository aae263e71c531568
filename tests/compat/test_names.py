"""The public names: those of the running Python's `multiprocessing`, called in the same way.

Each exception from that is listed here with its reason.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types

import pytest

MODULES = [
    "",
    "connection",
    "context",
    "dummy",
    "dummy.connection",
    "forkserver",
    "heap",
    "managers",
    "pool",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "process",
    "queues",
    "reduction",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
]

#: Names that procession adds to a module's `__all__`, and why.
ADDED = {
    "": {
        "Abandoned": "no process is left to end a wait",
        "ActorDied": "the process of an actor died",
        "ActorFuture": "the result of a call of an actor",
        "ActorMaker": "what `actor` is",
        "ActorStatus": "what is known of an actor",
        "BrokenPool": "a pool whose workers cannot start says so",
        "CurrentWorker": "the worker that runs a task",
        "DeadlockError": "a wait was part of a deadlock",
        "NodeLost": "a node of a cluster is gone",
        "OwnerDied": "the holder of a lock died",
        "PoolStats": "the figures of a pool",
        "Shared": "data that is sent once and read by many",
        "share": "data that is sent once and read by many",
        "SharedDict": "a dictionary in shared memory, without a manager",
        "SharedList": "a list in shared memory, without a manager",
        "ProcessPoolExecutor": "the same pool behind futures",
        "TaskCancelled": "a task was cancelled, perhaps while it ran",
        "TaskTimeout": "a task ran for longer than it may",
        "WorkerDied": "the worker of a task died",
        "WorkerStats": "the figures of a worker",
        "actor": "an object in a process of its own, without a manager",
        "current_worker": "the worker that runs a task",
        "deadlocks": "what is done about a deadlock",
        "get_reusable_executor": "one executor for all parts of a process, as loky's",
        "install": "stand in under the name multiprocessing",
        "log_to_file": "the log of all processes, whole lines",
        "snapshot": "what a family of processes does at one moment",
        "trace": "what happens in a family of processes, written to a file",
    },
    "util": {
        "log_to_file": "the log of all processes, whole lines",
        "warn": "of 3.14, everywhere",
    },
}

#: Parameters that procession adds, and why. Calls with positional arguments alone cannot meet them.
ADDED_PARAMETERS = {
    "buffersize": "how far imap may run ahead of the taker of results",
    "progress": "how far a call with many items is",
    "return_exceptions": "every item's result or exception",
    "task_timeout": "how long a pool's task may take",
    "retries": "how often a task is tried again whose worker died",
    "max_rss": "how much memory a pool's worker may have",
    "worker_exit": "what a pool's worker calls before it ends",
    "seed": "what random numbers a pool's tasks get",
    "threads_per_worker": "how many threads numerical libraries start in a pool's worker",
    "name": "what errors and commands call an object",
    "die_with_parent": "a process that is not daemonic can leave with its parent, too",
    "shutdown_timeout": "of 3.11, everywhere: how long a server has to end",
    "digest_name": "of 3.12, everywhere: how a peer proves itself",
    "on_error": "of 3.15, everywhere: what the fork server does about a module that it cannot import",
    "recover": "what becomes of what a dead process held",
    "options": "of the context 'ray': where its processes are placed",
    "track": "of 3.13, everywhere: whether the resource tracker knows the segment",
}

#: Parameters that newer Pythons allow to be None; procession does on every Python.
NONE_IN_NEWER = ("context", "kwargs")

#: Names of the standard library's internals that procession lacks, and names with arguments of
#: those internals.
MACHINERY = {
    "connection.BUFSIZE": "how much its connections read at a time",
    "connection.MESSAGE_LENGTH": "how much chance its challenges hold: 20 bytes before 3.12, which we take still",
    "forkserver.MAXFDS_TO_SEND": "how much its server takes over a socket",
    "forkserver.main": "what its server is started with",
    "forkserver.read_signed": "its server's answers",
    "forkserver.write_signed": "its server's answers",
    "heap.Arena": "its arenas are files",
    "heap.Heap": "its heap divides memory; ours is in the engine",
    "heap.rebuild_arena": "its arenas travel as descriptors",
    "heap.reduce_arena": "its arenas travel as descriptors",
    "pool.ApplyResult": "made by pools alone",
    "pool.AsyncResult": "made by pools alone",
    "pool.IMapIterator": "made by pools alone",
    "pool.IMapUnorderedIterator": "made by pools alone",
    "pool.MapResult": "made by pools alone",
    "pool.job_counter": "its numbers of jobs",
    "pool.worker": "the loop of its workers, over pipes",
    "process.name": "the variable of a loop, in Python 3.10",
    "resource_tracker.ResourceTracker": "ours may be the family's or one's own",
    "resource_tracker.main": "what its tracker is started with",
    "sharedctypes.template": "the text that its properties are compiled from",
    "spawn.spawn_main": "what a child is started with",
    "synchronize.SemLock": "its locks are named semaphores; ours are made by their own classes",
}


#: Modules with names that the other modules import for their own use.
OWN_TOOLS = ("multiprocessing.util", "multiprocessing.connection")


def standard(name):
    return importlib.import_module("multiprocessing" + (name and "." + name))


def own(name):
    return importlib.import_module("procession" + (name and "." + name))


def public_names(module):
    """Yield what a program could import from a standard library's module.

    Names that the module itself imported from elsewhere are left out.
    """
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        origin = getattr(value, "__module__", None) or "multiprocessing"
        if origin in OWN_TOOLS and origin != module.__name__:
            origin = ""
        if origin.startswith("multiprocessing") or name in getattr(module, "__all__", ()):
            yield name, value


def parameters(function, is_method):
    """Return the parameters of a function.

    None if they are unknown, as for some built-in functions.
    """
    try:
        found = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return None
    if is_method and found and found[0].name in ("self", "cls"):
        # Functions written in Rust take it by position only.
        found = found[1:]
    return {parameter.name: parameter for parameter in found}


def same_default(name, theirs, ours):
    if name in NONE_IN_NEWER and ours is None:
        return True
    if isinstance(theirs, dict):
        return isinstance(ours, dict)
    return (
        theirs == ours
        or repr(theirs) == repr(ours)
        or getattr(theirs, "__name__", 0) == getattr(ours, "__name__", 1)
    )


def difference(theirs, ours):
    """Return what differs between two signatures; None if nothing does."""
    if theirs is None:
        return None
    if ours is None:
        return "is not known"
    added = {name for name in ours if name not in theirs}
    for name in added:
        if name not in ADDED_PARAMETERS or list(theirs) != list(ours)[: len(theirs)]:
            return f"has {name}"
    if list(theirs) != [name for name in ours if name not in added]:
        return f"takes {list(ours)}, not {list(theirs)}"
    for name, parameter in theirs.items():
        if parameter.kind is not ours[name].kind:
            return f"takes {name} as {ours[name].kind.description}"
        if not same_default(name, parameter.default, ours[name].default):
            return f"has {name}={ours[name].default!r}, not {parameter.default!r}"
    return None


def compare_callable(path, theirs, ours, is_method=False):
    if callable(theirs) and theirs is not ours:
        assert callable(ours), path
        found = difference(parameters(theirs, is_method), parameters(ours, is_method))
        if found:
            yield f"{path} {found}"


def compare_class(path, theirs, ours):
    """Compare a class's public methods and attributes, and its own special methods."""
    special = {
        name
        for base in theirs.__mro__
        if base.__module__.startswith("multiprocessing")
        for name in vars(base)
        if name.startswith("__") and callable(getattr(theirs, name))
    } - {"__init__", "__new__", "__getattr__", "__del__", "__setstate__", "__annotate_func__"}
    for name in dir(theirs):
        if name.startswith("_") and name not in special:
            continue
        if not hasattr(ours, name):
            yield f"{path}.{name} is missing"
        elif not name.startswith("_"):
            yield from compare_callable(
                f"{path}.{name}", getattr(theirs, name), getattr(ours, name), is_method=True
            )


@pytest.mark.parametrize("name", MODULES)
def test_all(name):
    theirs, ours = set(getattr(standard(name), "__all__", ())), set(own(name).__all__)
    assert theirs - ours == set()
    added = set(ADDED.get(name, ()))
    if theirs:
        assert ours - theirs <= added
    for listed in ours:
        assert hasattr(own(name), listed)


@pytest.mark.parametrize("name", MODULES)
def test_names_and_signatures(name):
    differences = []
    for public, theirs in public_names(standard(name)):
        path = f"{name}.{public}"
        if path in MACHINERY:
            continue
        ours = getattr(own(name), public, MACHINERY)
        if ours is MACHINERY:
            differences.append(f"{path} is missing")
            continue
        differences += compare_callable(path, theirs, ours)
        if isinstance(theirs, type):
            assert isinstance(ours, type), path
            differences += compare_class(path, theirs, ours)
        elif isinstance(theirs, (int, str, bytes, float)) and ours != theirs:
            differences.append(f"{path} is {ours!r}, not {theirs!r}")
    assert differences == []


def test_nothing_else_is_public():
    """Any other public name in the package would be an unintended promise."""
    package = own("")
    names = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert names <= {*package.__all__, "SUBDEBUG", "SUBWARNING", "reducer"}


def test_windows_module_says_why_it_is_not_there():
    with pytest.raises(ImportError):
        own("popen_spawn_win32")


def test_exceptions_are_one():
    package = own("")
    assert package.TimeoutError is package.context.TimeoutError is own("pool").TimeoutError
    assert package.TimeoutError is not TimeoutError
    assert issubclass(package.TimeoutError, package.ProcessError)


# Names of newer Pythons that older ones may have too


@pytest.mark.parametrize("name", MODULES)
def test_classes_say_where_they_are_found(name):
    """`repr`, the last line of a traceback and pickle show this module."""
    named = [
        (theirs.__module__, getattr(own(name), public).__module__)
        for public, theirs in public_names(standard(name))
        if isinstance(theirs, type) and theirs.__module__.startswith("multiprocessing")
    ]
    assert [ours for _, ours in named] == [
        theirs.replace("multiprocessing", "procession") for theirs, _ in named
    ]


def test_newer_names_are_everywhere():
    package = own("")
    assert callable(package.Process.interrupt)
    assert callable(package.Lock().locked)
    assert callable(own("util").warn)
    assert "on_error" in inspect.signature(package.set_forkserver_preload).parameters
    shared_memory = own("shared_memory")
    assert "track" in inspect.signature(shared_memory.SharedMemory).parameters
    managers = own("managers")
    assert callable(managers.SyncManager.set)
    for method in ("copy", "clear"):
        assert callable(getattr(managers.ListProxy, method))
    for method in ("fromkeys", "__or__", "__ior__", "__reversed__"):
        assert callable(getattr(managers.DictProxy, method))


def test_start_methods_are_the_running_python_s():
    package = own("")
    assert package.get_all_start_methods()[0] == (
        "forkserver" if sys.version_info >= (3, 14) else "fork"
    )
    assert set(package.get_all_start_methods()) == {"fork", "spawn", "forkserver"}
