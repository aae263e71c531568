"""The storm around an actor."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import signal
import tempfile
from typing import Any

from procession import ActorDied, actor

from .workers import Workers

#: Calls with futures that a client waits for together.
TOGETHER = 20


class Log:
    """Notes each call in a file before it replies."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, client: int, number: int, _ballast: Any = None) -> int:
        os.write(self._fd, b"%d %d\n" % (client, number))
        return number


def call(place: int, beats: Any, log: Log, failed: Any) -> None:
    """Call again and again, in all ways."""
    for first in itertools.count(0, TOGETHER):
        futures = []
        for number in range(first, first + TOGETHER):
            try:
                ballast = [number] if number % 2 else None
                if number % 3:
                    assert log.note(os.getpid(), number, ballast) == number
                else:
                    futures.append((number, actor.submit(log.note, os.getpid(), number, ballast)))
            except ActorDied as error:
                assert not error.final
                failed[place] += 1
        for sent, future in futures:
            try:
                assert future.result(60) == sent
            except ActorDied as error:
                assert not error.final
                failed[place] += 1
        beats[place] += 1


def actors(context: Any, seed: int, kills: int) -> str:
    """Clients die in the middle of calls and are stopped, and now and then the actor dies.

    No call is done twice, those of a client are done in their order, and every call ends.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, died = pathlib.Path(folder, "log"), 0
        options = actor.options(context=context, max_restarts=None, max_pending=seed % 2 * 8)
        log = options(Log, str(path))
        failed = context.RawArray("Q", 4)
        workers = Workers(context, seed, 4, call, log, failed)

        def kill_actor(_place: int) -> None:
            nonlocal died
            pid = actor.status(log).pid
            if pid is not None and died < kills // 2:
                # One that dies again and again before the object is made is given up.
                with contextlib.suppress(ActorDied):
                    log.note(0, died)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                died += 1

        workers.storm(kills, 0.02, on_kill=kill_actor)
        workers.resolve()
        workers.end()
        actor.terminate(log)
        last: dict[bytes, int] = {}
        lines = path.read_bytes().splitlines()
        for client, number in map(bytes.split, lines):
            # A killed client's successor may have its pid, and begins anew.
            assert int(number) > last.get(client, -1) or int(number) == 0, "twice, or out of order"
            last[client] = int(number)
    return (
        f"{len(lines):,} calls beside {kills} kills and {died} of the actor, {sum(failed)} failed"
    )
