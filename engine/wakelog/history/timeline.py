"""The history of an instance: every event of every life, in order, with a description (H1)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wakelog.core.instance import Instance
from wakelog.core.time import as_datetime
from wakelog.errors import InstanceNotFoundError
from wakelog.history.descriptions import describe
from wakelog.ids import InstanceId
from wakelog.log.rebuild import GENESIS, Head, replayed
from wakelog.log.records import Recorded
from wakelog.ports.records import StoredEvent
from wakelog.ports.store import Store

__all__ = ["HistoryEntry", "history", "pages"]

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
    """The event's own fields; times in microseconds since 1970, payloads decoded."""
    commit: str
    cause: str | None
    correlation_id: str | None
    actor: str | None
    hash: str

    def __str__(self) -> str:
        by = f" (by {self.actor})" if self.actor else ""
        text = _printable(self.description + by)
        return f"{self.version:>4}  {self.at:%Y-%m-%d %H:%M:%S}  {text}"


def history(store: Store, id: InstanceId) -> list[HistoryEntry]:
    """Every event of every life, in order. Raises `InstanceNotFoundError` if there is none, and
    `UnreadableEventError` or `IntegrityError` if one cannot be read or is missing."""
    head = Head(Instance(id), GENESIS)
    entries: list[HistoryEntry] = []
    for page in pages(store, str(id)):
        for after, recorded in replayed(head, page):
            head = after
            entries.append(_entry(recorded, after.instance))
    if not entries:
        raise InstanceNotFoundError(str(id))
    return entries


def pages(store: Store, stream: str) -> Iterator[Sequence[StoredEvent]]:
    """The stored events of a stream, in order, up to `PAGE` of them at a time."""
    after = 0
    while page := store.events(stream, after=after, limit=PAGE):
        yield page
        after = page[-1].version


def _entry(recorded: Recorded, after: Instance) -> HistoryEntry:
    event = recorded.event
    data = event.model_dump(exclude_defaults=True)
    if event.PAYLOAD and (text := getattr(event, event.PAYLOAD)) is not None:
        data[event.PAYLOAD] = json.loads(text)
    return HistoryEntry(
        version=recorded.version,
        at=as_datetime(recorded.at_us),
        life=after.lives,
        event=type(event).__name__,
        description=describe(recorded),
        data=data,
        commit=recorded.commit,
        cause=recorded.cause,
        correlation_id=recorded.correlation,
        actor=recorded.actor,
        hash=recorded.hash,
    )


def _printable(text: str) -> str:
    """`text` with control characters escaped: a terminal would execute them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
