"""The process that removes names when the last process of its family has ended.

    python -I -S tracker.py LISTENER ROOT

`resource_tracker` starts it and sends it the names. LISTENER is the descriptor of a listening
SOCK_SEQPACKET socket, ROOT the pid of the family's first process, or 0. The tracker imports nothing
of the package, so it starts fast. It ends when ROOT has ended (or left) and no process is
connected. The exit code is 0 if no name was left, 1 if some were, 2 if one could not be removed,
and 3 after an invalid message.
"""

from __future__ import annotations

__all__ = ["main"]

import os
import select
import signal
import socket
import struct
import sys
import warnings

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds


def _unlink_shared_memory(name: str) -> None:
    import _posixshmem

    _posixshmem.shm_unlink(name)


def _remove_folder(name: str) -> None:
    import shutil

    shutil.rmtree(name, ignore_errors=True)


_CLEANUP = {
    "shared_memory": _unlink_shared_memory,
    # The package makes these itself. One that a killed process left is not an error of the program.
    "folder": _remove_folder,
    "dummy": lambda name: None,
    "noop": lambda name: None,
}


class _Tracker:
    def __init__(self, listener: socket.socket, root: int) -> None:
        self.names: dict[str, dict[str, None]] = {rtype: {} for rtype in _CLEANUP}
        self.exitcode = 0
        self.poller = select.poll()
        self.listener = listener
        self.poller.register(listener, select.POLLIN)
        self.peers: dict[int, socket.socket] = {}
        self.root = -1
        if root:
            try:
                self.root = os.pidfd_open(root)
            except OSError:
                pass  # it has ended already
            else:
                self.poller.register(self.root, select.POLLIN)
        self.anybody_came = False

    def serve(self) -> None:
        """Handle messages until no process is left that could send one."""
        while not self.anybody_came or self.peers or self.root >= 0:
            self.take(None)
        while self.take(0):
            pass

    def take(self, timeout: int | None) -> bool:
        events = self.poller.poll(timeout)
        for descriptor, _event in events:
            if descriptor == self.listener.fileno():
                self.accept()
            elif descriptor == self.root:
                self.root_ended()
            else:
                self.receive(descriptor)
        return bool(events)

    def accept(self) -> None:
        peer, _address = self.listener.accept()
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] != os.geteuid():
            peer.close()
            return
        self.anybody_came = True
        self.peers[peer.fileno()] = peer
        self.poller.register(peer, select.POLLIN)

    def root_ended(self) -> None:
        if self.root >= 0:
            self.poller.unregister(self.root)
            os.close(self.root)
            self.root = -1

    def receive(self, descriptor: int) -> None:
        peer = self.peers[descriptor]
        try:
            message = peer.recv(1024)
        except OSError:
            message = b""
        if not message:
            self.poller.unregister(peer)
            peer.close()
            del self.peers[descriptor]
            return
        try:
            self.obey(message.decode("utf-8", "surrogateescape").rstrip("\n"))
        except Exception:
            self.exitcode = 3
            sys.excepthook(*sys.exc_info())

    def obey(self, message: str) -> None:
        command, _, rest = message.partition(":")
        name, _, rtype = rest.rpartition(":")
        if rtype not in _CLEANUP:
            raise ValueError(
                f"Cannot register {name} for automatic cleanup: unknown resource type {rtype}"
            )
        if command == "REGISTER":
            self.names[rtype][name] = None
        elif command == "UNREGISTER":
            self.names[rtype].pop(name, None)
        elif command == "LEAVE":
            self.root_ended()
        elif command != "PROBE":
            raise RuntimeError(f"unrecognized command {command!r}")

    def clean_up(self) -> None:
        """Remove what is left, with a warning."""
        for rtype, names in self.names.items():
            if not names:
                continue
            if rtype != "folder":
                self.exitcode = 1
            if rtype not in ("dummy", "folder"):
                _warn(
                    f"resource_tracker: There appear to be {len(names)} leaked {rtype} objects "
                    f"to clean up at shutdown: {set(names)}"
                )
            for name in names:
                try:
                    _CLEANUP[rtype](name)
                except Exception as error:
                    self.exitcode = 2
                    _warn(f"resource_tracker: {name!r}: {error}")


def _warn(text: str) -> None:
    try:
        warnings.warn(text, stacklevel=1)
    except Exception:  # standard error has no reader any more; the names must still be removed
        pass


def main(listener: int, root: int) -> Any:
    """Run the tracker; does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    for stream in (sys.stdin, sys.stdout):
        if stream is not None:
            stream.close()
    tracker = _Tracker(socket.socket(fileno=listener), root)
    tracker.serve()
    tracker.clean_up()
    sys.exit(tracker.exitcode)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
