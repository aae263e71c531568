"""Attack a listener and a manager's server with peers that do not know the key.

Each attack comes over TCP from this process, against a server in its own process. Meanwhile a
client that knows the key connects, makes a call and disconnects, again and again. Prints for each
attack the connections and bytes sent, how many connections were refused, the seconds until the
slowest refusal, the peak growth of the server's memory, and the calls of the honest client with the
slowest of them, handshake included.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import pickle
import selectors
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from procession import AuthenticationError, connection, get_context, managers
from procession._connections import listening

KEY = b"known to the honest"
LATEST = 90.0
"""Seconds after which a peer that is still connected counts as not refused."""
DRIP = 0.2
"""Seconds between the single bytes of a slow peer."""


class Bomb:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, witness: str) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (self.witness,)


def frame(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


@dataclass(frozen=True)
class Attack:
    """What each of `count` peers sends after it has connected.

    With `drips`, it then sends single bytes at intervals.
    """

    title: str
    count: int
    payload: Callable[[], bytes]
    drips: bool = False


def attacks(scale: float, witness: str) -> list[Attack]:
    def some(count: int) -> int:
        return max(int(count * scale), 4)

    return [
        Attack("garbage, 64 KB", some(2000), lambda: os.urandom(1 << 16)),
        Attack("length of 4 EB", some(2000), lambda: struct.pack("!iQ", -1, 1 << 62)),
        Attack(
            "length of 2 GB, then data",
            some(1000),
            lambda: struct.pack("!i", 0x7FFFFFFF) + bytes(1 << 16),
        ),
        Attack("a pickle that runs code", some(1000), lambda: frame(pickle.dumps(Bomb(witness)))),
        Attack("a guessed digest", some(1000), lambda: frame(b"{sha256}" + os.urandom(32))),
        Attack("half a header, then silence", some(500), lambda: b"\0\0"),
        Attack("silence", some(5000), lambda: b""),
        Attack("a byte every 0.2 s", some(500), lambda: struct.pack("!i", 200), drips=True),
    ]


@dataclass
class Outcome:
    """The figures of one attack on one server."""

    target: str
    attack: str
    connections: int
    bytes_sent: int = 0
    refused: int = 0
    slowest_refusal: float = 0.0
    memory: float = 0.0
    served: int = 0
    slowest_call: float = 0.0


def besiege(address: Any, attack: Attack, outcome: Outcome) -> None:
    """Connect all peers, then watch until each has been refused."""
    with selectors.DefaultSelector() as watched:
        for _ in range(attack.count):
            begun = time.monotonic()
            peer = socket.create_connection(address)
            peer.setblocking(False)
            try:
                outcome.bytes_sent += peer.send(attack.payload())
            except (ConnectionError, BlockingIOError):
                pass
            watched.register(peer, selectors.EVENT_READ, begun)
            collect(watched, outcome, 0)
        while watched.get_map():
            collect(watched, outcome, DRIP)
            for key in [*watched.get_map().values()]:
                if attack.drips:
                    try:
                        outcome.bytes_sent += key.fileobj.send(b"x")  # type: ignore[union-attr]
                    except OSError:
                        pass
                if time.monotonic() - key.data > LATEST:
                    watched.unregister(key.fileobj).fileobj.close()  # type: ignore[union-attr]


def collect(watched: selectors.BaseSelector, outcome: Outcome, timeout: float) -> None:
    """Record the peers that were disconnected; discard what the server sends to the others."""
    for key, _events in watched.select(timeout):
        peer: Any = key.fileobj
        try:
            if peer.recv(4096):
                continue
        except ConnectionError:
            pass
        watched.unregister(peer)
        peer.close()
        outcome.refused += 1
        outcome.slowest_refusal = max(outcome.slowest_refusal, time.monotonic() - key.data)


def call(address: Any) -> None:
    """Do what the honest client does: connect, authenticate, make one call."""
    with connection.Client(address, authkey=KEY) as conn:
        managers.dispatch(conn, None, "dummy")


def listen(report: Any, timeout: float) -> None:
    """Run the listener's process: answer one request of each peer that knows the key."""
    listening.CONNECTION_TIMEOUT = timeout
    with connection.Listener(("localhost", 0), backlog=128, authkey=KEY) as listener:
        report.send(listener.address)
        while True:
            try:
                with listener.accept() as conn:
                    conn.recv()
                    conn.send(("#RETURN", None))
            except (AuthenticationError, EOFError, OSError):
                pass


def manage(report: Any, timeout: float) -> None:
    """Run the manager's process."""
    listening.CONNECTION_TIMEOUT = timeout
    server = managers.SyncManager(("localhost", 0), KEY).get_server()
    report.send(server.address)
    server.serve_forever()


def memory(pid: int, field: str) -> float:
    """Return megabytes of memory: VmRSS is the present, VmHWM the peak since `forget_peak`."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(
        int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field)
    )


def forget_peak(pid: int) -> None:
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def measure(target: str, attack: Attack, timeout: float) -> Outcome:
    ctx = get_context("fork")
    outcome = Outcome(target, attack.title, attack.count)
    reader, writer = connection.Pipe(duplex=False)
    server = ctx.Process(
        target={"Listener": listen, "manager": manage}[target], args=(writer, timeout), daemon=True
    )
    server.start()
    try:
        address = reader.recv()
        over = threading.Event()

        def be_honest() -> None:
            while not over.is_set():
                begun = time.monotonic()
                call(address)
                outcome.slowest_call = max(outcome.slowest_call, time.monotonic() - begun)
                outcome.served += 1
                over.wait(0.01)

        call(address)
        forget_peak(server.pid)
        before = memory(server.pid, "VmRSS")
        client = threading.Thread(target=be_honest)
        client.start()
        try:
            besiege(address, attack, outcome)
        finally:
            over.set()
            client.join()
        outcome.memory = memory(server.pid, "VmHWM") - before
    finally:
        server.kill()
        server.join()
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1, help="times as many connections")
    parser.add_argument(
        "--timeout",
        type=float,
        default=listening.CONNECTION_TIMEOUT,
        help="seconds that a handshake may take (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    outcomes = []
    if not options.json:
        print(
            f"{'server':9} {'attack':29} {'peers':>6} {'sent':>8} {'refused':>7} {'slowest':>8} {'memory':>8} {'served':>7} {'slowest':>9}"
        )
    with tempfile.TemporaryDirectory() as folder:
        witness = os.path.join(folder, "unpickled")
        for target in ("Listener", "manager"):
            for attack in attacks(options.scale, witness):
                outcome = measure(target, attack, options.timeout)
                outcomes.append(outcome)
                if not options.json:
                    print(
                        f"{target:9} {attack.title:29} {outcome.connections:6,} {outcome.bytes_sent / 1e6:5.1f} MB {outcome.refused:7,}"
                        f" {outcome.slowest_refusal:6.1f} s {outcome.memory:5.1f} MB {outcome.served:7,} {outcome.slowest_call * 1000:6.0f} ms",
                        flush=True,
                    )
        unpickled = os.path.exists(witness)
    if options.json:
        print(
            json.dumps(
                {"outcomes": [asdict(outcome) for outcome in outcomes], "unpickled": unpickled}
            )
        )
    elif unpickled:
        print("a pickle of a peer without the key was loaded")
    return int(
        unpickled
        or any(outcome.refused < outcome.connections or not outcome.served for outcome in outcomes)
    )


if __name__ == "__main__":
    sys.exit(main())
