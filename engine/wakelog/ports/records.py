"""The records of a log: events and snapshots as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

__all__ = ["Loaded", "StoredEvent", "StoredSnapshot"]


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


class Loaded(NamedTuple):
    """What an instance is rebuilt from: the newest snapshot, and the events after it."""

    snapshot: StoredSnapshot | None
    tail: Sequence[StoredEvent]
