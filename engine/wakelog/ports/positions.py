"""The port to the positions of followers: how far each has read the log. They are no view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Positions"]


class Positions(Protocol):
    """By the names of followers."""

    def positions(self) -> Mapping[str, int]:
        """How far each is, as recorded."""
        ...

    def put_position(self, name: str, position: int) -> None:
        """Record how far one is. It never goes back: of two that have one name the first counts."""
        ...
