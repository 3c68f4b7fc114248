"""The mapper by which the eventsourcing library reads our records."""

from __future__ import annotations

from typing import Any

import eventsourcing.persistence as library

from wakelog.log.records import decode
from wakelog.ports.records import StoredEvent

__all__ = ["LogMapper"]


class LogMapper(library.Mapper[str]):
    """Decodes our records for the eventsourcing library's notification logs and projections."""

    def __init__(self) -> None:
        super().__init__(library.JSONTranscoder())

    def to_stored_event(self, domain_event: Any) -> library.StoredEvent:
        """Raises `NotImplementedError`: the runtime appends events together with their views."""
        raise NotImplementedError("events are appended by wakelog.runtime, with their views")

    def to_domain_event(self, stored_event: library.StoredEvent) -> Any:
        """The `Recorded` event. Raises `UnreadableEventError`."""
        stream = str(stored_event.originator_id)
        version, topic = stored_event.originator_version, stored_event.topic
        return decode(StoredEvent(stream, version, topic, stored_event.state))
