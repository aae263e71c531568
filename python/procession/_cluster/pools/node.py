"""The sub-pool: a process on a node, with a pool of the engine that runs a part of the tasks."""

from __future__ import annotations

import os
import pickle
import signal
import threading

from ... import _share, context, util
from ... import pool as _pools
from ..._errors import TaskCancelled, TaskTimeout, WorkerDied
from ..._pool.stats import stats_of
from ..._pool.workers import Workers
from ..._procession import PoolStream
from ..._threads import Thread
from .. import place, rendezvous, wire
from . import tasks
from .tasks import CANCELLED, DIED, FAILED, GIVEN_BACK, TIMED_OUT

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: The number of results that are sent at a time.
_BATCH = 256
#: The most bytes of a function that are sent to the workers with each task.
_SMALL = 4096


class Settings:
    """What a sub-pool is told when it is started.

    `initializer` and `worker_exit` are pickles, or None. `number` is the sub-pool's own among `of`,
    from which its workers' indexes are made.
    """

    def __init__(
        self,
        size: int,
        initializer: bytes | None,
        worker_exit: bytes | None,
        maxtasks: int | None,
        options: dict[str, Any],
        number: int,
        of: int,
    ) -> None:
        self.size, self.maxtasks, self.options = size, maxtasks, options
        self.initializer, self.worker_exit = initializer, worker_exit
        self.number, self.of = number, of


def main(address: tuple[str, int], token: bytes, settings: Settings) -> None:
    """Run a sub-pool for the pool whose process expects the token at the address."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool's process decides
    here = place.here()
    assert here is not None
    conn = rendezvous.show(address, token, here.key)
    _SubPool(conn, settings).serve()


class _Workers(Workers):
    """Workers whose list, and whose failure, the pool's process is told."""

    subpool: Any
    _told: Any = ()

    def _free_index(self) -> int:
        """Return the smallest index of this sub-pool that no worker has."""
        settings = self.subpool.settings
        used = {process._index for process in self.workers}
        index = settings.number
        while index in used:
            index += settings.of
        return index

    def _maintain(self) -> float | None:
        pause = super()._maintain()
        now = [(process.pid, process.name, process._index) for process in self.workers]
        if now != self._told:
            self._told = now
            self.subpool.report("workers", now)
        return pause

    def _break(self, text: str, error: BaseException | None) -> None:
        try:
            packed = None if error is None else tasks._packed(error)
            self.subpool.report("broken", text, packed)
        finally:
            super()._break(text, error)


_Base: Any = _pools.Pool  # for its private names: the stub shows only the public ones


class _Pool(_Base):
    """The sub-pool's pool, even if a program has changed the pool's module."""

    _can_be_changed = False

    def __init__(self, subpool: _SubPool, *args: Any, **options: Any) -> None:
        self._subpool = subpool
        self._outlives_exits = bool(subpool.flags & tasks.OUTLIVES_EXITS)
        super().__init__(*args, **options)

    def _new_workers(self, *arguments: Any) -> Any:
        workers = _Workers(*arguments)
        workers.subpool = self._subpool
        return workers


