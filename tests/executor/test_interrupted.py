"""An interrupt wherever a signal handler may raise in a call leaves the executor at work."""

from __future__ import annotations

import sys

import procession
from tests.pool.tasks import square

from ..waiting import LONG

#: Since CPython 3.14, profilers see the call of `__enter__` by a `with` statement. No signal handler runs between that
#: of a lock and the block, except on 3.14: if the handler raises there, the lock stays held, in any program.
UNSEEN = "__enter__" if sys.version_info >= (3, 14) else None


class _Interrupt(BaseException):
    pass


def interrupted_at(point, call):
    """Make a call, with an interrupt where a signal handler could raise for the time `point`.

    Return whether it was interrupted: False if there are fewer such points.
    """
    left = point

    def look(_frame, event, argument):
        nonlocal left
        if event in ("call", "c_return") and getattr(argument, "__name__", "") != UNSEEN:
            left -= 1
            if not left:
                sys.setprofile(None)
                raise _Interrupt

    sys.setprofile(look)
    try:
        call()
    except _Interrupt:
        pass
    finally:
        sys.setprofile(None)
    return left <= 0


def test_an_interrupt_at_each_point_of_a_call():
    with procession.ProcessPoolExecutor(1, procession.get_context("forkserver")) as executor:
        assert executor.submit(square, 3).result(LONG) == 9
        point = 1
        while interrupted_at(point, lambda: executor.submit(square, 3).result(LONG)):
            point += 1
            assert executor.submit(square, 4).result(LONG) == 16
        assert point > 10
