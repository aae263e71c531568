"""Calls to the objects of a manager."""

from __future__ import annotations

import importlib
import threading

from rows import row

from .timing import clock, rate


def in_server(manager, items):
    """Return a list that is in the server, and not in shared memory, where none is sorted."""
    shared = manager.list(items)
    shared.sort()
    return shared


def call(shared, count):
    for _ in range(count):
        shared[0]


@row("manager's calls, one client", "/s", 12)
def manager_calls(library, count=20_000):
    """Return calls per second of one client."""
    with library.Manager() as manager:
        shared = in_server(manager, [1])
        return rate(lambda number: call(shared, number), count)


def get(shared, count):
    for _ in range(count):
        shared["key"]


def set_item(shared, key, count):
    for number in range(count):
        shared[key] = number


@row("manager's dict, get", "/s", 50)
def manager_dict_get(library, count=100_000):
    """Return look-ups per second of one client."""
    with library.Manager() as manager:
        shared = manager.dict(key=1)
        return rate(lambda number: get(shared, number), count)


@row("manager's dict, set", "/s", 20)
def manager_dict_set(library, count=50_000):
    """Return assignments per second of one client."""
    with library.Manager() as manager:
        shared = manager.dict(key=1)
        return rate(lambda number: set_item(shared, "key", number), count)


@row("manager's list, get", "/s", 50)
def manager_list_get(library, count=100_000):
    """Return look-ups per second of one client."""
    with library.Manager() as manager:
        shared = manager.list([1])
        return rate(lambda number: call(shared, number), count)


@row("manager's list, set", "/s", 20)
def manager_list_set(library, count=50_000):
    """Return assignments per second of one client."""
    with library.Manager() as manager:
        shared = manager.list([1])
        return rate(lambda number: set_item(shared, 0, number), count)


@row("manager's calls, four clients", "/s", 6)
def manager_clients(library, count=5_000, number=4):
    """Return calls per second of several processes together."""
    with library.Manager() as manager:
        shared = in_server(manager, [1])
        ready = manager.Barrier(number + 1)
        processes = [
            library.Process(target=call_when_ready, args=(shared, ready, count))
            for _ in range(number)
        ]
        for process in processes:
            process.start()
        begin = clock()
        ready.wait()
        for process in processes:
            process.join()
        return number * count / (clock() - begin)


def call_when_ready(shared, ready, count):
    call(shared, 10)
    ready.wait()
    call(shared, count)


@row("manager's calls, four threads of a client", "/s", 1)
def manager_threads(library, count=5_000, number=4):
    """Return calls per second of several threads of one process together."""
    with library.Manager() as manager:
        shared = in_server(manager, [1])
        workers = [threading.Thread(target=call, args=(shared, count)) for _ in range(number)]
        begin = clock()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return number * count / (clock() - begin)


@row("manager's calls, over TCP", "/s", 2)
def manager_tcp(library, count=10_000):
    """Return calls per second of one client that connects as another program would."""
    with over_tcp(library) as manager:
        shared = in_server(manager, [1])
        return rate(lambda number: call(shared, number), count)


def over_tcp(library):
    managers = importlib.import_module(f"{library.__name__}.managers")
    if library.__name__ == "procession":
        importlib.import_module("procession._managers.link").family_of_offer = lambda answer: (
            b"another"
        )
    return managers.SyncManager(("127.0.0.1", 0), b"key")


@row("manager's calls, one client, on one core", "/s", 1, one_core=True)
def manager_one_core(library):
    """Measure like `manager_calls`, with client and server on one core."""
    return manager_calls(library)


@row("1 MB to a manager and back", "MB/s", 3)
def manager_megabytes(library, count=300):
    """Return megabytes per second, sent to the server and back."""
    with library.Manager() as manager:
        return megabytes(manager, count)


@row("1 MB to a manager and back, over TCP", "MB/s")
def manager_tcp_megabytes(library, count=300):
    """Measure like `manager_megabytes`, as `manager_tcp` connects."""
    with over_tcp(library) as manager:
        return megabytes(manager, count)


def megabytes(manager, count):
    shared = in_server(manager, [b"x" * (1 << 20)])

    def there_and_back(number):
        for _ in range(number):
            shared[0] = shared[0]

    return 2 * rate(there_and_back, count)


@row("objects of a manager, made and dropped", "/s", 3)
def manager_objects(library, count=1_000):
    """Return objects per second, created and dropped."""
    with library.Manager() as manager:

        def make(number):
            for _ in range(number):
                manager.list()

        return rate(make, count)
