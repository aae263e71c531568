"""Classes of the actors in these tests."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time

from procession import actor
from procession._actor.server import _Client


class Counter:
    """A number, and whatever else an actor may do."""

    def __init__(self, number=0):
        self.number = number

    def add(self, by=1):
        self.number += by
        return self.number

    def echo(self, *args, **kwds):
        return args, kwds

    def pid(self):
        return os.getpid()

    def fail(self, text):
        raise ValueError(text)

    def result_that_cannot_be_sent(self):
        return threading.Lock()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, code):
        sys.exit(code)

    def wait(self, began, event):
        began.set()
        event.wait()
        return self.number

    def note(self, path):
        """Note that it was called, and die before there is a reply."""
        with open(path, "a") as file:
            file.write("called\n")
        self.die()

    def note_and_die_once(self, path):
        with open(path, "a") as file:
            file.write("called\n")
        with open(path) as file:
            if len(file.readlines()) == 1:
                self.die()
        return self.number

    def call(self, other, by):
        return other.add(by)

    def submit(self, other, times):
        return [actor.submit(other.add) for _ in range(times)] and times

    def lines(self):
        """Return how many lines of callers the actor's process knows."""
        return sum(type(thing) is _Client for thing in gc.get_objects())

    def cancel(self):
        raise asyncio.CancelledError("no more")


class Recorder:
    """What it was told, in order."""

    def __init__(self):
        self.told = []

    def tell(self, item):
        self.told.append(item)

    def get(self):
        return self.told


class Refusing:
    """Its constructor raises."""

    def __init__(self, text):
        raise ValueError(text)

    def work(self):
        """Never be called."""


class Crashing:
    """Its process dies before it is made."""

    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def work(self):
        """Never be called."""


class Broken:
    """Arrives, but cannot be unpickled."""

    def __init__(self, kind=RuntimeError):
        self.kind = kind

    def __reduce__(self):
        return _refuse, (self.kind,)


def _refuse(kind):
    raise kind("it is not to be unpickled")


class BrokenError(Exception):
    """An exception that cannot be unpickled."""

    def __reduce__(self):
        return _refuse, (SystemExit,)


class Breaking:
    """Returns what cannot be unpickled."""

    def get(self, *kind):
        return Broken(*kind)

    def fail(self):
        raise BrokenError

    def take(self, thing):
        return 1


def patient(seconds):
    time.sleep(seconds)
