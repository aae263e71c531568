"""The handshake in which the two ends of a connection prove that they know the same key.

This module is the protocol alone, without input or output. `challenge` and `answer` are generators:
they yield bytes to be sent, or None where the peer's next message is to be sent into them. They
return when the peer is proved and raise `AuthenticationError` when it is not. `connection` drives
them, over blocking connections and over many at once.

A challenge is `#CHALLENGE#{digest}` and random bytes. The reply is `{digest}` and the HMAC of what
follows `#CHALLENGE#`. CPython before 3.12 sends 20 random bytes without the name of a digest, and
replies with a bare HMAC-MD5 of whatever it was sent. Both forms are accepted here, so that either
side may be older. The name of the digest is part of what is authenticated: an attacker between the
two ends cannot downgrade them to a weaker one.
"""

from __future__ import annotations

import os
from _collections_abc import Generator

from ..context import AuthenticationError

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    Steps = Generator[bytes | None, bytes | None, None]

__all__ = ["answer", "challenge"]

MESSAGE_LENGTH = 40
# Neither side sends more than this before the other is proved; a longer message is refused unread.
LONGEST_MESSAGE = 256

CHALLENGE: bytes = b"#CHALLENGE#"
WELCOME: bytes = b"#WELCOME#"
FAILURE: bytes = b"#FAILURE#"

_DIGESTS = frozenset({b"md5", b"sha256", b"sha384", b"sha3_256", b"sha3_384"})
_LEGACY_CHALLENGE_LENGTH = 20
_LEGACY_RESPONSE_LENGTH = 16


def split_digest(message: bytes) -> tuple[str, bytes]:
    """Split a message into the digest's name and the rest.

    The name is empty for CPython 3.11 and older.
    """
    if len(message) in (_LEGACY_CHALLENGE_LENGTH, _LEGACY_RESPONSE_LENGTH):
        return "", message
    name, brace, rest = message.partition(b"}")
    if not brace or name[:1] != b"{" or name[1:] not in _DIGESTS:
        raise AuthenticationError(
            f"unsupported message length, missing digest prefix, or unsupported digest: {message=}"
        )
    return name[1:].decode("ascii"), rest


def _tagged(digest: str, content: bytes) -> bytes:
    return b"{%s}%s" % (digest.encode("ascii"), content)


def _mac(key: bytes, message: bytes, digest: str) -> bytes:
    """Return the HMAC of a message. Raises ValueError where the digest is unavailable."""
    import hmac

    return hmac.new(key, message, digest).digest()


def create_response(authkey: bytes, message: bytes) -> bytes:
    """Return the reply to a challenge, in the form that its sender understands."""
    digest = split_digest(message)[0]
    if not digest:
        try:
            return _mac(authkey, message, "md5")
        except ValueError:
            # MD5 is unavailable (FIPS). The reply can only succeed if the peer is newer than its
            # challenge looks.
            digest = "sha256"
    return _tagged(digest, _mac(authkey, message, digest))


def verify_challenge(authkey: bytes, message: bytes, response: bytes) -> None:
    """Raise AuthenticationError unless `response` answers `message` with the right key."""
    from hmac import compare_digest

    name, received = split_digest(response)
    digest = name or "md5"
    try:
        right = _mac(authkey, message, digest)
    except ValueError:
        wrong = f"the digest {digest!r} of the response is not supported here"
    else:
        if compare_digest(right, received):
            return
        wrong = "digest received was wrong"
        if len(right) != len(received):
            wrong = f"expected {digest!r} of length {len(right)}, got {len(received)}"
    raise AuthenticationError(wrong)


def challenge(authkey: bytes, digest_name: str = "sha256") -> Steps:
    """Make the peer prove that it knows the key."""
    message = _tagged(digest_name, os.urandom(MESSAGE_LENGTH))
    yield CHALLENGE + message
    response = yield None
    assert response is not None
    try:
        verify_challenge(authkey, message, response)
    except AuthenticationError:
        yield FAILURE
        raise
    yield WELCOME


def answer(authkey: bytes) -> Steps:
    """Prove to the peer that this side knows the key."""
    message = yield None
    assert message is not None
    if not message.startswith(CHALLENGE):
        raise AuthenticationError(f"Protocol error, expected challenge: {message=}")
    message = message[len(CHALLENGE) :]
    if len(message) < _LEGACY_CHALLENGE_LENGTH:
        raise AuthenticationError(f"challenge too short: {len(message)} bytes")
    yield create_response(authkey, message)
    if (yield None) != WELCOME:
        raise AuthenticationError("digest sent was rejected")
