"""The sub-pools of a pool on several nodes: their start, their replacement and their end."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable

from ... import util
from ..._errors import NodeLost
from ..._pool.workers import (
    CLOSE,
    RUN,
    TERMINATE,
    as_worker,
    broken_by,
    broken_by_errors,
    undo_start,
    why_ended,
)
from ..._threads import RLock, Thread
from .. import place, rendezvous, wire
from ..placement import shares
from . import node
from .core import Core
from .subpool import SubPool

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds that the sub-pools have to end when the pool is terminated.
_GRACE = 3.0
#: Seconds after which a closed pool looks again whether all its jobs have ended.
_SLICE = 1
#: The pool is broken when this many sub-pools in a row ended before they had begun.
_FAULTS = 3


class NodeWorker:
    """A worker on a node, as the pool's process knows it.

    `node` is the node's name, `exitcode` None as long as the worker counts as alive, then 0: how it
    ended is known to its node.
    """

    def __init__(self, subpool: SubPool, core: Core, pid: int, name: str, index: int) -> None:
        self._subpool, self._core = subpool, core
        self.pid, self.name, self._index = pid, name, index
        self.node = subpool.node

    @property
    def _worker_index(self) -> tuple[int, int]:
        return self._subpool.number, self.pid

    @property
    def exitcode(self) -> int | None:
        """None, or 0 if it has ended."""
        alive = any(pid == self.pid for pid, _, _ in self._subpool.workers)
        return None if alive and not self._subpool.is_over else 0

    def is_alive(self) -> bool:
        """Return whether it has not ended, as far as is known here."""
        return self.exitcode is None

    def _signal(self, number: int) -> None:
        with self._core.changed:
            self._subpool.tell("signal", self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<worker {self.name} of node {self.node}: process {self.pid}>"


class _All:
    """The workers on all nodes, as a list that is read.

    As on one machine, no look comes too early: it waits for the sub-pools that are starting theirs,
    as long as for any answer.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def known(self) -> list[NodeWorker]:
        """The workers that the nodes have told of."""
        core = self._core
        with core.changed:
            return [
                NodeWorker(subpool, core, *worker)
                for subpool in core.subpools
                for worker in subpool.workers
            ]

    def _now(self) -> list[NodeWorker]:
        core = self._core

        def have_told() -> bool:
            return core.error is not None or not any(
                one.size and not one.workers and not one.is_over for one in core.subpools
            )

        if not core.is_foreign():
            with core.changed:
                core.changed.wait_for(have_told, wire.ANSWER)
        return self.known

    def __iter__(self) -> Any:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __getitem__(self, index: Any) -> Any:
        return self._now()[index]


