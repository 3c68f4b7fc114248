"""The history of an instance: every event of every life, in order, with a description (H1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.core.instance import Instance
from wakelog.core.time import as_datetime
from wakelog.errors import InstanceNotFoundError, IntegrityError, UnreadableEventError
from wakelog.history.descriptions import describe, describe_item
from wakelog.ids import InstanceId
from wakelog.log.payloads import SAID, own_fields
from wakelog.log.rebuild import GENESIS, Head, check_newest, replayed
from wakelog.log.records import Recorded, decode
from wakelog.ports.records import Newest, StoredEvent
from wakelog.ports.store import Store

__all__ = ["HistoryEntry", "checked", "history", "item_entries", "stream_entries"]

PAGE = 1_000
"""How many events are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One event of an instance's history."""

    version: int
    at: datetime
    life: int
    """The number of the life that it belongs to, from 1."""
    event: str
    """The event's name, as in `StateSet`."""
    description: str
    """What happened, in plain words."""
    data: dict[str, Any]
    """The event's own fields; times in microseconds since 1970, payloads decoded. One that was
    destroyed is not there; a message that was is "(erased)"."""
    commit: str
    cause: str | None
    correlation_id: str | None
    actor: str | None
    hash: str
    trace: str | None = None
    """The W3C `traceparent` of what led to it."""
    erased: bool = False
    """Its payload was destroyed on request."""
    delivery: str | None = None
    """Of a message to another job: `waiting`, `delivered`, or `dead` (its target has refused it,
    and it is a dead letter here)."""

    def __str__(self) -> str:
        by = f" (by {self.actor})" if self.actor else ""
        text = _printable(self.description + by)
        return f"{self.version:>4}  {self.at:%Y-%m-%d %H:%M:%S}  {text}"


def history(store: Store, id: InstanceId) -> list[HistoryEntry]:
    """Every event of every life, in order. Raises `InstanceNotFoundError` if there is none, and
    `UnreadableEventError` or `IntegrityError` if one cannot be read or is missing."""
    entries = [_entry(recorded, after.instance.lives) for after, recorded in checked(store, id)]
    if not entries:
        raise InstanceNotFoundError(str(id))
    return entries


def item_entries(recorded: Sequence[Recorded], lane: int, off: int) -> list[HistoryEntry]:
    """Events of several streams, about one item of a pool, as entries of its one life."""
    return [_entry(each, 1, lambda event: describe_item(event, lane, off)) for each in recorded]


def stream_entries(store: Store, stream: str, newest: Newest) -> list[HistoryEntry]:
    """Every event of a stream of a pool, in order; it has no instance, and one life.

    Raises `UnreadableEventError`, and `IntegrityError` if the chain is broken or, after the last
    one, if it does not end with `newest`.
    """
    entries: list[HistoryEntry] = []
    version, hash = 0, GENESIS
    for page in _pages(store, stream):
        for recorded in map(decode, page):
            if (recorded.version, recorded.prev) != (version + 1, hash):
                detail = "it does not follow the event before it"
                raise IntegrityError(stream, recorded.version, detail)
            version, hash = recorded.version, recorded.hash
            if version == newest.version and hash != newest.hash:
                raise IntegrityError(stream, version, "it does not have the hash that its pool has")
            entries.append(_entry(recorded, 1))
    if version < newest.version:
        detail = f"the log ends here, its pool says at {newest.version}"
        raise IntegrityError(stream, version + 1, detail)
    return entries


def checked(store: Store, id: InstanceId) -> Iterator[tuple[Head, Recorded]]:
    """Every event of every life with the instance after it, in order.

    Raises `UnreadableEventError`, and `IntegrityError` where the chain is broken or, after the last
    one, if the status row says that the log ends otherwise.
    """
    stream = str(id)
    [row] = store.status([stream])  # first: what is appended meanwhile only comes on top
    newest = None if row is None else Newest(row.version, row.hash)
    head = Head(Instance(id), GENESIS)
    for page in _pages(store, stream):
        for after, recorded in replayed(head, page):
            head = after
            if newest is not None and newest.version == recorded.version:
                check_newest(stream, head, newest)
            yield head, recorded
    if newest is None and head.instance.version:  # it began meanwhile, or its row is gone
        [row] = store.status([stream])
    if row is None or head.instance.version < row.version:
        check_newest(stream, head, newest)


def _pages(store: Store, stream: str) -> Iterator[Sequence[StoredEvent]]:
    """The stored events of a stream, in order, up to `PAGE` of them at a time."""
    after = 0
    while page := store.events(stream, after=after, limit=PAGE):
        yield page
        after = page[-1].version


def _entry(
    recorded: Recorded, life: int, words: Callable[[Recorded], str] = describe
) -> HistoryEntry:
    event = recorded.event
    try:
        at, description = as_datetime(recorded.at_us), words(recorded)
    except (ValueError, OverflowError) as error:  # a moment that no calendar has
        raise UnreadableEventError(
            recorded.stream, recorded.version, event.TOPIC, f"a time in it: {error}"
        ) from error
    data = own_fields(event)
    data |= {name: said for name in SAID[type(event)] if (said := getattr(event, name))}
    if event.PAYLOAD and (text := getattr(event, event.PAYLOAD)) is not None:
        try:
            data[event.PAYLOAD] = json.loads(text)
        except (ValueError, RecursionError) as error:
            detail = f"its {event.PAYLOAD} is no JSON: {error}"
            raise UnreadableEventError(
                recorded.stream, recorded.version, event.TOPIC, detail
            ) from error
    return HistoryEntry(
        version=recorded.version,
        at=at,
        life=life,
        event=type(event).__name__,
        description=description,
        data=data,
        commit=recorded.commit,
        cause=recorded.cause,
        correlation_id=recorded.correlation,
        actor=recorded.actor,
        hash=recorded.hash,
        trace=recorded.trace,
        erased=recorded.erased,
    )


def _printable(text: str) -> str:
    """`text` with control characters escaped: a terminal would execute them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
