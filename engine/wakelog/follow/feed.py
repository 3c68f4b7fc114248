"""The log as a follower reads it: pages of messages for the outside, in order.

Positions are given in the order of commits, under the lock of the log: what commits later comes
later, so a follower that has read up to a position has missed nothing before it.
"""

from __future__ import annotations

from typing import NamedTuple

from wakelog.application import Application
from wakelog.core.events import MessageSent
from wakelog.log.cloud_event import CloudEvent, Topics, emitted
from wakelog.log.position import Position
from wakelog.log.records import decode, whole
from wakelog.ports.records import StoredEvent

__all__ = ["FOLLOWER", "PAGE", "Page", "newest", "read_page"]

FOLLOWER = "follower"
"""The id of the one instance of a job that follows a log."""
PAGE = 500
"""Messages that are read at a time."""


class Page(NamedTuple):
    """What a read has found."""

    events: list[CloudEvent]
    upto: int
    """The position up to which there is nothing else."""


def newest(app: Application) -> int:
    """The position of the newest event of the log; 0: there is none. Blocks."""
    return app.recorder.max_notification_id() or 0


def read_page(app: Application, after: int, topics: Topics) -> Page:
    """The messages on these topics after a position. Blocks.

    Raises `StoreUnavailableError`, and `UnreadableEventError` or `IntegrityError` for a message
    that is damaged or destroyed: a follower does not pass it over.
    """
    end = newest(app)
    if end <= after:
        return Page([], after)
    found = app.recorder.select_notifications(
        after, PAGE, topics=[MessageSent.TOPIC], inclusive_of_start=False
    )
    events: list[CloudEvent] = []
    for each in found:
        stream, version = str(each.originator_id), each.originator_version
        recorded = decode(StoredEvent(stream, version, each.topic, each.state))
        sent = recorded.event
        if isinstance(sent, MessageSent) and sent.topic in topics:
            events.append(emitted(whole(recorded), Position(each.id)))
    last = found[-1].id if found else 0
    return Page(events, last if len(found) == PAGE else max(end, last))
