"""How two ends of a connection prove to each other that they know the same key.

The protocol alone, without any input or output: `challenge` and `answer` are generators that yield bytes to be sent, or
None where the next message of the peer is to be sent into them; they return when the peer is proved, and raise
`AuthenticationError` when it is not. `connection` drives them, over blocking connections and over many at once.

A challenge is `#CHALLENGE#{digest}` and random bytes; the reply is `{digest}` and the HMAC of what follows `#CHALLENGE#`.
CPython before 3.12 sends 20 random bytes without a digest's name and replies with a bare HMAC-MD5, of whatever it was sent;
both are understood here, so that either side may be older. The digest's name is part of what is authenticated: nobody between
the two ends can talk them down to a weaker one.
"""

from __future__ import annotations

import os

from .context import AuthenticationError

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from collections.abc import Generator

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
    """The digest's name and what follows it; the name is empty for a message of CPython 3.11 or older."""
    if len(message) in (_LEGACY_CHALLENGE_LENGTH, _LEGACY_RESPONSE_LENGTH):
        return "", message
    if message.startswith(b"{"):
        name, brace, rest = message[1:].partition(b"}")
        if brace and name in _DIGESTS:
            return name.decode("ascii"), rest
    raise AuthenticationError(
        f"unsupported message length, missing digest prefix, or unsupported digest: {message=}"
    )


def create_response(authkey: bytes, message: bytes) -> bytes:
    """The reply to a challenge, in the form its sender understands."""
    import hmac

    digest, _ = split_digest(message)
    if not digest:
        try:
            return hmac.new(authkey, message, "md5").digest()
        except ValueError:
            # No MD5 here (FIPS): the peer's only hope is that it is newer than its challenge looks.
            digest = "sha256"
    return b"{%s}%s" % (digest.encode("ascii"), hmac.new(authkey, message, digest).digest())


def verify_challenge(authkey: bytes, message: bytes, response: bytes) -> None:
    """Raise AuthenticationError unless `response` is the reply to `message` of someone who knows the key."""
    import hmac

    digest, mac = split_digest(response)
    digest = digest or "md5"
    try:
        expected = hmac.new(authkey, message, digest).digest()
    except ValueError:
        raise AuthenticationError(
            f"the digest {digest!r} of the response is not supported here"
        ) from None
    if len(expected) != len(mac):
        raise AuthenticationError(f"expected {digest!r} of length {len(expected)}, got {len(mac)}")
    if not hmac.compare_digest(expected, mac):
        raise AuthenticationError("digest received was wrong")


def challenge(authkey: bytes, digest_name: str = "sha256") -> Steps:
    """Let the peer prove that it knows the key."""
    message = b"{%s}%s" % (digest_name.encode("ascii"), os.urandom(MESSAGE_LENGTH))
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
    """Prove to the peer that we know the key."""
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