class NodeWorkers:
    """The sub-pools, which a thread watches. They are apart from the pool, so that it can be freed."""

    _notice = -1  # for an object with an interrupted `__init__`

    def __init__(
        self,
        core: Core,
        make: Callable[..., Any],
        here: place.Place,
        size: int,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> None:
        self.core = core
        self.workers = _All(core)
        #: Makes the error of a pool whose workers cannot start.
        self.broken: Callable[[], BaseException] | None = None
        #: Makes a process for a node.
        self._make = make
        self._here, self._size = here, size
        # Kept as they are: what they refer to lives as long as the pool.
        self._initializer, self._initargs, self._maxtasks = arguments
        self._options = dict(options)
        self._worker_exit = self._options.pop("worker_exit", None)
        self._processes: dict[SubPool, Any] = {}
        self._faults = 0
        self._state = RUN
        self._told_close = False
        self._lock = util.free_in_child(RLock())
        self._notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: Thread | None = None
        core.notify = self._notify
        core.on_broken = self._break

    def __del__(self, _close: Any = os.close) -> None:
        notice, self._notice = self._notice, -1
        if notice >= 0:
            _close(notice)

    def _notify(self) -> None:
        if self._notice >= 0:  # jobs may be freed after this
            os.eventfd_write(self._notice, 1)

    def repopulate(self) -> None:
        """Have as many workers on each node as its share is now. Raises NodeLost if no node is left."""
        with self._lock:
            while True:
                wanted = shares(self._here, self._size)
                at = {process._at.address: one for one, process in self._processes.items()}
                try:
                    for address, (where, size) in wanted.items():
                        if self._state == TERMINATE:
                            return
                        if address in at:
                            self._resize(at[address], size)
                        else:
                            self._start(where, size)
                    for address in at.keys() - wanted.keys():
                        self._resize(at[address], 0)
                    return
                except NodeLost as error:
                    # The next look leaves the node out.
                    util.info("another node is used for a pool's workers: %s", error)

    def _resize(self, subpool: SubPool, size: int) -> None:
        with self.core.changed:
            if subpool.size != size:
                subpool.size = size
                subpool.tell("resize", size)

    def _start(self, where: place.Node, size: int) -> None:
        nodes = self._here.nodes
        number = next(n for n, one in enumerate(nodes) if one.address == where.address)
        initializer = self._initializer
        settings = node.Settings(
            size,
            None if initializer is None else _sealed((initializer, tuple(self._initargs))),
            None if self._worker_exit is None else _sealed(self._worker_exit),
            self._maxtasks,
            self._options,
            number,
            len(nodes),
        )
        meeting = rendezvous.own(self._here)
        subpool = SubPool(self.core, where.name, number, size)
        subpool.token = token = meeting.expect(subpool.serve)
        process = None
        try:
            with self.core.changed:
                self.core.subpools.append(subpool)
                self.core.subpools.sort(key=lambda one: one.number)
            args = meeting.address, token, settings
            process = as_worker(self._make(where, target=node.main, args=args))
            process.start()
            self._processes[subpool] = process
        except BaseException:
            meeting.forget(token)
            self._processes.pop(subpool, None)
            self.core.lose(subpool, 0, 0)
            if process is not None:
                undo_start(process, [])
            raise
        util.debug("added %d workers on node %s", size, where.name)

    def watch(self) -> None:
        """Start the thread that replaces sub-pools."""
        self._thread = Thread(self._watch, "PoolWorkers")
        self._thread.start()

    def _watch(self) -> None:
        with broken_by_errors(self._break):
            while self._maintain():
                self._wait()
        util.debug("pool's watch exiting")

    def _wait(self) -> None:
        """Wait until a sub-pool ends, or there is a notice (and read it)."""
        ends = select.poll()
        for fd in [self._notice, *(one.sentinel for one in self._processes.values())]:
            ends.register(fd, select.POLLIN)
        # In slices once the pool is closed: a signal handler that raises in a finalizer may have
        # kept the news of the last job's end.
        ends.poll(None if self._state == RUN else _SLICE * 1000)
        try:
            os.eventfd_read(self._notice)
        except BlockingIOError:
            pass

    def _maintain(self) -> bool:
        """Reap sub-pools that have ended, and replace them. Return False when the watch is over."""
        with self._lock:
            for subpool, process in list(self._processes.items()):
                if subpool.is_over and process.exitcode is None and not self._told_close:
                    process.kill()  # it cannot be reached any more
                if process.exitcode is not None:
                    self._reap(subpool, process)
            if self._state == TERMINATE or self.broken:
                return False
            if self.core.is_idle():
                if not self._told_close:
                    self._told_close = True
                    self._tell_all("close")
                return bool(self._processes)
            try:
                self.repopulate()
            except BaseException as error:
                if not self._processes:
                    self._break(f"a pool's workers cannot be started: {error!r}", error)
                    return False
                util.warn("cannot start workers on a node: %r", error)
            return True

    def _reap(self, subpool: SubPool, process: Any) -> None:
        process.join()
        del self._processes[subpool]
        rendezvous.own(self._here).forget(subpool.token)
        self._faults = 0 if subpool.has_begun else self._faults + 1
        if self._state != TERMINATE:
            self.core.lose(subpool, process.pid, process.exitcode)
        if self._faults >= max(_FAULTS, len(self._here.nodes)):
            last = f"the last on node {subpool.node} with exit code {process.exitcode}"
            text = f"a pool's workers cannot be started: {self._faults} processes in a row ended before they could work, {last}"
            self._break(text, None)

    def _break(self, text: str, error: BaseException | None) -> None:
        self.broken = broken_by(text, error)
        self.core.terminate(self.broken)
        self._tell_all("terminate")
        self._notify()

    def _tell_all(self, what: str) -> None:
        with self.core.changed:
            for subpool in self.core.subpools:
                subpool.tell(what)

    def resize(self, size: int) -> None:
        """Change the number of workers: start some, or make some leave."""
        try:
            with self._lock:
                self._size = size
                self.repopulate()
        finally:
            self._notify()

    def close(self) -> None:
        """Let the workers leave when all tasks are done."""
        self._state = CLOSE
        self.core.close()

    def join(self) -> None:
        """Wait until the watch is over and the sub-pools have ended."""
        self._join_watch()
        for process in list(self._processes.values()):
            process.join()

    def _join_watch(self) -> None:
        if self._thread is not None and not self.is_at_work():
            self._thread.join()

    def is_at_work(self) -> bool:
        """Return whether this thread is starting or reaping sub-pools; see `Workers.is_at_work`."""
        return self._thread is threading.current_thread() or self._lock._is_owned()

    def abandon(self) -> None:
        """Undo a pool after its construction failed."""
        self.stop()

    def stop(self) -> None:
        """End the workers at once."""
        util.debug("terminating pool's workers")
        self._state = TERMINATE
        self.core.terminate(why_ended())
        self._tell_all("terminate")
        self._notify()
        self._join_watch()
        end = time.monotonic() + _GRACE
        for process in list(self._processes.values()):
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
        for subpool in list(self._processes):
            self._processes.pop(subpool, None)
            with self.core.changed:
                subpool.end()


def _sealed(obj: Any) -> bytes:
    return wire.dumps_bytes(obj)
