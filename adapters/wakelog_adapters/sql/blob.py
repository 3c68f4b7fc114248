"""One blob for the long and binary values of an append: a parameter instead of one for each."""

from __future__ import annotations

__all__ = ["Blob"]


class Blob:
    """Values one after the other; each is found again by its position and its length."""

    def __init__(self) -> None:
        self._values: list[bytes] = []
        self.size = 0
        """Bytes of all values."""

    def put(self, value: bytes) -> tuple[int, int]:
        """Add a value; return its position, counted from 1 as SQL does, and its length."""
        at, length = self.size + 1, len(value)
        self._values.append(value)
        self.size += length
        return at, length

    def joined(self) -> bytes:
        """All values."""
        return b"".join(self._values)
