"""Large items between nodes: how often they are in memory at once."""

from __future__ import annotations

import os
import pathlib
import re

from procession._procession import members

SIZE = 40_000_000


def _memory(pid, what):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+)", status)[1]) << 10


class _Copies:
    """Counts how many payloads more than now a process has in memory of its own at its peak.

    The kernel has one peak for all memory. What is shared at the end is taken for what was shared then.
    """

    def __init__(self, pid):
        self._pid = pid
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is what there is now
        self._before = _memory(pid, "RssAnon") + _memory(pid, "RssFile")

    def most(self):
        own = _memory(self._pid, "VmHWM") - _memory(self._pid, "RssShmem")
        return (own - self._before) / SIZE


def _put(queue):
    queue.put(bytes(SIZE))


def _get(queue):
    return len(queue.get())


def test_copies_in_a_deputy(ctx, elsewhere):
    """Of an item that is put, its request and itself at most; of one that is got, itself and its pickle."""
    queue = ctx.Queue()
    assert elsewhere(lambda queue: queue.empty(), queue)
    name = elsewhere.process.name
    (deputy,) = (m["pid"] for m in members() if m["name"] == name and m["pid"] != os.getpid())
    for _ in range(2):  # the second time, the memory of the messages is the deputy's already
        elsewhere(_put, queue)
        assert len(queue.get()) == SIZE
        queue.put(bytes(SIZE))
        assert elsewhere(_get, queue) == SIZE
    copies = _Copies(deputy)
    elsewhere(_put, queue)
    assert copies.most() < 2.5
    assert len(queue.get()) == SIZE
    queue.put(bytes(SIZE))
    copies = _Copies(deputy)
    assert elsewhere(_get, queue) == SIZE
    assert copies.most() < 2.5


def test_replies_about_as_long_as_those_that_come_apart(ctx, elsewhere):
    queue = ctx.Queue()
    for size in range((1 << 16) - 40, (1 << 16) + 40):
        queue.put(bytes(size))
    array = ctx.Array("B", 1 << 18, lock=False)
    got = elsewhere(_sizes, queue, array)
    assert got == ([*range((1 << 16) - 40, (1 << 16) + 40)], 1 << 18)


def _sizes(queue, array):
    return [len(queue.get()) for _ in range(80)], len(array[:])
