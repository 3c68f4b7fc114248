"""Rebuilds instances from records: from a snapshot, or from the first event on."""

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
"""The hash before the first event of a stream."""

SNAPSHOT_FORMAT = 4
"""Increased whenever `Instance` changes: a snapshot of another format is ignored, and the instance
is folded from its first event on."""


class Head(Struct, frozen=True):
    """The end of a stream: the folded instance, and the hash of its newest event."""

    instance: Instance
    hash: str


def refold(stream: str, loaded: Loaded, start: Head | None = None) -> Head:
    """Rebuild an instance from a snapshot, if there is one, and the events after it.

    `start` takes the snapshot's place. Without a usable one the events must begin with the first.
    Raises `UnreadableEventError`, and `IntegrityError` if a version is missing or an event does not
    follow the one before it.
    """
    if start is None and loaded.snapshot is not None:
        start = from_snapshot(stream, loaded.snapshot)
    head = start or Head(Instance(InstanceId.parse(stream)), GENESIS)
    for after, _ in replayed(head, loaded.tail):
        head = after
    return head


def replayed(head: Head, tail: Sequence[StoredEvent]) -> Iterator[tuple[Head, Recorded]]:
    """Fold `tail` on `head`, one event at a time. Raises what `refold` raises."""
    for stored in tail:
        instance = head.instance
        if stored.version != instance.version + 1:
            raise IntegrityError(
                stored.stream, stored.version, f"it follows version {instance.version}"
            )
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
    """The head of a snapshot; None if that is damaged, or of another format or stream."""
    try:
        read = _SNAPSHOTS.decode(stored.state)
    except (ValueError, RecursionError):  # msgspec's errors are `ValueError`s
        return None
    found = (read.format, str(read.instance.id), read.instance.version)
    is_usable = found == (SNAPSHOT_FORMAT, stream, stored.version)
    return Head(read.instance, read.hash) if is_usable else None


class _Snapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    hash: str
    instance: Instance


_SNAPSHOTS = msgspec.json.Decoder(_Snapshot)


def load_heads(store: Store, streams: Sequence[str]) -> list[Head | HistoryError]:
    """The heads of these streams as recorded now, or the errors that prevent reading them."""
    return [
        _head(store, stream, loaded)
        for stream, loaded in zip(streams, store.load_all(streams), strict=True)
    ]


def rebuilt(store: Store, stream: str, loaded: Loaded, *, upto: int | None = None) -> Head:
    """`refold`; if the snapshot is not usable, from the first event on, up to version `upto`.

    A snapshot only saves time: one of another release, or a damaged one, costs time and nothing
    else. Raises what `refold` raises.
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
