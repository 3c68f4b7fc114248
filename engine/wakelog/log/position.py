"""A position in the log, opaque to callers: a store may be several one day (I3)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from wakelog.errors import Issue, ValidationError, quoted

__all__ = ["START", "Position"]

_PREFIX = "w1-"


@functools.total_ordering
@dataclass(frozen=True, slots=True)
class Position:
    """How far the log had come, or a follower of it. Compare two of one store; `str()` of it can be
    kept, and `Position.parse` reads it back. Nothing else about it is promised."""

    _at: int

    def __lt__(self, other: Position) -> bool:
        return self._at < other._at

    def __str__(self) -> str:
        return f"{_PREFIX}{self._at:x}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text of a position. Raises `ValidationError`."""
        try:
            if not text.startswith(_PREFIX):
                raise ValueError(f"must begin with {_PREFIX}")
            return cls(int(text.removeprefix(_PREFIX), 16))
        except (ValueError, AttributeError) as error:
            issue = Issue(loc="", msg=str(error), type="position")
            raise ValidationError(f"position {quoted(text)}", [issue]) from None

    @property
    def at(self) -> int:
        """For the engine."""
        return self._at


START = Position(0)
"""Before the first event."""
