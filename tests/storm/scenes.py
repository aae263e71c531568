"""The storms.

Each takes a context, a seed and a number of kills, and returns a summary; it raises when something
was wrong. The file is long because all storms stand side by side.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from queue import Empty
from typing import Any

import procession
from procession.managers import SyncManager

from .actors import actors
from .workers import TIMEOUT, Stuck, Workers, stopped

PRODUCERS, CONSUMERS = 3, 3


def produce(
    place: int, beats: Any, queue: Any, put: Any, got: Any, torn: Any, next_number: Any
) -> None:
    """Produce messages with bytes that follow from their numbers.

    Consume them in the upper places.
    """
    if place >= PRODUCERS:
        share = len(put) // PRODUCERS
        while True:
            try:
                number, check, body = queue.get(timeout=1)
            except Empty:
                # An empty queue counts as progress once all numbers are used up.
                beats[place] += list(next_number) == [share, 2 * share, 3 * share]
                continue
            if zlib.crc32(body) != check or body[:1] != bytes([number % 251]):
                torn[0] += 1
            got[number] += 1
            beats[place] += 1
    while True:
        # Use up the number before the put: the successor of a killed producer takes the next.
        number = next_number[place]
        if number >= (place + 1) * len(put) // PRODUCERS:
            time.sleep(0.001)  # all is put: beat on, without a spin
            beats[place] += 1
            continue
        next_number[place] = number + 1
        body = bytes([number % 251]) * (20, 300, 40_000, 5)[number % 4]
        queue.put((number, zlib.crc32(body), body))
        put[number] = 1
        beats[place] += 1


def queues(context: Any, seed: int, kills: int, maxsize: int = 50) -> str:
    """Every message arrives whole and once.

    Only those that a killed consumer had taken may be lost.
    """
    queue = context.Queue(maxsize)
    # Numbers of messages: in each place a producer continues where its killed predecessor stopped.
    room = 12_000 * (kills + 10)
    put, got = context.RawArray("B", room), context.RawArray("B", room)
    torn = context.RawArray("Q", 1)
    next_number = context.RawArray("Q", [place * room // PRODUCERS for place in range(PRODUCERS)])
    workers = Workers(
        context, seed, PRODUCERS + CONSUMERS, produce, queue, put, got, torn, next_number
    )
    consumers_killed = 0

    def count(place: int) -> None:
        nonlocal consumers_killed
        consumers_killed += place >= PRODUCERS

    workers.storm(kills, 0.003, on_kill=count)
    workers.resolve()
    workers.end()
    consumers_killed += CONSUMERS
    while not queue.empty():
        number, check, body = queue.get(timeout=TIMEOUT)
        assert zlib.crc32(body) == check
        got[number] += 1
    assert torn[0] == 0, f"{torn[0]} messages were torn"
    assert max(got) <= 1, "a message was got twice"
    lost = sum(1 for sent, had in zip(put, got, strict=True) if sent and not had)
    assert lost <= consumers_killed, f"{lost} messages lost, {consumers_killed} consumers killed"
    return (
        f"{sum(got):,} messages delivered once and whole, {lost} died with their consumers, 0 stuck"
    )


def is_alive(pid: int) -> bool:
    """Return whether the process may still run its program: it is neither gone nor exiting."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    exiting = 0x4
    return fields[0] not in "ZX" and not int(fields[6]) & exiting


def exclude(place: int, beats: Any, lock: Any, cells: Any) -> None:
    """Increment two counters that differ only while a process is inside the lock."""
    me = os.getpid()
    while True:
        try:
            lock.acquire()
        except procession.OwnerDied:
            cells[4] += 1
            continue
        inside = cells[0]
        cells[3] += inside not in (0, me) and is_alive(inside)
        cells[0] = me
        cells[1] += 1
        cells[2] = cells[1]
        cells[0] = 0
        lock.release()
        beats[place] += 1


