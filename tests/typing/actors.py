"""A program with actors: checkers know the methods of their classes."""

from __future__ import annotations

from typing import assert_type

from procession import ActorDied, ActorFuture, ActorMaker, ActorStatus, actor


class Counter:
    def __init__(self, start: int, *, name: str = "") -> None:
        self.number = start

    def add(self, by: int = 1, *, twice: bool = False) -> int:
        self.number += 2 * by if twice else by
        return self.number

    def names(self) -> list[str]:
        return []


def make(start: int) -> Counter:
    return Counter(start)


def calls() -> None:
    counter = actor(Counter, 10, name="text")
    assert_type(counter, Counter)
    assert_type(counter.add(5, twice=True), int)
    assert_type(counter.names(), list[str])
    future = actor.submit(counter.add, 5, twice=True)
    assert_type(future, ActorFuture[int])
    assert_type(future.result(1.5), int)
    assert_type(actor(make, 3), Counter)
    assert_type(actor.limited(counter, timeout=1.5, retries=2), Counter)


async def waits(counter: Counter) -> None:
    assert_type(await actor.submit(counter.names), list[str])


def ends(counter: Counter) -> None:
    maker = actor.options(
        name="counter", max_restarts=None, max_pending=100, timeout=2.0, retries=1
    )
    assert_type(maker, ActorMaker)
    with actor.closing(maker(Counter, 1)) as closed:
        assert_type(closed, Counter)
    try:
        actor.close(counter, timeout=5)
        actor.terminate(counter, wait=False)
    except ActorDied as error:
        assert_type(error.actor, str)
        assert_type(error.method, str | None)
        assert_type(error.final, bool)
    status = actor.status(counter)
    assert_type(status, ActorStatus)
    assert_type(status.pid, int | None)
