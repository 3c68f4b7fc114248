"""How many items a partition takes at a time, by how long they have taken (P6)."""

from __future__ import annotations

__all__ = ["TAKE_US", "TakeSize"]

TAKE_US = 250_000
"""How much work a take holds, by the time that items have taken so far."""
MAX_TAKE = 100
"""How many items it holds at most."""
SHARE_OF_MEAN = 0.2
"""How much the newest item changes the mean time that an item takes."""


class TakeSize:
    """Of one pool in one worker. It begins with one item."""

    def __init__(self) -> None:
        self._mean_us = float(TAKE_US)

    def note(self, item_us: int) -> None:
        """An item has taken so long."""
        self._mean_us += (item_us - self._mean_us) * SHARE_OF_MEAN

    @property
    def items(self) -> int:
        """How many to take."""
        return max(1, min(MAX_TAKE, round(TAKE_US / max(1.0, self._mean_us))))
