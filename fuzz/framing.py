"""Bytes of an unknown peer against connections and the authentication handshake.

`play` takes any bytes and lets a peer do what they say. It raises AssertionError if that peer
achieved what it must not, and lets no exception pass except those that are documented.
`tests/connections/test_framing_seeds.py` plays the inputs of `seeds/framing` and others like them. Run as a
program, with atheris installed, this file looks for new ones:
`python fuzz/framing.py CORPUS... [libFuzzer's options]`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys

from choices import Choices

if __name__ == "__main__":
    try:
        import atheris
    except ImportError:
        sys.exit("the target `framing` needs atheris: pip install atheris")
    watched = atheris.instrument_imports(
        include=[
            "procession._connections.framing",
            "procession._connections.listening",
            "procession._connections.authentication",
        ]
    )
else:
    watched = contextlib.nullcontext()

with watched:
    from procession import AuthenticationError, BufferTooShort
    from procession._connections import authentication, listening
    from procession._connections.framing import Connection, wait

KEY = b"the key of the server"
OTHER = b"a key of another server"
REFUSALS = (AuthenticationError, EOFError, OSError)


def play(data: bytes) -> None:
    """Let a peer do what `data` says."""
    choices = Choices(data)
    (read, prove_to_listener, prove_to_each_other, parse)[choices.below(4)](choices)


def read(choices: Choices) -> None:
    """Check that a stream of any bytes is read as messages, or refused."""
    ours, theirs = pair()
    how, limit = choices.below(4), struct.unpack("!H", choices.take(2).rjust(2, b"\0"))[0]
    theirs.sendall(choices.take(4096))
    theirs.close()
    received = 0
    with ours:
        try:
            while ours.poll():
                if how == 0:
                    received += len(ours.recv_bytes())
                elif how == 1:
                    message = ours.recv_bytes(limit)
                    assert len(message) <= limit
                    received += len(message)
                else:
                    received += ours.recv_bytes_into(bytearray(limit), min(how - 2, limit))
        except BufferTooShort as error:
            assert len(error.args[0]) + min(how - 2, limit) > limit
        except (EOFError, OSError):
            pass
    assert received <= 4096, "more than was sent"


def prove_to_listener(choices: Choices) -> None:
    """Check that a listener's half of the handshake lets in no peer that does not know the key."""
    ours, theirs = pair()
    knows = False
    with ours, theirs:
        handshake = listening._Handshake(ours, KEY)
        try:
            proved = handshake.advance()
            while choices and not proved:
                last = theirs.recv(4096, socket.MSG_DONTWAIT) if wait([theirs], 0) else b""
                message, honest = speak(choices, last[4:])
                knows |= honest
                # A few bytes at a time, or not framed as a message at all.
                stream = (
                    message if choices.below(8) == 0 else struct.pack("!i", len(message)) + message
                )
                piece = 1 + choices.below(80)
                for at in range(0, len(stream), piece):
                    theirs.sendall(stream[at : at + piece])
                    while not proved and wait([handshake], 0):
                        proved = handshake.receive()
                    if proved:
                        break
        except REFUSALS:
            return
    assert knows or not proved, "let in without a proof"


def prove_to_each_other(choices: Choices) -> None:
    """Check both halves of the protocol against a peer that may know the key.

    Neither half takes a peer for proved that does not know the key; both take one that does.
    """
    first = authentication.challenge, (KEY, ("md5", "sha256", "sha3_384")[choices.below(3)])
    second = authentication.answer, (KEY,)
    for half, arguments in [first, second] if choices.below(2) else [second, first]:
        knows, said, message = False, b"", None
        steps = half(*arguments)
        try:
            while True:
                reply = steps.send(message)
                if reply is not None:
                    said, message = reply, None
                    continue
                message, honest = speak(choices, said)
                knows |= honest
                if len(message) > authentication.LONGEST_MESSAGE:
                    return  # refused unread
        except StopIteration:
            # The answering side learns from the peer's word that the peer was content: that alone
            # proves nothing.
            assert knows or half is authentication.answer, "proved without the key"
        except AuthenticationError:
            return


def speak(choices: Choices, heard: bytes) -> tuple[bytes, bool]:
    """Return a message of the peer, and whether it could not be made without the key."""
    what = choices.below(10)
    if what == 0:
        return choices.take(choices.below(256)), False
    if what == 1:
        return heard, False
    if what in (2, 3, 4, 5):
        key = OTHER if what == 5 else KEY
        challenge = heard.removeprefix(authentication.CHALLENGE)
        try:
            message = authentication.create_response(key, challenge)
        except AuthenticationError:
            return heard, False
        return (message, True) if what < 4 else changed(choices, message, key is KEY)
    if what == 6:
        return authentication.WELCOME, False
    if what == 7:
        return changed(choices, authentication.WELCOME, False)
    named = (b"{sha256}", b"{md5}", b"{sha3_384}", b"{sha1}", b"")[choices.below(5)]
    return authentication.CHALLENGE + named + choices.take(choices.below(64)), False


def changed(choices: Choices, message: bytes, honest: bool) -> tuple[bytes, bool]:
    """Return the message with one byte changed, or with its end missing."""
    at = choices.below(256) % (len(message) + 1)
    difference = choices.below(256)
    if at == len(message) or not difference:
        return message[:at], honest and at == len(message)
    return message[:at] + bytes([message[at] ^ difference]) + message[at + 1 :], False


def parse(choices: Choices) -> None:
    """Call the functions that parse messages, with any bytes."""
    message = choices.take(choices.below(256))
    response = choices.take(choices.below(256))
    try:
        digest, rest = authentication.split_digest(message)
        assert len(rest) <= len(message) and digest in (
            "",
            "md5",
            "sha256",
            "sha384",
            "sha3_256",
            "sha3_384",
        )
        made = authentication.create_response(KEY, message)
    except AuthenticationError:
        return
    authentication.verify_challenge(KEY, message, made)
    assert len(made) <= authentication.LONGEST_MESSAGE
    if response != made:
        try:
            authentication.verify_challenge(KEY, message, response)
        except AuthenticationError:
            return
        raise AssertionError("a wrong response was accepted")


def pair() -> tuple[Connection, socket.socket]:
    one, other = socket.socketpair()
    return Connection(one.detach()), other


if __name__ == "__main__":
    atheris.Setup(sys.argv, play)
    atheris.Fuzz()
