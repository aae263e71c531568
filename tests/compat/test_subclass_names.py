"""Attributes of common names belong to the program's subclasses; interrupted calls can be repeated."""

from __future__ import annotations

import multiprocessing.resource_sharer
import os
import sys

import pytest

import procession
from procession import pool, resource_sharer

OWN = ("status", "workers", "record", "jobs", "children", "results", "maker", "watch", "queue")


def test_processes(method):
    class Own(procession.get_context(method).Process):
        def __init__(self):
            super().__init__()
            for name in OWN:
                setattr(self, f"_{name}", name)

    process = Own()
    assert "initial" in repr(process)
    process.start()
    process.join(30)
    assert process.exitcode == 0 and "stopped" in repr(process)
    process.close()


def test_pools():
    class Own(pool.Pool):
        def __init__(self):
            super().__init__(1, context=procession.get_context("fork"))
            self._workers = self._status = self._jobs = self._records = 1

    with Own() as own:
        assert own.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("name", ["_address", "_cache", "_listener", "_thread", "_lock"])
def test_what_programs_read_of_the_resource_sharer(name):
    assert hasattr(resource_sharer._resource_sharer, name)
    assert hasattr(multiprocessing.resource_sharer._resource_sharer, name)


def test_the_resource_sharer_forgets_its_address_when_it_stops():
    sharer = resource_sharer._ResourceSharer()
    duplicate = os.dup(0)
    address, key = sharer.register(lambda conn, pid: None, lambda: os.close(duplicate))
    assert (address, key) == (sharer._address, 1) and list(sharer._cache) == [1]
    sharer.stop(30)
    assert sharer._address is None and not sharer._cache


class Interrupt(Exception):
    pass


def test_a_close_that_is_interrupted_at_any_line_can_be_repeated():
    code = procession.process.BaseProcess.close.__code__
    lines = {line for _, _, line in code.co_lines() if line is not None}
    for line in sorted(lines):
        process = procession.get_context("fork").Process()
        process.start()
        process.join(30)

        def trace(frame, event, _arg, line=line):
            if frame.f_code is code and event == "line" and frame.f_lineno == line:
                raise Interrupt
            return trace

        sys.settrace(trace)
        try:
            process.close()
        except Interrupt:
            pass
        finally:
            sys.settrace(None)
        process.close()
        with pytest.raises(ValueError, match="closed"):
            process.exitcode  # noqa: B018
