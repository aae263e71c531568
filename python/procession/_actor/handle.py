"""What programs call an actor by."""

from __future__ import annotations

import os
import pickle
import weakref
from typing import Any

from .. import util
from .._errors import ActorDied
from .._procession import SharedBytes
from .board import Card
from .client import Client
from .lines import ActorFuture
from .owner import Owner

__all__: list[str] = []


class Limits:
    """The options of calls."""

    __slots__ = ("retries", "timeout")

    def __init__(self, timeout: float | None, retries: int) -> None:
        self.timeout, self.retries = timeout, retries


class Link:
    """What all handles of a process for one actor share. With the last of them it is collected."""

    #: Of the process that made the actor.
    owner: Owner | None = None
    _client: Client | None = None
    _all: weakref.WeakValueDictionary[bytes, Link] = weakref.WeakValueDictionary()

    def __init__(self, memory: SharedBytes, key: bytes) -> None:
        #: Keeps the actor alive, wherever it is.
        self.memory = memory
        self.key = key
        self.card = Card(*pickle.loads(memoryview(memory)))
        methods = self.card.methods
        self.methods = None if methods is None else frozenset(methods)
        self._pid = os.getpid()

    @classmethod
    def to(cls, memory: SharedBytes, key: bytes) -> Link:
        """Return the link of this process to an actor."""
        link = cls._all.get(key)
        return cls._all.setdefault(key, cls(memory, key)) if link is None else link

    def client(self) -> Client:
        """Return what makes the calls. Raises ActorDied if the actor ended before this process asked."""
        client = self._client
        if client is None:
            try:
                made = Client(self.card)
            except ValueError:
                raise ActorDied(
                    f"actor {self.card.name} has ended", self.card.name, None, 0, None, True
                ) from None
            client = self._client = self._client or made
        return client

    def order(self, order: str, wait: bool, timeout: float | None) -> None:
        """Have the actor end; see `Client.order`. One that has ended needs no order."""
        try:
            client = self.client()
        except ActorDied:
            return
        client.order(order, wait, timeout)

    def __del__(self, _getpid: Any = os.getpid) -> None:
        client, owner = self._client, self.owner
        if getattr(self, "_pid", None) == _getpid():
            if client is not None:
                client.drop()
            if owner is not None:
                owner.drop()

    @classmethod
    def _after_fork(cls) -> None:
        for _key, link in util.living_items(cls._all):
            client, link._client, link.owner = link._client, None, None
            link._pid = os.getpid()
            if client is not None:
                client.abandon()


os.register_at_fork(after_in_child=Link._after_fork)


class Method:
    """A method of an actor: call it, or give it to `procession.actor.submit`."""

    __module__ = "procession"
    __slots__ = ("_limits", "_link", "_name")

    def __init__(self, link: Link, limits: Limits, name: str) -> None:
        self._link, self._limits, self._name = link, limits, name

    def __call__(self, /, *args: Any, **kwds: Any) -> Any:
        link, limits = self._link, self._limits
        client = link._client or link.client()
        return client.call(self._name, args, kwds, limits.timeout, limits.retries)

    def submit(self, args: Any, kwds: Any) -> ActorFuture[Any]:
        """Send the call and return its future."""
        link = self._link
        return link.client().submit(self._name, args, kwds, self._limits.retries, link)

    def __repr__(self) -> str:
        return f"<method {self._name} of actor {self._link.card.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        link, limits = self._link, self._limits
        return _method, (link.memory, link.key, limits.timeout, limits.retries, self._name)


class Handle:
    """An actor, as any process of the family sees it: it has the public methods of the actor's class.

    It is a context manager, which closes the actor at the end.
    """

    __module__ = "procession"
    __slots__ = ("_limits", "_link")

    def __init__(self, link: Link, limits: Limits) -> None:
        self._link, self._limits = link, limits

    def __getattr__(self, name: str) -> Method:
        link = self._link
        if name.startswith("_") if link.methods is None else name not in link.methods:
            raise AttributeError(f"actor {link.card.name} has no method {name!r}")
        return Method(link, self._limits, name)

    def __dir__(self) -> list[str]:
        return sorted(self._link.card.methods or ())

    def __repr__(self) -> str:
        return f"<actor {self._link.card.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        limits = self._limits
        return _handle, (self._link.memory, self._link.key, limits.timeout, limits.retries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self._link.key == other._link.key

    def __hash__(self) -> int:
        return hash(self._link.key)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        order = "close" if exc_type is None else "terminate"
        self._link.order(order, True, None)


def _handle(memory: SharedBytes, key: bytes, timeout: float | None, retries: int) -> Handle:
    return Handle(Link.to(memory, key), Limits(timeout, retries))


def _method(
    memory: SharedBytes, key: bytes, timeout: float | None, retries: int, name: str
) -> Method:
    return Method(Link.to(memory, key), Limits(timeout, retries), name)
