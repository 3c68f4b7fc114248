"""A message for the outside, in the envelope of CloudEvents 1.0 (I3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from wakelog.core.events import MessageSent
from wakelog.core.time import as_datetime
from wakelog.errors import Issue, UnreadableEventError, ValidationError, quoted
from wakelog.log.position import Position
from wakelog.log.records import Recorded

__all__ = ["CloudEvent", "Topics", "emitted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """A message that a handler has emitted with `ctx.emit(topic, payload)`."""

    id: str
    """As in `task:order:o-17@5`: where it is in the log; the same whenever it is delivered."""
    source: str
    """The instance, or the partition of a pool, that has emitted it, as a URI reference."""
    type: str
    """The topic."""
    time: datetime
    """When it was recorded (aware, UTC)."""
    subject: str
    """The instance, as in `task:order:o-17`; of a pool the event, as in `workerPool:mails:#3.17`.
    """
    data: Any
    """The payload, as JSON data."""
    correlation_id: str | None
    trace: str | None
    """The W3C `traceparent` of what led to it."""
    position: Position
    """In the log, right behind it."""

    def to_dict(self) -> dict[str, Any]:
        """The envelope as CloudEvents' JSON format has it; `position` is not of it."""
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": self.time.isoformat().replace("+00:00", "Z"),
            "subject": self.subject,
            "datacontenttype": "application/json",
            "data": self.data,
        }
        if self.correlation_id is not None:
            envelope["correlationid"] = self.correlation_id
        if self.trace is not None:
            envelope["traceparent"] = self.trace
        return envelope

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


class Topics:
    """Which topics are wanted: exact names, and beginnings that end with `*`; none: all."""

    def __init__(self, topics: Sequence[str]) -> None:
        """Raises `ValidationError`."""
        if isinstance(topics, str) or not all(isinstance(each, str) and each for each in topics):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = "give a list of topics, each a text, as in ['paid', 'order.*']"
            raise ValidationError(f"topics {quoted(topics)}", [Issue(loc="", msg=message, type="")])
        self._names = frozenset(each for each in topics if not each.endswith("*"))
        self._beginnings = tuple(each[:-1] for each in topics if each.endswith("*"))
        self._all = not topics

    def __contains__(self, topic: object) -> bool:
        return isinstance(topic, str) and (
            self._all or topic in self._names or topic.startswith(self._beginnings or ("\0",))
        )


def emitted(recorded: Recorded, position: Position) -> CloudEvent:
    """The envelope of a recorded message. Raises `UnreadableEventError` for another event, and for
    a payload that is no JSON."""
    event = recorded.event
    if not isinstance(event, MessageSent) or event.topic is None:
        raise _unreadable(recorded, "it is no message for the outside")
    try:
        data = json.loads(event.payload or "null")
    except (ValueError, RecursionError) as error:
        raise _unreadable(recorded, f"its payload is no JSON: {error}") from error
    stream, item = recorded.stream, event.item
    return CloudEvent(
        id=f"{stream}@{recorded.version}",
        source=quote(stream, safe=":@#"),
        type=event.topic,
        time=as_datetime(recorded.at_us),
        subject=stream if item is None else f"{stream.rpartition(':')[0]}:{item}",
        data=data,
        correlation_id=recorded.correlation,
        trace=recorded.trace,
        position=position,
    )


def _unreadable(recorded: Recorded, detail: str) -> UnreadableEventError:
    topic = recorded.event.TOPIC
    return UnreadableEventError(recorded.stream, recorded.version, topic, detail)
