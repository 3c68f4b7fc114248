"""The events of pools that are about many items at a time. This file is the log's format too.

An item is an event that was put into a pool. Its place is its lane and its number there, from 1:
`#3.17` is number 17 of lane 3. What happens to one item alone is one of the events of
`wakelog.core.events`, with `item` set. `EventsReceived` and the events of operators lie in the
stream of the pool, `workerPool:name:shared`; the others in the stream of a partition.
"""

from __future__ import annotations

from typing import Annotated, Literal

from wakelog.core.events import APART, By, Event

__all__ = [
    "Batch", "EventsCancelled", "EventsDiscarded", "EventsReceived", "EventsRequeued", "GivenBack",
    "Lines", "PrioritiesChanged", "RunsExecuted", "RunsLost", "RunsReturned", "RunsStarted",
]  # fmt: skip

Lines = Annotated[bytes, APART]
"""The record's body: a line for each item, see `wakelog.log.batches`."""

AcceptedLane = tuple[int, int, int, int, int, str | None]
Range = tuple[int, int, int]
"""A lane, and the items `after + 1` to `upto` of it."""


GivenBack = Literal["overstay", "shutdown", "behind", "paused", "cancelled", "unread"]
"""Why what was taken and had not begun was given back."""


class Batch(Event, frozen=True, kw_only=True):
    """An event with a line for each item, of which `root` is the digest."""

    count: int
    root: str
    lines: Lines = b""


class EventsReceived(Batch, frozen=True, kw_only=True):
    """Events from outside were accepted into the pool."""

    TOPIC = "wakelog.EventsReceived"

    lanes: tuple[AcceptedLane, ...]
    """In the order of the lines: lane, place of the first one, how many, priority, key slot (0:
    none), key of fair sharing."""
    delayed: tuple[tuple[int, int, int], ...] = ()
    """Those that wait first: place in lane 0, due time, priority."""


class RunsStarted(Event, frozen=True, kw_only=True):
    """A partition has taken items, and `execute` is about to be called with one after the other."""

    TOPIC = "wakelog.RunsStarted"

    ranges: tuple[Range, ...] = ()
    """Items that waited in lanes: their first attempts."""
    without: tuple[tuple[int, int], ...] = ()
    """Places in those ranges that were cancelled, or taken out of turn."""
    items: tuple[tuple[int, int, int], ...] = ()
    """Others: lane, place, attempt."""
    trigger: Literal["alarm", "empty"] = "alarm"
    """`empty`: for `on_empty`, with no item."""
    worker: str


class RunsExecuted(Batch, frozen=True, kw_only=True):
    """Runs of a take ended well. A line is a JSON array: lane, place, start after the take and
    duration in microseconds; and a salt and the result, if results are kept."""

    TOPIC = "wakelog.RunsExecuted"

    run: int
    """The version of the take's `RunsStarted`."""


class RunsLost(Event, frozen=True, kw_only=True):
    """The worker that had taken these items died, stalled, or lost its lease. Which of them it was
    working on is not known, unless it was one alone: that counts as an attempt of it."""

    TOPIC = "wakelog.RunsLost"

    run: int
    items: tuple[tuple[int, int], ...]
    worker: str = ""
    """Whose lease on the partition has ended; empty if it was given up, not lost."""


class RunsReturned(Event, frozen=True, kw_only=True):
    """Items that were taken and had not begun were given back: for others to take, or until there
    is code that can read them."""

    TOPIC = "wakelog.RunsReturned"

    run: int
    items: tuple[tuple[int, int], ...]
    reason: GivenBack


class _ByOperator(Event, frozen=True, kw_only=True):
    items: tuple[str, ...]
    reason: str | None = None
    by: By = "operator"


class EventsCancelled(_ByOperator, frozen=True, kw_only=True):
    """Waiting items were removed."""

    TOPIC = "wakelog.EventsCancelled"


class EventsRequeued(_ByOperator, frozen=True, kw_only=True):
    """Dead items wait again."""

    TOPIC = "wakelog.EventsRequeued"


class EventsDiscarded(_ByOperator, frozen=True, kw_only=True):
    """Dead items, or items that waited for code to read them, were dropped for good."""

    TOPIC = "wakelog.EventsDiscarded"


class PrioritiesChanged(_ByOperator, frozen=True, kw_only=True):
    """Waiting items were moved in their queue."""

    TOPIC = "wakelog.PrioritiesChanged"

    priority: int
