"""`procession.actor`."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from .._errors import ActorDied
from .._pool.options import UNCHANGED, _check_limits, _check_name
from ..context import BaseContext, _default_context
from .board import DOWN, Card, Ending, in_memory, start_time
from .handle import Handle, Limits, Link, Method
from .lines import ActorFuture
from .owner import Owner, numbered

__all__ = ["ActorFuture", "ActorMaker", "ActorStatus", "actor"]

#: What actors say to the context "ray": their shared memory is one node's.
_NO_ACTOR = (
    "the context 'ray' has no actors yet: have actors of this node, as with the option"
    " context=get_context('forkserver'), or use the actors of Ray"
)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class ActorStatus:
    """What is known of an actor."""

    #: Its name, for people.
    name: str
    #: Whether it takes calls. While it is started again, it does.
    alive: bool
    #: The process identifier of its process, None if it has none at this moment.
    pid: int | None
    #: How often it was started again; 0 if nothing is left of it.
    restarts: int
    #: How its last process ended, in words; None if none has.
    ended: str | None


class ActorMaker:
    """Makes actors, and has the functions about them; `procession.actor` is one.

    `actor(Class, *args, **kwargs)` makes an object of the class in a process of its own and returns a
    handle, which has the public methods of the class and nothing else: a call sends the arguments,
    waits, and returns the result or raises the exception. Any process may have the handle, as an
    argument, a result, or part of an item of a queue. The actor does one call after the other; those
    of one thread in their order.

    The call returns before the object is made. If the constructor raises, the actor is dead for good,
    and each call raises `ActorDied` with that exception as its cause.

    The actor ends when it is closed or terminated, with the process that made it, and when no
    process has a handle any more. A process that was forked while there was a handle counts as having
    one.
    """

    def __init__(self) -> None:
        self._options: dict[str, Any] = {}

    def __call__(self, cls: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Make an actor and return its handle.

        Raises what the start method raises, such as the error of an argument that cannot be sent, and
        NotImplementedError for the start method "ray".
        """
        return self._make(cls, args, kwargs)

    def options(
        self,
        *,
        name: str | None = None,
        max_restarts: int | None = 0,
        max_pending: int = 0,
        timeout: float | None = None,
        retries: int = 0,
        context: BaseContext | None = None,
    ) -> ActorMaker:
        """Return a maker of actors with these options.

        Args:
            name: the actor's name in errors, and in `procession ps`; None: that of its class and a number.
            max_restarts: how often the actor is started again when its process has died; None: always.
                Its state is made anew by the constructor. Calls that were sent and not answered fail
                with `ActorDied`.
            max_pending: how many calls may wait for the actor; a call beyond that waits for room. 0: no
                limit but memory.
            timeout: seconds after which a call raises `TimeoutError`. The actor goes on with it. Not for
                calls by `submit`: their futures' `result` has a timeout.
            retries: how often a call is sent again when the actor's process died before it replied. It
                may then be done more than once.
            context: the context that starts the process; None: the default context.
        """
        _check_name(name)
        _check_limits(timeout, retries)
        for option, value, least in (
            ("max_restarts", max_restarts, "a number from 0 or None"),
            ("max_pending", max_pending, "a number from 0"),
        ):
            if not (isinstance(value, int) and value >= 0) and not (
                value is None and option == "max_restarts"
            ):
                raise ValueError(f"{option} must be {least}")
        made = ActorMaker()
        made._options = {
            "name": name,
            "max_restarts": max_restarts,
            "max_pending": max_pending,
            "limits": Limits(timeout, retries),
            "context": context,
        }
        return made

    def _make(self, cls: Any, args: Any, kwds: Any) -> Any:
        if not callable(cls):
            raise TypeError(f"actor() needs a class, not {type(cls).__name__}")
        given = self._options
        name = given.get("name") or numbered(cls)
        most = given.get("max_restarts", 0)
        pending = given.get("max_pending", 0)
        context = given.get("context") or _default_context
        if getattr(context.get_context(), "_name", None) == "ray":
            raise NotImplementedError(_NO_ACTOR)
        owner = Owner(context, name, most, pending, cls, args, kwds)
        try:
            owner.start()
            card = Card(
                *(owner.key, name, _methods_of(cls), os.getpid(), start_time(os.getpid())),
                *(most, bool(pending), owner.board.states()),
            )
            # After the fork of the actor's process, which counts as having what was there before.
            link = Link.to(in_memory(pickle.dumps(tuple(card))), owner.key)
            owner.supervise(link.memory)
            link.owner = owner
        except BaseException:
            owner.kill()
            raise
        return Handle(link, given.get("limits") or Limits(None, 0))

    @staticmethod
    def submit(method: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> ActorFuture[_R]:
        """Call a method of an actor, and return a future of its result.

        `actor.submit(counter.add, 5)` calls `add(5)`. The future is one of `concurrent.futures`, and can
        be awaited in asyncio. The call is sent when this returns. It waits only if the actor has
        `max_pending`, as long as that takes: the option `timeout` is not for it.
        """
        return _method(method).submit(args, kwargs)

    @staticmethod
    def limited(handle: _T, *, timeout: float | None = UNCHANGED, retries: int = UNCHANGED) -> _T:
        """Return a handle of the same actor with other options for calls; see `options`.

        As there, `timeout` is not for calls by `submit`.
        """
        mine = _handle(handle)
        limits = Limits(
            mine._limits.timeout if timeout is UNCHANGED else timeout,
            mine._limits.retries if retries is UNCHANGED else retries,
        )
        _check_limits(limits.timeout, limits.retries)
        return Handle(mine._link, limits)  # type: ignore[return-value]

    @staticmethod
    def close(handle: object, *, wait: bool = True, timeout: float | None = None) -> None:
        """Let the actor end when it has done the calls that were sent to it.

        Any process may do this, also when the actor has ended. Later calls raise `ActorDied`.

        Args:
            wait: return only when it has ended.
            timeout: seconds to wait at most; then TimeoutError is raised.
        """
        _handle(handle)._link.order("close", wait, timeout)

    @staticmethod
    def terminate(handle: object, *, wait: bool = True, timeout: float | None = None) -> None:
        """End the actor's process at once, by SIGKILL. Calls without a result raise `ActorDied`.

        Args: as those of `close`.
        """
        _handle(handle)._link.order("terminate", wait, timeout)

    @staticmethod
    @contextmanager
    def closing(handle: _T) -> Iterator[_T]:
        """Close the actor at the end of a `with`; terminate it if an exception leaves the body.

        The handle itself does the same: this is for type checkers, which take it for an object of its class.
        """
        with _handle(handle):
            yield handle

    @staticmethod
    def status(handle: object) -> ActorStatus:
        """Return what is known of the actor."""
        link = _handle(handle)._link
        try:
            client = link.client()
        except ActorDied:
            # Nothing is left of it but its name.
            return ActorStatus(link.card.name, False, None, 0, "has ended")
        record = client.board.read()
        ending = None if record.ending is None else Ending(*record.ending)
        if record.status == DOWN:
            alive = False
        elif client.ending is not None:
            alive, ending = False, client.ending
        elif client.is_owner_gone():
            alive, ending = False, client.owner_s_end(record)
        else:
            alive = True
        pid = record.pid if alive and record.pid else None
        ended = None if ending is None else ending.text
        return ActorStatus(link.card.name, alive, pid, record.incarnation, ended)

    def __repr__(self) -> str:
        return "<procession.actor>"


def _handle(handle: object) -> Handle:
    if not isinstance(handle, Handle):
        raise TypeError(f"this needs the handle of an actor, not {type(handle).__name__}")
    return handle


def _method(method: object) -> Method:
    if not isinstance(method, Method):
        raise TypeError(f"submit() needs a method of an actor's handle, not {method!r}")
    return method


def _methods_of(cls: Any) -> tuple[str, ...] | None:
    """Return the names of a class's public methods; None if they are not known before there is an object."""
    if not isinstance(cls, type) or hasattr(cls, "__getattr__"):
        return None
    return tuple(
        name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name, None))
    )


actor = ActorMaker()

for _public in (ActorFuture, ActorMaker, ActorStatus):
    _public.__module__ = "procession"
