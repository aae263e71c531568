"""The interpreter's own `multiprocessing/queues.py`, run as a part of this package.

It uses this package's connections, reducers and finalizers. It is a module of its own because its
classes are pickled by its name.

Its locks stay taken when their holder dies, as in the standard library. A process that died while
it read may have left the rest of a message in the pipe, so no other may go on reading. `OwnerDied`
would not prevent that: one waiter gets it, and the next one gets the lock. Besides, a worker of
loky would report it as an error of its task, before loky has noticed the death.
"""

from __future__ import annotations

import os
from typing import Any

from .. import synchronize


def _run(file: str) -> dict[str, Any]:
    # Relative imports of the file find the public modules.
    namespace: dict[str, Any] = {"__name__": __name__, "__package__": "procession"}
    with open(file, "rb") as source:
        exec(compile(source.read(), file, "exec", dont_inherit=True), namespace)
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


_theirs = _run(os.path.join(os.path.dirname(os.__file__), "multiprocessing", "queues.py"))
globals().update(_theirs)


class _Context:
    """A context whose locks do not notice the death of their holder."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def Lock(self) -> Any:
        made = self._ctx.Lock()
        if isinstance(made, synchronize.Lock):
            return self._ctx.BoundedSemaphore(1)  # its permits are lost with the holder
        return made  # loky's contexts have locks of their own


class Queue(_theirs["Queue"]):  # type: ignore[misc, valid-type]
    def __init__(self, maxsize: int = 0, *, ctx: Any) -> None:
        super().__init__(maxsize, ctx=_Context(ctx))


class SimpleQueue(_theirs["SimpleQueue"]):  # type: ignore[misc, valid-type]
    def __init__(self, *, ctx: Any) -> None:
        super().__init__(ctx=_Context(ctx))
