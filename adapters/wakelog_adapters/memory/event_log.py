"""The memory store as the eventsourcing library sees it: a log in one process."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from eventsourcing import persistence, popo
from msgspec.structs import astuple

from wakelog.ports.records import StoredEvent

__all__ = ["MemoryLog", "version_of"]


def version_of(stored: Any) -> int:
    """The version of a stored event or snapshot, as a key for bisection."""
    version: int = stored.version
    return version


class MemoryLog(popo.POPOApplicationRecorder):
    """Events in two orders: of the log, and of each stream. Guarded by one lock."""

    def __init__(self) -> None:
        super().__init__()
        self._log: list[StoredEvent] = []
        self._streams: dict[str, list[StoredEvent]] = {}

    def _between(self, stream: str, after: int, upto: int | None) -> Sequence[StoredEvent]:
        """The events of versions `after + 1` to `upto`, by bisection: others cost nothing."""
        events = self._streams.get(stream, [])
        first = bisect_right(events, after, key=version_of)
        if upto is None:
            return events[first:]
        return events[first : bisect_right(events, upto, key=version_of)]

    def _insert_events(
        self, stored_events: Sequence[persistence.StoredEvent], **kwargs: Any
    ) -> Sequence[int]:
        """Bare events of other aggregates, which share the log; jobs go through `append`."""
        with self._database_lock:
            new = {(str(s.originator_id), s.originator_version) for s in stored_events}
            if len(new) < len(stored_events) or any(self._has(*where) for where in new):
                raise persistence.IntegrityError("an event of this version has been recorded")
            first = len(self._log) + 1
            for s in stored_events:
                event = StoredEvent(str(s.originator_id), s.originator_version, s.topic, s.state)
                self._log.append(event)
                events = self._streams.setdefault(event.stream, [])
                events.insert(bisect_left(events, event.version, key=version_of), event)
            return list(range(first, len(self._log) + 1))

    def _has(self, stream: str, version: int) -> bool:
        return bool(self._between(stream, version - 1, version))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[persistence.StoredEvent]:
        with self._database_lock:
            found = self._between(str(originator_id), -1 if gt is None else gt, lte)
        ordered = reversed(found) if desc else iter(found)
        return [persistence.StoredEvent(*astuple(event)) for event in islice(ordered, limit)]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[persistence.Notification]:
        first = max(1 if start is None else start + (not inclusive_of_start), 1)
        found: list[persistence.Notification] = []
        with self._database_lock:
            last = len(self._log) if stop is None else min(stop, len(self._log))
            for position in range(first, last + 1):
                if len(found) == limit:
                    break
                event = self._log[position - 1]
                if not topics or event.topic in topics:
                    found.append(_notification(position, event))
        return found

    def max_notification_id(self) -> int | None:
        with self._database_lock:
            return len(self._log) or None


def _notification(position: int, event: StoredEvent) -> persistence.Notification:
    return persistence.Notification(
        id=position,
        originator_id=event.stream,
        originator_version=event.version,
        topic=event.topic,
        state=event.state,
    )
