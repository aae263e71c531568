"""The deputy: a process that makes the calls of one process of another node.

Its connections are that process's `link`: the session, at whose end the deputy ends, and one for
each thread, which a thread here serves. Between two requests a connection is quiet. While a call
runs, what arrives is its cancellation, or the connection's end.

A deputy ends by `os._exit`: to the engine, the process that it stands for has died then. Before
that, items that their caller has not acknowledged go back to their queues, and no thread is in the
middle of taking one.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing

from .. import process, util
from .._procession import wait_until_noticed
from . import place, references, wire  # noqa: F401 - the reducers
from .calls import Thread
from .settling import settling

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds that a deputy waits for the process that it was made for.
_ADMISSION = 30

#: The connections of this process.
_open: set[Any] = set()


def main(here: place.Place, client: str, report: Any) -> None:
    """Serve the process called `client` of another node, to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client's process decides
    place.settle(here)
    place.be_courier()
    process.current_process().name = client  # so that `OwnerDied` names it
    listener = wire.listen(here.address[0], here.key)
    with report:
        report.send(listener.address)
    admitted = threading.Event()
    threading.Thread(target=_leave_unless, args=(admitted,), daemon=True).start()
    wire.serve(listener, lambda conn: _admit(conn, admitted))


def _leave_unless(admitted: threading.Event) -> None:
    if not admitted.wait(_ADMISSION):
        _leave()


def _leave() -> None:
    """End the deputy, once nothing is lost by that."""
    try:
        settling.end()
        wait_until_noticed()
        util._flush_std_streams()
    finally:
        os._exit(0)


def _admit(conn: Any, admitted: threading.Event) -> None:
    _open.add(conn)
    with closing(conn):
        try:
            if wire.recv(conn) == "session":
                admitted.set()
                wire.send(conn, "admitted")
                _wait_for_end(conn)
            else:
                Thread(conn).serve()
        except (EOFError, OSError) as error:
            util.info("a peer left before it said what it wants: %s", error)
        finally:
            _open.discard(conn)


def _wait_for_end(session: Any) -> None:
    wire.limit(session)
    try:
        wire.recv(session)
    except (EOFError, OSError) as error:
        util.debug("the client has gone: %s", error)
        if not wire.has_ended(error):
            # No other connection may wait any longer for a client that does not answer.
            settling.is_certain = False
            for conn in list(_open):
                wire.shut(conn)
    finally:
        _leave()


def _close_copies() -> None:
    # A copy in a child would hide the deputy's end from its client.
    for conn in list(_open):
        conn.close()


os.register_at_fork(after_in_child=_close_copies)
