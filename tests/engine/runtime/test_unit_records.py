"""How often a unit brings a snapshot of its instance."""

from __future__ import annotations

import itertools
import random

from wakelog.core.events import Event, EventHandled, EventReceived, Started
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance
from wakelog.ids import InstanceId
from wakelog.log.rebuild import GENESIS, Head
from wakelog.runtime.unit_records import SNAPSHOT_SHARE, UnitRecords

T0 = 1_767_225_600_000_000
STREAM = "task:job:a"
EVERY = 10
MANY = 10 * SNAPSHOT_SHARE * EVERY

START = Head(
    fold(Instance(InstanceId.parse(STREAM)), [Started(kind="task", name="job", id="a")], T0),
    GENESIS,
)


def snapshots(records: UnitRecords, head: Head, events: list[Event]) -> tuple[Head, list[int]]:
    """The head after these events, each a unit of its own; at which versions a snapshot is made."""
    made: list[int] = []
    for event in events:
        after = fold(head.instance, [event], T0)
        unit = records.unit(STREAM, head, [event], after, T0)
        if unit.snapshot is not None:
            made.append(unit.snapshot.version)
        head = Head(after, unit.hash)
    return head, made


def test_the_more_an_instance_holds_the_rarer_are_its_snapshots() -> None:
    # when many events are accepted one by one, and then handled one by one
    records = UnitRecords(random.Random(7), EVERY)
    accepted: list[Event] = [EventReceived(payload="1", deferred=True)] * MANY
    full, filling = snapshots(records, START, accepted)
    waiting = [each.version for each in full.instance.deferred]
    handled: list[Event] = [EventHandled(event_version=version) for version in waiting]
    empty, draining = snapshots(records, full, handled)
    # then no event pays for more than its share of what waits
    assert len(waiting) == MANY
    assert not empty.instance.deferred
    held = [min(version, 2 * MANY + 1 - version) for version in filling + draining]
    assert sum(held) <= 2 * MANY * SNAPSHOT_SHARE
    # and a load reads no more events after a snapshot than a part of those that wait
    at = [1, *filling, *draining]
    assert max(b - a for a, b in itertools.pairwise(at)) <= 2 * MANY // SNAPSHOT_SHARE


def test_an_instance_that_holds_little_has_one_as_often_as_was_set() -> None:
    records = UnitRecords(random.Random(7), EVERY)
    several: list[Event] = [EventReceived(payload="1")] * (3 * EVERY)
    assert snapshots(records, START, several)[1] == [EVERY, 2 * EVERY, 3 * EVERY]
