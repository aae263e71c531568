"""The agent: the root of the family on a node that is not the driver's."""

from __future__ import annotations

import os
import pickle
import signal
import threading

from .. import context, forkserver, process, spawn, util
from .._procession import members
from . import home, shipping

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: Seconds that an agent waits for its driver's connection.
_ADMISSION = 60


class Agent:
    """A node's agent, made in the process that is to be one; for Ray, an actor's class."""

    def serve(self, node: str, host: str, key: bytes, packed: bytes) -> tuple[str, int]:
        """Begin to serve the node, and return the address of its home's server.

        `packed` is the pickle of the driver's settings, as `shipping.pack` returns them. The agent
        ends when the driver's connection does, or if none has come within a minute.
        """
        settings = pickle.loads(packed)
        process.current_process().authkey = settings["authkey"]
        spawn.adopt(shipping.unpack(settings))
        self._home = home.Home(node, host, key, on_end=end_now)
        context._context_called("ray")  # the fork server loads what is loaded here
        forkserver.ensure_running()  # so that the first process starts as soon as others
        followed = self._home.followed
        threading.Thread(target=_leave_unless, args=(followed,), daemon=True).start()
        util.info("serving node %s at %s", node, self._home.place.address)
        return self._home.place.address


def _leave_unless(followed: threading.Event) -> None:
    if not followed.wait(_ADMISSION):
        end_now()


def end_now() -> None:
    """End this process at once; all processes of its family end with it.

    By a signal, because an exit would wait for threads that are not Python's.
    """
    for member in members():
        if member["pid"] != os.getpid():
            try:
                os.kill(member["pid"], signal.SIGKILL)  # one that is stopped could not end itself
            except ProcessLookupError:
                pass  # it has ended
    shipping.remove()
    os.kill(os.getpid(), signal.SIGKILL)
