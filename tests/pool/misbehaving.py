"""A task that does what its item says; apart from the tests, as `tasks` is."""

from __future__ import annotations

import os
import threading

from tests.pool import tasks

#: What the function `misbehave` does with these items; the others are returned.
KILL, FAIL, EXIT, STOP, UNSENDABLE, UNLOADABLE = range(10, 16)
HANG = 16


def misbehave(x):
    if x == KILL:
        tasks.kill_self()
    if x == FAIL:
        raise KeyError(x)
    if x == EXIT:
        os._exit(3)
    if x == STOP:
        raise StopIteration(x)
    if x == UNSENDABLE:
        return tasks.Unpicklable()
    if x == UNLOADABLE:
        return tasks.UnloadableThere()
    if x == HANG:
        threading.Event().wait()
    return x


def misbehave_starred(x, y):
    assert y is None
    return misbehave(x)


def call(function):
    return function()
