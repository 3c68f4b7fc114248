"""Descriptions of what happens to many items of a pool at a time: for its streams, and for the
history of one item (H1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from wakelog.core.events import Event
from wakelog.core.pool import events as p
from wakelog.history.words import because, counted, length, moment, shown
from wakelog.log.batches import ERASED_LINE, read_item

__all__ = ["POOL_WORDS", "describe_for"]

MAX_NAMED = 5
"""How many items a description names."""

_GIVEN_BACK = {
    "overstay": "the run before took too long",
    "shutdown": "the worker ends",
    "behind": "an earlier event of its key is not done",
    "paused": "it was paused",
    "cancelled": "an operator wants it",
    "unread": "it waits for code that can read it",
}


# -- all items of an event -------------------------------------------------------------------------


def _name(lane: int, off: int) -> str:
    return f"#{lane}.{off}"


def _range(lane: int, first: int, last: int) -> str:
    return _name(lane, first) if first == last else f"{_name(lane, first)} to {_name(lane, last)}"


def _named(names: Iterable[str]) -> str:
    """The first few names, and how many there are beside them."""
    every = list(names)
    more = f" and {len(every) - MAX_NAMED} more" if len(every) > MAX_NAMED else ""
    return ", ".join(every[:MAX_NAMED]) + more


def _places(items: Iterable[tuple[int, int]]) -> str:
    return _named(_name(*each) for each in items)


def _received(event: p.EventsReceived) -> str:
    ranges = [_range(n, first, first + k - 1) for n, first, k, *_ in event.lanes]
    return f"accepted {counted(event.count)}: {_named(ranges)}"


def _started(event: p.RunsStarted) -> str:
    if event.trigger == "empty":
        return f"took the call of on_empty on {event.worker}"
    count = sum(upto - after for _, after, upto in event.ranges) - len(event.without)
    names = [_range(n, after + 1, upto) for n, after, upto in event.ranges]
    names += [_name(n, off) for n, off, _ in event.items]
    without = f", without {_places(event.without)}" if event.without else ""
    return f"took {counted(count + len(event.items))} on {event.worker}: {_named(names)}{without}"


def _executed(event: p.RunsExecuted) -> str:
    names = [_name(*json.loads(line)[:2]) for line in event.lines.split(b"\n") if _is_read(line)]
    runs = "1 run" if event.count == 1 else f"{event.count} runs"
    return f"{runs} ended well: {_named(names)}" if names else f"{runs} ended well"


def _is_read(line: bytes) -> bool:
    return bool(line) and not line.startswith(ERASED_LINE)


def _lost(event: p.RunsLost) -> str:
    on = f" with {event.worker}" if event.worker else ""
    return f"{counted(len(event.items))} lost{on}: {_places(event.items)}"


def _returned(event: p.RunsReturned) -> str:
    reason = _GIVEN_BACK[event.reason]
    return f"gave back {counted(len(event.items))}: {_places(event.items)} ({reason})"


def _operated(done: str) -> Callable[[Any], str]:
    return lambda x: f"{done} {_named(x.items)}{because(x.reason)}"


POOL_WORDS: dict[type[Event], Callable[[Any], str]] = {
    p.EventsReceived: _received,
    p.RunsStarted: _started,
    p.RunsExecuted: _executed,
    p.RunsLost: _lost,
    p.RunsReturned: _returned,
    p.EventsCancelled: _operated("cancelled"),
    p.EventsRequeued: _operated("requeued"),
    p.EventsDiscarded: _operated("discarded"),
    p.PrioritiesChanged: lambda x: (
        f"moved {_named(x.items)} to priority {x.priority}{because(x.reason)}"
    ),
}


# -- what an event says about one item -------------------------------------------------------------


def describe_for(event: Event, lane: int, off: int) -> str | None:
    """An event as a part of the history of one item; None if it has other words for that."""
    match event:
        case p.EventsReceived():
            return _accepted(event, lane, off)
        case p.RunsStarted():
            attempt = next((a for n, o, a in event.items if (n, o) == (lane, off)), 1)
            return f"taken by {event.worker}, attempt {attempt}"
        case p.RunsExecuted():
            return _ended(event, lane, off)
        case p.RunsLost():
            alone = "" if len(event.items) == 1 else f", with {len(event.items) - 1} others"
            return f"lost with {event.worker or 'its worker'}{alone}"
        case p.RunsReturned():
            return f"given back: {_GIVEN_BACK[event.reason]}"
        case p.EventsCancelled():
            return f"cancelled{because(event.reason)}"
        case p.EventsRequeued():
            return f"requeued: it waits again{because(event.reason)}"
        case p.EventsDiscarded():
            return f"discarded{because(event.reason)}"
        case p.PrioritiesChanged():
            return f"moved to priority {event.priority}{because(event.reason)}"
        case _:
            return None


def _accepted(event: p.EventsReceived, lane: int, off: int) -> str:
    before, priority = 0, 0
    for number, first, count, of_lane, *_ in event.lanes:
        if number == lane and first <= off < first + count:
            before, priority = before + off - first, of_lane
            break
        before += count
    text = f"accepted event {_payload(event, before)} as {_name(lane, off)}"
    due = next((each for each in event.delayed if lane == 0 and each[0] == off), None)
    if due is not None:
        priority = due[2]
        text += f", to be taken at {moment(due[1])}"
    return f"{text}, with priority {priority}" if priority else text


def _payload(event: p.EventsReceived, before: int) -> str:
    lines = event.lines.split(b"\n")
    item = read_item(lines[before]) if before < len(lines) and lines[before] else None
    return "(erased)" if item is None else shown(bytes(item.payload).decode())


def _ended(event: p.RunsExecuted, lane: int, off: int) -> str:
    opening = f"[{lane},{off},".encode()
    for line in event.lines.split(b"\n"):
        if line.startswith(opening):
            fields = json.loads(line)
            result = f" with {shown(json.dumps(fields[5]))}" if len(fields) > 5 else ""
            return f"ended well after {length(fields[3])}{result}"
    return "ended well"
