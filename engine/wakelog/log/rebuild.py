"""How records become an instance again: from a snapshot, or from the first event on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance
from wakelog.errors import HistoryError, IntegrityError
from wakelog.ids import InstanceId
from wakelog.log.records import Recorded, decode
from wakelog.ports.records import Loaded, StoredEvent, StoredSnapshot
from wakelog.ports.store import Store

__all__ = [
    "GENESIS",
    "SNAPSHOT_FORMAT",
    "Head",
    "from_snapshot",
    "load_heads",
    "rebuilt",
    "refold",
    "replayed",
    "snapshot",
]


GENESIS = ""
"""What the first event of a stream names as the hash before it."""

SNAPSHOT_FORMAT = 3
"""Raised whenever `Instance` changes: snapshots of another format are passed over, and the instance
is folded from its first event on."""


class Head(Struct, frozen=True):
    """Where a stream stands: the folded instance, and the hash of its newest event."""

    instance: Instance
    hash: str


def refold(stream: str, loaded: Loaded, start: Head | None = None) -> Head:
    """Rebuild an instance from a snapshot, if there is one, and the events after it.

    `start` takes the snapshot's place. Without one that is usable the events must be there from
    the first one on. Raises `UnreadableEventError`, and `IntegrityError` where a version is missing
    or an event does not follow the one before it.
    """
    if start is None and loaded.snapshot is not None:
        start = from_snapshot(stream, loaded.snapshot)
    head = start or Head(Instance(InstanceId.parse(stream)), GENESIS)
    for after, _ in replayed(head, loaded.tail):
        head = after
    return head


def replayed(head: Head, tail: Sequence[StoredEvent]) -> Iterator[tuple[Head, Recorded]]:
    """Fold `tail` on `head`, one event at a time, checking that each follows the one before."""
    for stored in tail:
        instance = head.instance
        if stored.version != instance.version + 1:
            raise IntegrityError(stored.stream, stored.version, f"{instance.version} comes before")
        recorded = decode(stored)
        if recorded.prev != head.hash:
            raise IntegrityError(
                stored.stream, stored.version, "it does not name the hash of the event before it"
            )
        head = Head(evolve(instance, recorded.event, recorded.at_us), recorded.hash)
        yield head, recorded


def snapshot(head: Head) -> StoredSnapshot:
    """The snapshot record of a head."""
    state = msgspec.json.encode(_Snapshot(SNAPSHOT_FORMAT, head.hash, head.instance))
    return StoredSnapshot(head.instance.version, state)


def from_snapshot(stream: str, stored: StoredSnapshot) -> Head | None:
    """The head of a snapshot; None where it is of another format or stream, or damaged."""
    try:
        read = _SNAPSHOTS.decode(stored.state)
    except (ValueError, RecursionError):  # msgspec's own errors are of the former
        return None
    stands = (read.format, str(read.instance.id), read.instance.version)
    is_ours = stands == (SNAPSHOT_FORMAT, stream, stored.version)
    return Head(read.instance, read.hash) if is_ours else None


class _Snapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    hash: str
    instance: Instance


_SNAPSHOTS = msgspec.json.Decoder(_Snapshot)


def load_heads(store: Store, streams: Sequence[str]) -> list[Head | HistoryError]:
    """How these instances stand now, or why that cannot be known."""
    return [
        _head(store, stream, loaded)
        for stream, loaded in zip(streams, store.load_all(streams), strict=True)
    ]


def rebuilt(store: Store, stream: str, loaded: Loaded, *, upto: int | None = None) -> Head:
    """`refold`, or where the snapshot cannot be used: from the first event on, to version `upto`.

    A snapshot is a short cut and never the truth: one of another release, or a damaged one, costs
    time and nothing else. Raises what `refold` raises.
    """
    if loaded.snapshot is None:
        return refold(stream, loaded)
    start = from_snapshot(stream, loaded.snapshot)
    if start is None:
        loaded = Loaded(None, store.events(stream, upto=upto))
    return refold(stream, loaded, start)


def _head(store: Store, stream: str, loaded: Loaded) -> Head | HistoryError:
    try:
        return rebuilt(store, stream, loaded)
    except HistoryError as error:
        return error
