"""What stands for a shared object in a pickle for another node."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class Reference:
    """A shared object, as other nodes know it.

    `kind` names its proxy's class, `family` and `address` its home, and `node` that home's node.
    `local` is its pickle there. `ticket` keeps it alive, until that was redeemed. `extra` is what
    its proxy must know. `arrive` unpickles it; `references` sets it.
    """

    arrive: Any = None

    __slots__ = ("address", "extra", "family", "kind", "local", "node", "ticket")

    def __init__(
        self,
        kind: str,
        family: bytes,
        node: str,
        address: tuple[str, int],
        local: bytes,
        ticket: bytes | None,
        extra: Any,
    ) -> None:
        self.kind, self.family, self.node, self.address = kind, family, node, address
        self.local, self.ticket, self.extra = local, ticket, extra

    def reduced(self, ticket: bytes | None) -> tuple[Any, ...]:
        """Return what `__reduce__` returns, with this ticket."""
        fields = (self.kind, self.family, self.node, self.address, self.local, ticket, self.extra)
        return self.arrive, fields
