"""The records of a log: events and snapshots as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

__all__ = ["Loaded", "Newest", "StoredEvent", "StoredSnapshot"]


class StoredEvent(Struct, frozen=True):
    """An event as stored: `state` is the record that `wakelog.log` writes and reads."""

    stream: str
    version: int
    topic: str
    state: bytes


class StoredSnapshot(Struct, frozen=True):
    """A folded instance at one version, as bytes that `wakelog.log` writes and reads."""

    version: int
    state: bytes


class Newest(NamedTuple):
    """The newest event of a stream, as its status row has it."""

    version: int
    hash: str


class Loaded(NamedTuple):
    """What an instance is rebuilt from: the newest snapshot, its event and those after it."""

    snapshot: StoredSnapshot | None
    tail: Sequence[StoredEvent]
    newest: Newest | None = None
    """As of the same moment; None if there is no status row, or if the tail is a part only."""
