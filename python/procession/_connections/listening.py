"""Listeners and clients, and the handshake in which both ends prove that they know the same key.

A peer of a listener with a key is a stranger until it has proved the key. None of its messages may
be longer than those of a handshake, it has a few seconds for all of them, and nothing that it sends
is unpickled. What a proof consists of is in `_connections.authentication`.
"""

from __future__ import annotations

import errno
import os
import time
from _collections_abc import Callable

from .._threads import RLock
from ..context import AuthenticationError
from . import authentication
from .framing import LENGTH, Connection, wait
from .sockets import (
    SocketClient,
    SocketListener,
    _validate_family,
    address_type,
    arbitrary_address,
    default_family,
)

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["Client", "Listener", "answer_challenge", "deliver_challenge"]

# Seconds that a peer has for its whole handshake; after that it is dropped.
CONNECTION_TIMEOUT = 20.0


class _Handshake:
    """A listener's half of the mutual proof.

    It advances whenever bytes arrive. It never waits and never reads beyond the handshake.
    """

    def __init__(self, connection: Connection, authkey: bytes) -> None:
        self.connection = connection
        self.begun = time.monotonic()
        # True until the peer has proved the key.
        self.is_stranger = True
        self.deadline = self.begun + CONNECTION_TIMEOUT
        self._steps = self._both(authkey)
        self._received = bytearray()
        self._wanted = 4

    @staticmethod
    def _both(authkey: bytes) -> authentication.Steps:
        yield from authentication.challenge(authkey)
        yield from authentication.answer(authkey)

    def fileno(self) -> int:
        return self.connection.fileno()

    def advance(self, message: bytes | None = None) -> bool:
        """Pass the peer's message (at first None) to the protocol.

        Return whether that proved the peer.
        """
        try:
            reply = self._steps.send(message)
            self.is_stranger = message is None
            while reply is not None:
                # A few hundred bytes in all: they fit into the socket's buffer whatever the peer
                # does.
                os.write(self.fileno(), LENGTH.pack(len(reply)) + reply)
                reply = next(self._steps)
        except StopIteration:
            return True
        return False

    def receive(self) -> bool:
        """Read what has arrived, once `wait` reports something.

        Return whether the peer is now proved.
        """
        data = os.read(self.fileno(), self._wanted - len(self._received))
        if not data:
            raise EOFError
        self._received += data
        if len(self._received) < self._wanted:
            return False
        if self._wanted == 4:
            (length,) = LENGTH.unpack(self._received)
            if not 0 <= length <= authentication.LONGEST_MESSAGE:
                raise OSError("bad message length")
            self._wanted += length
            if length:
                return False
        message = bytes(self._received[4:])
        self._received.clear()
        self._wanted = 4
        return self.advance(message)


