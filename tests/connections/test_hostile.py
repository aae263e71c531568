"""Strangers that connect to a listener or a manager's server are refused.

This takes little memory, and others are served meanwhile.
"""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import resource
import socket
import struct
import subprocess
import sys
import threading

import pytest

from procession import AuthenticationError, connection, get_context, managers
from procession._connections import listening

KEY = b"abracadabra"
COMMAND = pathlib.Path(__file__).resolve().parents[2] / "benches" / "hostile.py"


def frame(data):
    return struct.pack("!i", len(data)) + data


class Bomb:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (self.witness,)


@pytest.fixture
def manager():
    with managers.SyncManager(("localhost", 0), KEY, ctx=get_context("fork")) as manager:
        yield manager


def refused(peer):
    """Wait until the other side has closed."""
    peer.settimeout(60)
    try:
        while peer.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_every_attack_is_refused_while_others_are_served():
    """Run the command that prints the figures, on a small scale."""
    run = subprocess.run(
        [sys.executable, COMMAND, "--scale", "0.05", "--timeout", "0.5", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    assert not report["unpickled"] and not run.stderr
    assert len(report["outcomes"]) == 16
    for outcome in report["outcomes"]:
        assert outcome["refused"] == outcome["connections"] and outcome["served"], outcome
        assert outcome["memory"] < 8, outcome


def test_a_manager_unpickles_nothing_of_a_stranger(manager, tmp_path):
    witness = tmp_path / "witness"
    bomb = pickle.dumps(Bomb(str(witness)))
    # In place of any message of the handshake, and after it.
    answers = [b"", frame(b"{sha256}" + bytes(32)), frame(b"#WELCOME#")]
    for number in range(len(answers) + 1):
        with socket.create_connection(manager.address) as peer:
            peer.sendall(b"".join(answers[:number]) + frame(bomb))
            assert refused(peer)
    # Also after this side's proof, as long as the server's own proof is not accepted.
    with connection.SocketClient(manager.address) as peer:
        connection.answer_challenge(peer, KEY)
        peer.send_bytes(bomb)
        with pytest.raises((EOFError, ConnectionError)):
            while True:
                peer.recv_bytes()
    assert manager.list([1])[:] == [1]
    assert not witness.exists()


def test_who_has_proved_the_key_is_not_put_out_for_strangers(monkeypatch):
    monkeypatch.setattr(connection.Listener, "_MOST_PENDING", 4)
    monkeypatch.setattr(connection.Listener, "_GRACE", 0)
    monkeypatch.setattr(connection.Listener, "_grace", 0)
    with connection.Listener(family="AF_UNIX", authkey=KEY, backlog=32) as listener:
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        honest = connection.SocketClient(listener.address)
        for stranger in strangers:
            stranger.connect(listener.address)
        for stranger in strangers[:-1]:
            stranger.close()

        def prove():
            connection.answer_challenge(honest, KEY)
            connection.deliver_challenge(honest, KEY)
            honest.send("in")

        thread = threading.Thread(target=prove)
        thread.start()
        while True:
            try:
                peer = listener.accept()
                break
            except (EOFError, ConnectionError):
                pass
        assert peer.recv() == "in"
        thread.join()


def test_strangers_give_back_descriptors_that_others_need():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connection.Listener(family="AF_UNIX", authkey=KEY, backlog=64) as listener:
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(30)]
        child = get_context("fork").Process(target=serve_with_few_descriptors, args=(listener,))
        for stranger in strangers:
            stranger.connect(listener.address)
        child.start()
        with connection.Client(listener.address, authkey=KEY) as honest:
            assert honest.recv() == "served"
        child.join()
        assert child.exitcode == 0
        for stranger in strangers:
            stranger.close()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def serve_with_few_descriptors(listener):
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, 4096))
    with listener.accept() as peer:
        peer.send("served")


def test_a_slow_peer_is_refused_when_its_time_is_over(monkeypatch):
    monkeypatch.setattr(listening, "CONNECTION_TIMEOUT", 0.3)
    with (
        connection.Listener(family="AF_INET", authkey=KEY) as listener,
        socket.create_connection(listener.address) as slow,
    ):

        def drip():
            try:
                slow.sendall(struct.pack("!i", 200))
                while True:
                    slow.sendall(b"x")
                    threading.Event().wait(0.01)  # real time is the subject: a slow peer
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises((AuthenticationError, OSError)):
            listener.accept()
        thread.join()
