"""A sub-pool as the scheduler sees it: its tasks, its connection, and the thread that feeds it."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections import deque

from ..._errors import NodeLost
from ..._threads import Event, Thread
from .. import wire
from .job import Task

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

    from .core import Core
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds of work that a node has beyond one task for each worker.
COVER = 0.02
#: The least seconds that a task counts for, and the most tasks of a node.
_LEAST, _MOST = 2e-5, 4096
#: Seconds without a result after which a node's tasks take longer than was expected.
SILENCE = 0.01


class SubPool:
    """A node's sub-pool, as the scheduler sees it. All is guarded by the core's lock."""

    def __init__(self, core: Core, node: str, number: int, size: int) -> None:
        self.node, self.number, self.size = node, number, size
        self.tasks: dict[int, Task] = {}
        #: Seconds that its tasks are expected to take.
        self.load = 0.0
        self.is_over = False
        #: What its process shows when it connects.
        self.token = b""
        #: Its pool has been made.
        self.has_begun = False
        #: When it last had no task, or told of one that ended.
        self.heard = 0.0
        #: It has been asked to give tasks back, and has not answered.
        self.is_asked = False
        #: Its workers: process identifier, name and index.
        self.workers: list[tuple[int, str, int]] = []
        self._core = core
        self._conn: Any = None
        self._messages: deque[tuple[Any, ...]] = deque()
        self._wake = threading.Condition(core.changed)
        self._known: set[int] = set()
        self._forgotten: list[int] = []
        self._questions: dict[int, tuple[Event, list[Any]]] = {}
        self._numbers = itertools.count()

    @property
    def is_ready(self) -> bool:
        """Whether it is connected, and not lost."""
        return self._conn is not None and not self.is_over

    def has_room(self) -> bool:
        """Return whether it takes another task."""
        count = len(self.tasks)
        if not self.is_ready or not self.size:
            return False
        return count < self.size or (self.load < self.size * COVER and count < _MOST)

    @property
    def idle(self) -> int:
        """The number of workers without a task."""
        return max(0, self.size - len(self.tasks)) if self.is_ready else 0

    def wake(self) -> None:
        """Have its thread look for tasks and messages."""
        self._wake.notify_all()

    def tell(self, *message: Any) -> None:
        """Send it a message, after those before."""
        self._messages.append(message)
        self.wake()

    def ask(self, *question: Any) -> Any:
        """Ask it something, and wait for the answer. The lock must not be held.

        Raises NodeLost if none comes, as in a child of fork.
        """
        answered, answer = Event(), []  # type: ignore[var-annotated]
        with self._core.changed:
            number = next(self._numbers)
            self._questions[number] = answered, answer
            if not self.is_over and not self._core.is_foreign():
                self.tell("ask", number, *question)
            else:
                answered.set()
        answered.wait(wire.ANSWER)
        with self._core.changed:
            self._questions.pop(number, None)
        if not answer:
            raise NodeLost(f"the pool's process on node {self.node} does not answer", self.node)
        return answer[0]

    def accept(self, task: Task) -> None:
        """Count a task as this node's."""
        each = self._core.call_seconds if task.job.is_call else task.job.item_seconds
        task.estimate = COVER if each is None else max(_LEAST, each * task.items)
        self.load += task.estimate
        if not self.tasks:
            self.heard = time.monotonic()
        self.tasks[task.serial] = task

    def release(self, serial: int) -> Task | None:
        """Count a task as done here."""
        task = self.tasks.pop(serial, None)
        if task is not None:
            self.load = self.load - task.estimate if self.tasks else 0.0
        return task

    def forget(self, key: int) -> None:
        """Note that the function of a job is needed no longer."""
        if key in self._known:
            self._known.discard(key)
            self._forgotten.append(key)

    def serve(self, conn: Any) -> None:
        """Receive from the connection to its end; another thread sends."""
        with self._core.changed:
            if self.is_over:
                conn.close()
                return
            self._conn = conn
        sender = Thread(self._send, "PoolNode")
        sender.start()
        try:
            while True:
                what, *arguments = pickle.loads(conn.recv_bytes())
                self._core.told(self, what, *arguments)
                del arguments
        except (EOFError, OSError):
            pass
        finally:
            # Also after another error: without this thread, the tasks would be waited for, for ever.
            wire.shut(conn)
            self._core.cut(self)
            sender.join()
            conn.close()

    def answered(self, number: int, value: Any) -> None:
        """Take note of an answer."""
        question = self._questions.pop(number, None)
        if question is not None:
            question[1].append(value)
            question[0].set()

    def end(self) -> None:
        """Take no more tasks, and let nobody wait for answers. The lock is held."""
        self.is_over = True
        if self._conn is not None:
            wire.shut(self._conn)  # its threads may be in the middle of a message
        for event, _ in self._questions.values():
            event.set()
        self.wake()

    def _send(self) -> None:
        conn = self._conn
        try:
            self._send_to(conn)
        except OSError:
            pass
        finally:
            wire.shut(conn)  # the receiving thread ends, too

    def _send_to(self, conn: Any) -> None:
        changed = self._core.changed
        while True:
            with changed:
                while not (self._messages or self.is_over or self._has_tasks()):
                    if self.idle and self._core.excess():
                        self._wake.wait(SILENCE)
                        self._core.balance()
                    else:
                        self._wake.wait()
                if self.is_over:
                    return
                messages = list(self._messages)
                self._messages.clear()
                if self._has_tasks():
                    messages.append(self._packed(self._core.take(self)))
            for message in messages:
                conn.send_bytes(pickle.dumps(message, 5))
            del messages

    def _has_tasks(self) -> bool:
        return bool(self._core.queue) and self.has_room()

    def _packed(self, tasks: list[Task]) -> tuple[Any, ...]:
        batch, functions = [], {}
        for task in tasks:
            job = task.job
            key = None if job.function is None else job.key
            if key is not None and key not in self._known:
                self._known.add(key)
                functions[key] = job.function
            batch.append((task.serial, key, job.mode, job.timeout, task.payload))
        forgotten, self._forgotten = self._forgotten, []
        return "tasks", batch, functions, forgotten
