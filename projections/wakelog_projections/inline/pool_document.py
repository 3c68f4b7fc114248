"""What all stores make of a pool's document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import Group, WaitingLane

__all__ = ["PoolDocument"]


class PoolDocument(Struct, frozen=True):
    """The members of a pool's document that stores look into with each call."""

    lanes: Sequence[Sequence[Any]] = ()
    groups: Sequence[Sequence[Any]] = ()

    @classmethod
    def of(cls, state: bytes | None) -> PoolDocument:
        """Those of a document; None: there is none yet. Raises `StoreUnavailableError` for one that
        is damaged."""
        try:
            return cls() if state is None else _DECODER.decode(state)
        except ValueError as error:
            raise StoreUnavailableError("damaged", f"the document of a pool: {error}") from error

    def waiting(self) -> Sequence[tuple[WaitingLane, int]]:
        """The lanes in which items wait, each with how many places are to be skipped."""
        return [(WaitingLane(*lane[:2]), lane[2]) for lane in self.lanes]

    def looked_for(self, state: bytes | None, firsts: str) -> Sequence[WaitingLane]:
        """The lanes of which the first segments are looked for: see `PoolLook.firsts`."""
        if firsts == "none":
            return ()
        fair = _FAIR.decode(state).fair if firsts == "all" and state is not None else ()
        return [WaitingLane(*lane[:2]) for lane in (*self.lanes, *fair)]

    def due(self) -> Sequence[Group]:
        """The groups in which there are items."""
        return [Group(*group[:3]) for group in self.groups]


_DECODER = msgspec.json.Decoder(PoolDocument)


class _Fair(Struct, frozen=True):
    """More lanes, which seldom matter to a store."""

    fair: Sequence[Sequence[Any]] = ()


_FAIR = msgspec.json.Decoder(_Fair)
