"""Calls of clients as they saw them, and whether one counter explains all of their answers.

Each instance is a counter: a send adds one and answers the sum (`event_count`), a read answers the
sum. The calls are linearizable if each can be given an instant between its invocation and its
response so that, one after the other at these instants, they would have had the same answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Call", "check_counter"]


class Call(NamedTuple):
    """One call; with a key it is asked again, under the same key, until it is answered."""

    id: str
    ticket: int
    """The number of the event that it sends; 0: it only reads."""
    invoked_us: int
    answered_us: int | None
    """None: it never was."""
    total: int | None = None
    """What was answered."""
    keyed: bool = False
    errors: tuple[str, ...] = ()
    """What it met instead, try by try."""
    tries: tuple[tuple[int, int], ...] = ()
    """From when to when each of these tries lasted."""

    def line(self) -> str:
        return json.dumps(self)

    @classmethod
    def of(cls, line: str) -> Call:
        id, ticket, invoked_us, answered_us, total, keyed, errors, tries = json.loads(line)
        spans = tuple((began_us, ended_us) for began_us, ended_us in tries)
        return cls(id, ticket, invoked_us, answered_us, total, keyed, tuple(errors), spans)


def check_counter(calls: Sequence[Call], accepted: Sequence[int]) -> None:
    """Raise `AssertionError` unless the calls on one instance are linearizable.

    `accepted` are the tickets in the order of the history. That fixes the order of the sends, also
    of those that were not answered; each read belongs right after the send whose sum it answers.
    Only the instants are open: the earliest possible for each in turn leaves most to the others.
    """
    sends = {call.ticket: call for call in calls if call.ticket}
    reads: defaultdict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if not call.ticket and call.total is not None:
            reads[call.total].append(call)
    now_us = 0
    for total, ticket in enumerate([0, *accepted]):
        if ticket:
            send = sends[ticket]
            assert send.total in (None, total), f"it was number {total}: {send}"
            now_us = _placed(send, now_us)
        for read in sorted(reads.pop(total, ()), key=lambda read: read.invoked_us):
            now_us = _placed(read, now_us)
    assert not reads, f"sums that never were: {dict(reads)}"


def _placed(call: Call, now_us: int) -> int:
    """The earliest instant of `call` that is not before `now_us`."""
    at_us = max(now_us, call.invoked_us)
    assert call.answered_us is None or at_us <= call.answered_us, (
        f"answered before it can have been done, {at_us}: {call}"
    )
    return at_us
