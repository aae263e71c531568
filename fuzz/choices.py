"""How both targets in Python read an input."""


class Choices:
    """An input as a sequence of choices; zeros once it is used up."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def __bool__(self) -> bool:
        return bool(self._rest)

    def take(self, length: int) -> bytes:
        taken, self._rest = self._rest[:length], self._rest[length:]
        return bytes(taken)

    def below(self, end: int) -> int:
        return int.from_bytes(self.take(1), "big") % end
