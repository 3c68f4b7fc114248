"""Rebuilds instances from records: from a snapshot, or from the first event on.

Nothing that is stored is believed without a look. Each event names the hash of the one before it;
the newest one is compared with the status row; a snapshot carries a digest and is compared with its
event. A snapshot or a status row that does not agree with the log is passed over for the log, if
that is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from wakelog.core.events import EventReceived, Started, StateSet
from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance
from wakelog.errors import HistoryError, IntegrityError, UnreadableEventError
from wakelog.ids import InstanceId
from wakelog.log.records import Recorded, decode, hash_of, whole
from wakelog.ports.conflicts import NO_EVENT
from wakelog.ports.records import Loaded, Newest, StoredEvent, StoredSnapshot
from wakelog.ports.store import Store

__all__ = [
    "GENESIS",
    "MAX_KEPT_HEAD",
    "SNAPSHOT_FORMAT",
    "Head",
    "check_newest",
    "from_snapshot",
    "kept_head",
    "load_heads",
    "read_kept_head",
    "rebuilt",
    "refold",
    "replayed",
    "sealed",
    "snapshot",
]

GENESIS = ""
"""The hash before the first event of a stream."""

SNAPSHOT_FORMAT = 6
"""Increased whenever `Instance` changes: a snapshot of another format is ignored, and the instance
is folded from its first event on."""


_STATES = (Started, StateSet)


class Head(Struct, frozen=True, gc=False):
    """The end of a stream: the folded instance, and the hash of its newest event."""

    instance: Instance
    hash: str


def refold(stream: str, loaded: Loaded, start: Head | None = None) -> Head:
    """Rebuild an instance from a snapshot, if there is one, and the events after it.

    `start` takes the snapshot's place. Without a usable one the events must begin with the first,
    with one they may begin with the snapshot's own.
    Raises `UnreadableEventError`, also if its state or an event that waits was destroyed, and
    `IntegrityError` if a version is missing or an event does not follow the one before it.
    """
    if start is None and loaded.snapshot is not None:
        start = from_snapshot(stream, loaded.snapshot)
    head = start or Head(Instance(InstanceId.parse(stream)), GENESIS)
    tail = loaded.tail
    if tail and 0 < tail[0].version == head.instance.version:
        if not _is_head_of(head, tail[0]):
            raise IntegrityError(stream, tail[0].version, "its snapshot has another hash")
        tail = tail[1:]
    erased: list[Recorded] = []
    for after, recorded in replayed(head, tail):
        head = after
        if recorded.erased:
            erased.append(recorded)
        elif erased and isinstance(recorded.event, _STATES):
            erased = [each for each in erased if not isinstance(each.event, _STATES)]
    for each in erased:
        if _holds(head.instance, each):
            whole(each)
    return head


def _holds(instance: Instance, recorded: Recorded) -> bool:
    """Whether what the event brought, if it is the last one of its kind, is still to be used."""
    if isinstance(recorded.event, EventReceived):
        return instance.awaits(recorded.version)
    return instance.exists and isinstance(recorded.event, _STATES)


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
        try:
            after = evolve(instance, recorded.event, recorded.decided_us)
        except Exception as error:  # events as they were decided on can be folded: these are not
            detail = f"it does not fit the events before it: {type(error).__name__}: {error}"
            raise UnreadableEventError(
                stored.stream, stored.version, stored.topic, detail
            ) from error
        head = Head(after, recorded.hash)
        yield head, recorded


def snapshot(head: Head) -> StoredSnapshot:
    """The snapshot record of a head: a JSON list of the SHA-256 of what follows, and that."""
    content = msgspec.json.encode(_Snapshot(SNAPSHOT_FORMAT, head.hash, head.instance))
    return StoredSnapshot(head.instance.version, sealed(content))


def sealed(content: bytes) -> bytes:
    """The content of a snapshot under its digest."""
    return b'["%b",%b]' % (hashlib.sha256(content).hexdigest().encode(), content)


def from_snapshot(stream: str, stored: StoredSnapshot) -> Head | None:
    """The head of a snapshot; None if that is damaged, or of another format or stream."""
    content = stored.state.partition(b",")[2][:-1]
    if stored.state != sealed(content):
        return None
    try:
        read = _SNAPSHOTS.decode(content)
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

    A snapshot only saves time: one of another release, or a damaged one, or one that is not of the
    event in the log, costs time and nothing else. Raises what `refold` raises.
    """
    if loaded.snapshot is None:
        return refold(stream, loaded)
    start = from_snapshot(stream, loaded.snapshot)
    if start is not None and loaded.tail and _is_head_of(start, loaded.tail[0]):
        return refold(stream, loaded, start)
    return refold(stream, Loaded(None, store.events(stream, upto=upto)))


MAX_KEPT_HEAD = 4_096
"""How many bytes of a head are kept in its status row: what is larger is read from the log."""
MANY = 16
"""How many values of one field of an instance make its head too large to be tried."""


def kept_head(instance: Instance, hash: str) -> str | None:
    """The head of an instance with an alarm, as its status row keeps it for the claim that comes
    next; None if it is too large."""
    state = instance.state
    if instance.unfinished + len(instance.dead) > MANY:
        return None
    if state is not None and len(state) > MAX_KEPT_HEAD:
        return None
    kept = snapshot(Head(instance, hash)).state
    return kept.decode() if len(kept) <= MAX_KEPT_HEAD else None


def read_kept_head(stream: str, kept: str, newest: StoredEvent) -> Head | None:
    """What `kept_head` has made; None if that is not to be used: it is damaged, of another format,
    or not of the newest event. Then the log tells. Raises what `hash_of` raises of that event."""
    head = from_snapshot(stream, StoredSnapshot(newest.version, kept.encode()))
    return head if head is not None and _is_head_of(head, newest) else None


def _is_head_of(head: Head, stored: StoredEvent) -> bool:
    return stored.version == head.instance.version and hash_of(stored) == head.hash


def check_newest(stream: str, head: Head, newest: Newest | None) -> None:
    """Raise `IntegrityError` if the log, folded to `head`, does not end as the status row says."""
    version, hash = NO_EVENT if newest is None else newest
    found = head.instance.version
    if found < version:
        raise IntegrityError(stream, found + 1, f"the log ends here, the status row at {version}")
    if found > version:
        row = "there is no status row" if newest is None else f"the status row ends at {version}"
        raise IntegrityError(stream, version + 1, f"the log has it, but {row}")
    if hash != head.hash:
        raise IntegrityError(stream, version, "it does not have the hash that its status row has")


def _head(store: Store, stream: str, loaded: Loaded) -> Head | HistoryError:
    newest = loaded.newest
    try:
        head = rebuilt(store, stream, loaded, upto=None if newest is None else newest.version)
        check_newest(stream, head, newest)
    except HistoryError as error:
        return error
    return head