class Listener:
    """A bound socket that accepts connections.

    `address` defaults to a free one of `family` (default AF_UNIX). With an `authkey` (bytes) every
    peer must prove that it knows the key, and gets the listener's proof in return. The handshakes
    of several peers run side by side, so a silent peer does not delay others for long; it is
    refused after `CONNECTION_TIMEOUT` seconds.
    """

    # The most peers in the middle of their handshake, and the seconds after which, at that number,
    # the oldest stranger is dropped for a new peer.
    _MOST_PENDING = 256
    _GRACE = 0.2
    # The most peers admitted before those already admitted are served again.
    _MOST_AT_ONCE = 32
    # Seconds for which peers in a handshake are served before others are admitted. A handshake that
    # is unfinished when `accept` returns continues at its next call, and only in this process. A
    # program with several processes or threads in `accept` wants few of those.
    _grace = 0.05
    # Seconds after which a call looks for handshakes that a call in another thread left unfinished.
    _LEFT_OVERS = 1.0

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        family = family or (address and address_type(address)) or default_family
        address = address or arbitrary_address(family)
        _validate_family(family)
        if authkey is not None and not isinstance(authkey, bytes):
            raise TypeError("authkey should be a byte string")
        self._listener: SocketListener | None = SocketListener(address, family, backlog)
        self._authkey = authkey
        self._pending: list[_Handshake] = []
        self._accepting = 0
        # Reentrant: a signal handler or finalizer may close the listener in the thread that holds it.
        self._mutex = RLock()

    def accept(self) -> Connection:
        """Wait for a peer and return the connection to it.

        Raises AuthenticationError when a peer has the wrong key or takes too long, and EOFError or
        OSError when it leaves or breaks the protocol; the listener stays usable. Raises OSError
        when the listener is closed.
        """
        listener = self._listener
        if listener is None:
            raise OSError("listener is closed")
        if self._authkey is None:
            return listener.accept()
        pending: list[_Handshake] = []
        with self._mutex:
            self._accepting += 1
        try:
            return self._accept_proved(listener, pending, self._authkey)
        except ValueError:
            if self._listener is None:  # closed meanwhile
                raise OSError("listener is closed") from None
            raise
        finally:
            with self._mutex:
                self._accepting -= 1
                self._pending += pending

    def _accept_proved(
        self, listener: SocketListener, pending: list[_Handshake], authkey: bytes
    ) -> Connection:
        """Carry on the `pending` handshakes, which are this call's own, until one succeeds.

        Meanwhile begin others.
        """
        while True:
            with self._mutex:
                left, self._pending = self._pending, []
                pending += left
                ends = [self._LEFT_OVERS] if self._accepting > 1 else []
            now = time.monotonic()
            ends += [peer.deadline - now for peer in pending]
            closed_for = self._closed_for(pending, now)
            if closed_for > 0:
                ready = wait(pending, min(*ends, closed_for))
            else:
                ready = wait([listener._socket, *pending], min(ends, default=None))
            for peer in ready:
                if isinstance(peer, _Handshake) and self._proved(peer, pending, peer.receive):
                    return peer.connection
            if listener._socket in ready:
                self._admit(listener, pending, authkey)
            now = time.monotonic()
            for peer in pending:
                if peer.deadline < now and peer not in ready:
                    self._drop(peer, pending)
                    raise AuthenticationError(
                        f"the peer did not finish its handshake in {CONNECTION_TIMEOUT} s"
                    )

    def _closed_for(self, pending: list[_Handshake], now: float) -> float:
        """Return the seconds until another peer may be admitted; not positive: now."""
        if len(pending) < self._MOST_PENDING:
            return max((peer.begun for peer in pending), default=0) + self._grace - now
        return self._oldest_stranger(pending).begun + self._GRACE - now

    @staticmethod
    def _oldest_stranger(pending: list[_Handshake]) -> _Handshake:
        return min(pending, key=lambda peer: (not peer.is_stranger, peer.begun))

    def _admit(self, listener: SocketListener, pending: list[_Handshake], authkey: bytes) -> None:
        """Begin the handshakes of waiting peers."""
        for _ in range(self._MOST_AT_ONCE):
            if len(pending) >= self._MOST_PENDING:
                if self._closed_for(pending, time.monotonic()) > 0:
                    return
                self._drop(self._oldest_stranger(pending), pending)
            try:
                connection = listener.accept_now()
            except OSError as error:
                # A stranger must not keep a descriptor that another peer needs.
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not pending:
                    raise
                self._drop(self._oldest_stranger(pending), pending)
                continue
            if connection is None:
                return
            pending.append(_Handshake(connection, authkey))
            self._proved(pending[-1], pending, pending[-1].advance)

    @staticmethod
    def _drop(peer: _Handshake, pending: list[_Handshake]) -> None:
        pending.remove(peer)
        peer.connection.close()

    @classmethod
    def _proved(cls, peer: _Handshake, pending: list[_Handshake], step: Callable[[], bool]) -> bool:
        """Take one step of a handshake; a peer that succeeds or fails is no longer pending."""
        try:
            proved = step()
        except BaseException:
            cls._drop(peer, pending)
            raise
        if proved:
            pending.remove(peer)
        return proved

    def close(self) -> None:
        """Close the listener and drop the peers that `accept` has not returned yet."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with self._mutex:
                pending, self._pending = self._pending, []
            for peer in pending:
                peer.connection.close()
            listener.close()

    @property
    def address(self) -> Any:
        """The address that the listener is bound to."""
        return self._listener._address  # type: ignore[union-attr]

    @property
    def last_accepted(self) -> Any:
        """The address of the last accepted peer; None if there was none or it has no address."""
        return self._listener._last_accepted  # type: ignore[union-attr]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, exc_type: object, exc_value: object, exc_tb: object) -> None:
        self.close()


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Connection:
    """Return a connection to the listener at `address`, which may take any time to accept it.

    Raises AuthenticationError when the two keys differ.
    """
    _validate_family(family or address_type(address))
    if authkey is None:
        return SocketClient(address)
    if not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")
    connection = SocketClient(address)
    try:
        for prove in (answer_challenge, deliver_challenge):
            prove(connection, authkey)
    except BaseException:
        connection.close()
        raise
    return connection


def _drive(connection: Any, steps: authentication.Steps) -> None:
    message = None
    try:
        while True:
            reply = steps.send(message)
            if reply is None:
                message = connection.recv_bytes(authentication.LONGEST_MESSAGE)
            else:
                connection.send_bytes(reply)
                message = None
    except StopIteration:
        pass


def _check_key(authkey: object) -> None:
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)}")


def deliver_challenge(connection: Any, authkey: bytes, digest_name: str = "sha256") -> None:
    """Make the peer prove that it knows the key, and wait for it.

    Raises AuthenticationError when it does not.
    """
    _check_key(authkey)
    _drive(connection, authentication.challenge(authkey, digest_name))


def answer_challenge(connection: Any, authkey: bytes) -> None:
    """Prove to the peer that this side knows the key, and wait for it.

    Raises AuthenticationError when the peer rejects the proof.
    """
    _check_key(authkey)
    _drive(connection, authentication.answer(authkey))