class _SubPool:
    """The pool of this process, and its connection to the process whose tasks it does."""

    def __init__(self, conn: Any, settings: Settings) -> None:
        self._conn, self.settings = conn, settings
        self._sending = threading.Lock()
        #: Held where a task and its number are noted together.
        self._mutex = threading.Lock()
        self._numbers: dict[int, int] = {}
        self._given_back: set[int] = set()
        self._functions: dict[int, Any] = {}
        options = dict(settings.options)
        self.flags = tasks.OUTLIVES_EXITS if options.get("outlives_exits") else 0
        if settings.worker_exit is not None:
            options["worker_exit"] = tasks.Exit(settings.worker_exit)
        given = {
            name: options[name] for name in ("max_rss", "worker_exit", "name") if name in options
        }
        sealed = settings.initializer
        self._pool: Any = _Pool(
            self,
            settings.size,
            None if sealed is None else tasks.begin,
            () if sealed is None else (sealed,),
            settings.maxtasks,
            context._concrete_contexts["forkserver"],
            seed=None if options.get("reseed") else False,
            threads_per_worker=options.get("threads"),
            **given,
        )
        self._stream = PoolStream(self._pool._core, None, 0, 1)

    def report(self, *message: Any) -> None:
        """Send the pool's process a message; if it has gone, `serve` learns so itself."""
        try:
            with self._sending:
                self._conn.send_bytes(pickle.dumps(message, 5))
        except OSError as error:
            util.debug("the pool's process has gone: %s", error)

    def serve(self) -> None:
        """Do tasks until the pool is closed or terminated, or its process is gone."""
        results = Thread(self._send_results, "SubPoolResults")
        results.start()
        self.report("ready")
        if self._follow():
            self._stream.close()
            self._pool.close()
            self._pool.join()
            results.join()
        else:
            self._pool.terminate()
            self._pool.join()

    def _follow(self) -> bool:
        """Return whether the pool is closed; otherwise it has been terminated."""
        while True:
            try:
                what, *arguments = pickle.loads(self._conn.recv_bytes())
            except (EOFError, OSError) as error:
                util.info("the pool's process has gone: %s", error)
                return False
            if what == "tasks":
                self._take(*arguments)
            elif what == "back":
                self._give_back(*arguments)
            elif what == "cancel":
                self._cancel(*arguments)
            elif what == "resize":
                self._pool._processes = arguments[0]
                self._pool._pool_workers.resize(*arguments)
            elif what == "signal":
                self._signal(*arguments)
            elif what == "ask":
                self._answer(*arguments)
            else:
                return bool(what == "close")

    def _take(self, batch: list[Any], functions: dict[int, bytes], forgotten: list[int]) -> None:
        for key, function in functions.items():
            small = len(function) <= _SMALL
            self._functions[key] = function if small else _share.share(function)
        for key in forgotten:
            self._functions.pop(key, None)
        submit, flags = self._stream.submit, self.flags
        with self._mutex:
            for serial, key, mode, timeout, payload in batch:
                timed = flags if timeout is None else flags | tasks.TIMED
                args = key, self._functions.get(key), mode, timed, payload
                limits = None if timeout is None else (timeout, 0, 1, None)
                number = submit(serial, tasks.perform, args, {}, limits)
                if number is not None:
                    self._numbers[serial] = number

    def _give_back(self, count: int) -> None:
        """Give back tasks that no worker has begun, those that came last first."""
        with self._mutex:
            for serial in reversed(list(self._numbers)):
                if not count:
                    break
                if self._stream.cancel(self._numbers[serial], False):
                    self._given_back.add(serial)
                    count -= 1
        self.report("gave")

    def _cancel(self, serials: list[int], running: bool) -> list[int]:
        cancelled = []
        with self._mutex:
            for serial in serials:
                number = self._numbers.get(serial)
                if number is not None and self._stream.cancel(number, running):
                    cancelled.append(serial)
        return cancelled

    def _signal(self, pid: int, number: int) -> None:
        if any(worker.pid == pid for worker in list(self._pool._pool)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it has ended meanwhile

    def _answer(self, question: int, what: str, *arguments: Any) -> None:
        value: Any
        if what == "cancel":
            value = self._cancel(*arguments)
        elif what == "running":
            with self._mutex:
                number = self._numbers.get(*arguments)
            value = number is not None and self._stream.is_running(number)
        else:
            value = [tuple(one) for one in stats_of(self._pool._core, self._pool._pool).workers]
        self.report("answer", question, value)

    def _send_results(self) -> None:
        try:
            self._send_all_results()
        except BaseException:
            wire.shut(self._conn)  # the pool would wait for the results for ever
            raise

    def _send_all_results(self) -> None:
        while results := self._stream.take(_BATCH):
            batch = []
            with self._mutex:
                for serial, success, value in results:
                    self._numbers.pop(serial, None)
                    batch.append((serial, *(value if success else self._failure(serial, value))))
            del results
            self.report("done", batch)
            del batch

    def _failure(self, serial: int, error: BaseException) -> tuple[int, float, Any]:
        if serial in self._given_back:
            self._given_back.discard(serial)
            return GIVEN_BACK, 0.0, None
        if isinstance(error, TaskTimeout):
            return TIMED_OUT, 0.0, (error.timeout, (error.pid, 0, False, error.stack))
        if isinstance(error, WorkerDied):
            death = error.pid, error.exitcode or 0, error.out_of_memory, error.stack
            return DIED, 0.0, (None, death)
        if isinstance(error, TaskCancelled):
            return CANCELLED, 0.0, None
        return FAILED, 0.0, tasks._packed(error)