def locks(context: Any, seed: int, kills: int) -> str:
    """Never two processes inside at once; a death inside is reported, and the lock goes on."""
    total, told = 0, 0
    for kind, share in (("Lock", kills // 2), ("RLock", kills - kills // 2)):
        lock = getattr(context, kind)()
        cells = context.RawArray("q", 5)
        workers = Workers(context, seed, 6, exclude, lock, cells)
        workers.storm(share, 0.003)
        workers.resolve()
        workers.end()
        try:
            assert lock.acquire(timeout=TIMEOUT)
        except procession.OwnerDied:
            assert lock.acquire(timeout=TIMEOUT)
        lock.release()
        assert cells[3] == 0, f"{cells[3]} times a living process was inside already"
        total += cells[2]
        told += cells[4]
    return f"{total:,} times held, never by two; OwnerDied {told} times, 0 stuck"


def share(place: int, beats: Any, shared: Any, done: Any) -> None:
    """Set entries whose content follows from their keys, and count in a key of all."""
    chance = random.Random(place)
    while True:
        number = done[place]
        key = (place, number % 900)
        body = bytes([number % 251]) * (5, 300, 3000)[number % 3]
        # The count is first: a killed predecessor may have counted once more than it has done.
        shared.increment(("count", place))
        shared[key] = (number, zlib.crc32(body), body)
        shared.pop((place, (number - 300) % 900), None)
        other = (chance.randrange(len(beats)), chance.randrange(900))
        found = shared.get(other)
        assert found is None or zlib.crc32(found[2]) == found[1]
        if number % 500 == 0:
            counts = [shared.get(("count", owner), 0) for owner in range(len(beats))]
            later = dict(shared.items())
            assert len(later) > 0
            assert all(later.get(("count", n), 0) >= count for n, count in enumerate(counts))
        done[place] = number + 1
        beats[place] += 1


def dictionaries(context: Any, seed: int, kills: int) -> str:
    """No entry is torn or lost, no count goes back, and every process makes progress."""
    shared = context.SharedDict()
    done = context.RawArray("q", 6)
    workers = Workers(context, seed, 6, share, shared, done)
    killed = [0] * 6

    def count(place: int) -> None:
        killed[place] += 1

    workers.storm(kills, 0.003, on_kill=count)
    workers.resolve()
    workers.end()
    entries = shared.copy()
    for place, number in enumerate(done):
        counted = entries.pop(("count", place))
        assert number <= counted <= number + killed[place] + 1, f"{counted} of {number} counted"
    for (place, slot), (number, check, body) in entries.items():
        assert number % 900 == slot and zlib.crc32(body) == check
        # Its successor may have taken an entry of a killed process away only when it was its turn.
        assert number >= done[place] - 900, f"{number} is left of {done[place]}"
    return f"{sum(done):,} entries set, none torn, no count went back, 0 stuck"


def double(number: int) -> int:
    time.sleep(0.001 * (number % 3))  # not synchronisation: tasks of several lengths
    return 2 * number


def disturbed(
    seed: int,
    kills: int,
    submit: Callable[[int], Any],
    is_done: Callable[[Any], bool],
    outcome: Callable[[Any, float], int],
    workers: Callable[[], Any],
) -> str:
    """Call `double` while workers are killed: each call has exactly one outcome.

    This is its result, or the error that its worker died.
    """
    rng = random.Random(seed)
    done = lost = killed = number = 0
    pending: list[tuple[int, Any]] = []

    def resolve(argument: int, result: Any, timeout: float) -> None:
        nonlocal done, lost
        try:
            assert outcome(result, timeout) == 2 * argument
            done += 1
        except procession.WorkerDied:
            lost += 1
        except (procession.TimeoutError, TimeoutError):
            raise Stuck(f"task {argument} has no outcome") from None

    while killed < kills:
        while len(pending) < 200:
            pending.append((number, submit(number)))
            number += 1
        # Not synchronisation: it only varies where the stop and the kill fall.
        time.sleep(rng.uniform(0, 0.006))
        living = list(workers())
        if living:
            with stopped(rng.choice(living)):
                time.sleep(rng.uniform(0, 0.003))
        if living and (victim := rng.choice(living)).is_alive():
            victim.kill()
            killed += 1
        rest = []
        for argument, result in pending:
            if is_done(result):
                resolve(argument, result, 0)
            else:
                rest.append((argument, result))
        pending = rest
    for argument, result in pending:
        resolve(argument, result, TIMEOUT)
    assert done + lost == number and lost <= killed
    return (
        f"{number:,} tasks: {done:,} results, {lost} lost with their workers, 0 without an outcome"
    )


def pools(context: Any, seed: int, kills: int) -> str:
    with context.Pool(4) as pool:
        said = disturbed(
            seed,
            kills,
            submit=lambda number: pool.apply_async(double, (number,)),
            is_done=lambda result: result.ready(),
            outcome=lambda result, timeout: result.get(timeout),
            workers=lambda: pool._pool,
        )
        assert pool.map(double, range(50)) == [2 * n for n in range(50)]
    return said


def executors(context: Any, seed: int, kills: int) -> str:
    with procession.ProcessPoolExecutor(4, mp_context=context) as executor:
        said = disturbed(
            seed,
            kills,
            submit=lambda number: executor.submit(double, number),
            is_done=lambda future: future.done(),
            outcome=lambda future, timeout: future.result(timeout),
            workers=lambda: executor._processes.values(),
        )
        assert list(executor.map(double, range(50))) == [2 * n for n in range(50)]
    return said


def call(place: int, beats: Any, folder: str, current: Any, key: bytes, acknowledged: Any) -> None:
    """Count in the server's dictionary again and again, over its own connection."""
    while True:
        try:
            manager = SyncManager(os.path.join(folder, str(current[0])), key)
            manager.connect()
            table = manager.table()
            while True:
                table.update({f"{os.getpid()}": beats[place]})
                assert table.get(f"{os.getpid()}") == beats[place]
                beats[place] += 1
                acknowledged[place] += 1
        except (EOFError, OSError):
            # The server died during the call; its replacement has another address.
            beats[place] += 1
            time.sleep(0.002)  # a pause between two tries


_table: dict[str, int] = {}


def table() -> dict[str, int]:
    return _table


SyncManager.register("table", table, exposed=("get", "update", "__len__"))


def serve(address: Any, key: bytes) -> None:
    SyncManager(address, key).get_server().serve_forever()


def managers(context: Any, seed: int, kills: int) -> str:
    """Clients die in the middle of calls, and now and then the server.

    Those left go on or get an error.
    """
    key = b"storm"
    with tempfile.TemporaryDirectory() as folder:
        current, acknowledged = context.RawArray("Q", 1), context.RawArray("Q", 4)

        def start_server() -> Any:
            current[0] += 1
            address = os.path.join(folder, str(current[0]))
            server = context.Process(target=serve, args=(address, key), daemon=True)
            server.start()
            return server

        server = start_server()
        workers = Workers(context, seed, 4, call, folder, current, key, acknowledged)
        servers = 0
        for part in range(0, kills, 50):
            workers.storm(min(50, kills - part), 0.005)
            server.kill()
            server.join()
            servers += 1
            server = start_server()
        before = list(acknowledged)
        end = time.monotonic() + TIMEOUT
        while any(now == then for now, then in zip(acknowledged, before, strict=True)):
            assert server.is_alive() and time.monotonic() < end, "the server does not answer"
            time.sleep(0.01)
        workers.end()
        server.kill()
        server.join()
    return f"{sum(acknowledged):,} calls answered, {servers} servers killed too, 0 stuck"


def touch(queue: Any, lock: Any, seconds: float) -> None:
    """Use, in a child forked amid threads, what it inherited."""
    queue.put(os.getpid())
    lock.acquire()
    lock.release()
    time.sleep(seconds)


def forks(context: Any, seed: int, kills: int) -> str:
    """Fork children while threads of this process put, get and lock.

    Some end, some are killed; no process or thread waits forever.
    """
    context = procession.get_context("fork")
    rng = random.Random(seed)
    queue, lock, stop = context.Queue(), context.Lock(), threading.Event()
    counts = [0] * 4

    def thread(number: int) -> None:
        try:
            while not stop.is_set():
                if number < 2:
                    queue.put(number)
                    queue.get(timeout=TIMEOUT)
                else:
                    try:
                        lock.acquire()
                    except procession.OwnerDied:
                        continue
                    lock.release()
                    time.sleep(0.001)  # lets the other processes have the lock, too
                counts[number] += 1
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []
    threads = [threading.Thread(target=thread, args=(number,), daemon=True) for number in range(4)]
    for each in threads:
        each.start()
    ended = killed = 0
    for turn in itertools.count():
        child = context.Process(target=touch, args=(queue, lock, 10 if turn % 2 else 0))
        child.start()
        if turn % 2:
            time.sleep(rng.uniform(0, 0.004))  # not synchronisation: where the kill falls
            child.kill()
            killed += 1
        child.join(TIMEOUT)
        if child.is_alive():
            raise Stuck(f"{child} was forked while threads held something")
        ended += child.exitcode == 0
        assert turn % 2 or child.exitcode == 0, child.exitcode
        if killed == kills:
            break
    before = list(counts)
    end = time.monotonic() + TIMEOUT
    while any(now == then for now, then in zip(counts, before, strict=True)):
        if errors or time.monotonic() > end:
            raise Stuck(f"threads do not go on: {before}, {counts}, {errors}")
        time.sleep(0.005)
    stop.set()
    for each in threads:
        each.join(TIMEOUT)
        assert not each.is_alive()
    assert not errors, errors
    return f"{ended + killed} children forked amid threads, {killed} killed, 0 stuck"


CARRIERS = 2
"""How many processes carry large items and are stopped."""


def carry(place: int, beats: Any, queues: Any, locks: Any, semaphores: Any) -> None:
    """Put and get, acquire and release, each place on its own objects."""
    queue, lock, semaphore = queues[place], locks[place], semaphores[place]
    size = 200_000 if place < CARRIERS else 20
    numbers = itertools.count()
    for number in numbers:
        # Sizes vary, so that memory is split, merged and freed.
        queue.put(bytes(size + 7_000 * (number % 20)), timeout=TIMEOUT)
        queue.put((number, procession.Lock()), timeout=TIMEOUT)
        assert len(queue.get(timeout=TIMEOUT)) == size + 7_000 * (number % 20)
        assert queue.get(timeout=TIMEOUT)[0] == number
        with lock, semaphore:
            beats[place] += 1
        if place >= CARRIERS and number % 100 == 0:
            # A new process, too, which dies with the lock.
            child = os.fork()
            if child == 0:
                lock.acquire()
                os._exit(0)
            assert os.waitpid(child, 0) == (child, 0)
            try:
                lock.acquire(timeout=TIMEOUT)
            except procession.OwnerDied:
                continue
            lock.release()


def stops(context: Any, seed: int, kills: int) -> str:
    """Stop processes at random moments.

    Each time, others make progress with their own objects before the stopped one continues.
    """
    size = CARRIERS + 2
    workers = Workers(
        context,
        seed,
        size,
        carry,
        [context.Queue() for _ in range(size)],
        [context.Lock() for _ in range(size)],
        [context.Semaphore(2, recover="silent") for _ in range(size)],
    )
    workers.resolve()
    for turn in range(kills):
        time.sleep(workers.random.uniform(0, 0.01))  # not synchronisation: where the stop falls
        with stopped(workers.places[turn % CARRIERS]):
            workers.resolve(range(CARRIERS, size))
        # The stopped process has lost nothing, and goes on.
        if turn % 10 == 0:
            workers.resolve()
    beats = list(workers.beats)
    workers.end()
    return f"{sum(beats):,} items beside {kills} stops, 0 held up"


SCENES = {
    "queues": queues,
    "locks": locks,
    "dictionaries": dictionaries,
    "pools": pools,
    "executors": executors,
    "managers": managers,
    "actors": actors,
    "forks": forks,
    "stops": stops,
}
