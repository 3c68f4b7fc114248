"""What must hold of the pools of any store, between two calls, whatever was done and killed.

`audit_pool(store, job)` reads the streams of a pool as stored, folds what became of each item, and
raises `AssertionError` if the log, the rows and the document do not say the same. It returns that
fold, for further checks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from wakelog.core.events import DeadLettered, Executed
from wakelog.core.pool.events import (
    EventsCancelled,
    EventsDiscarded,
    EventsReceived,
    EventsRequeued,
    PrioritiesChanged,
    RunsExecuted,
    RunsLost,
    RunsReturned,
    RunsStarted,
)
from wakelog.log.batches import digest_of, root_of
from wakelog.log.records import Recorded, decode
from wakelog.pools.items import item_name, place_of
from wakelog.pools.rebuild import check_tables
from wakelog.pools.state import PoolState, Take, job_stream, loaded, partition_stream
from wakelog.pools.takes import PoolRules
from wakelog.ports.pools import ExceptionKey, ExceptionRow, PoolFilter, PoolLook, SegmentRow
from wakelog.ports.store import Store

__all__ = ["Ended", "Fate", "PoolAudit", "audit_pool"]

Ended = str
"""`completed`, `cancelled`, `discarded` or `dead`."""
PAGE = 1_000


@dataclass
class Fate:
    """What the log says became of one item."""

    started: int = 0
    completed: int = 0
    dead: int = 0
    requeued: int = 0
    cancelled: int = 0
    discarded: int = 0
    returned: int = 0
    lost: int = 0
    results: list[object] = field(default_factory=list[object])

    @property
    def is_over(self) -> bool:
        """It has left the pool for good."""
        return self.completed + self.cancelled + self.discarded > 0

    @property
    def is_dead(self) -> bool:
        """It is kept as a dead letter."""
        return self.dead > self.requeued and not self.is_over

    @property
    def end(self) -> Ended | None:
        """Its one end; None if it waits or is worked on."""
        ends = {"completed": self.completed, "cancelled": self.cancelled}
        ends |= {"discarded": self.discarded, "dead": int(self.is_dead)}
        assert sum(ends.values()) <= 1, f"it has ended more than once: {self}"
        return next((word for word, count in ends.items() if count), None)


@dataclass
class PoolAudit:
    """What was found."""

    state: PoolState
    fates: dict[ExceptionKey, Fate]
    events: dict[str, list[Recorded]]
    """By stream: the pool's own, and those of its partitions."""
    ids: dict[str, ExceptionKey]
    """Where the items with ids of their callers lie."""

    def ends(self) -> Counter[Ended | None]:
        """How many items have ended in which way."""
        return Counter(fate.end for fate in self.fates.values())

    def fate(self, event_id: str) -> Fate:
        """Of one item, by its id or its place."""
        place = place_of(event_id)
        return self.fates[self.ids[event_id] if place is None else ExceptionKey(*place)]


def audit_pool(store: Store, job: str) -> PoolAudit:
    """Check everything about a pool to which nothing is written meanwhile."""
    folded = check_tables(store, job, PoolRules(concurrency=1))
    assert not folded.differences, f"the tables are not what the log says: {folded.differences}"
    state = loaded(store.pool_look(PoolLook(job, 0)).state)
    events = {job_stream(job): _stream(store, job_stream(job))}
    for number in range(len(state.partitions)):
        stream = partition_stream(job, number)
        events[stream] = _stream(store, stream)
    _check_heads(state, job, events)
    accepts = [r for r in events[job_stream(job)] if isinstance(r.event, EventsReceived)]
    segments = _check_segments(store, job, accepts)
    fates = {key: Fate() for key in _places(segments)}
    ids = _ids(accepts, segments)
    for stream, history in events.items():
        for recorded in history:
            _follow(fates, recorded, stream)
    _check_taken(store, job, events, segments, state)
    rows = _rows(store, job)
    _check_places(store, job, state, fates, rows)
    _check_counts(state, fates, rows)
    for fate in fates.values():
        assert fate.end is not None or not fate.is_over
    return PoolAudit(state, fates, events, ids)


# -- the streams -----------------------------------------------------------------------------------


def _stream(store: Store, stream: str) -> list[Recorded]:
    """A stream whose chain, times and roots are right."""
    history = [decode(stored) for stored in store.events(stream)]
    assert [r.version for r in history] == [*range(1, len(history) + 1)], f"{stream} has a gap"
    before = ""
    for recorded in history:
        assert recorded.prev == before, f"the chain of {stream} breaks at {recorded.version}"
        before = recorded.hash
        event = recorded.event
        if isinstance(event, EventsReceived | RunsExecuted):
            lines = event.lines.split(b"\n") if event.lines else []
            assert len(lines) == event.count, f"{stream} {recorded.version}: not so many lines"
            assert root_of(map(digest_of, lines)) == event.root
    times = [r.at_us for r in history]
    assert times == sorted(times), f"the recorded time of {stream} goes back"
    return history


def _check_heads(state: PoolState, job: str, events: dict[str, list[Recorded]]) -> None:
    heads = {job_stream(job): state.head}
    heads |= {partition_stream(job, p.number): p.head for p in state.partitions}
    for stream, history in events.items():
        newest = history[-1] if history else None
        head = (0, "") if newest is None else (newest.version, newest.hash)
        assert (heads[stream].version, heads[stream].hash) == head, f"the head of {stream}"


# -- what was accepted -----------------------------------------------------------------------------


def _check_segments(
    store: Store, job: str, accepts: Sequence[Recorded]
) -> dict[int, list[SegmentRow]]:
    """The segments of each lane tile it from 1 on, and name the lines that the log has there."""
    lines: dict[int, list[bytes]] = {}
    for recorded in accepts:
        event = recorded.event
        assert isinstance(event, EventsReceived)
        left = event.lines.split(b"\n")
        for lane, first, count, *_ in event.lanes:
            mine = lines.setdefault(lane, [])
            assert first == len(mine) + 1, f"lane {lane} has a hole before {first}"
            mine += left[:count]
            left = left[count:]
        assert not left, "lines of no lane"
    segments: dict[int, list[SegmentRow]] = {}
    for lane, expected in lines.items():
        found: list[bytes] = []
        for segment, data in store.pool_slices(job, [(lane, 0, len(expected))]):
            assert segment.upto - segment.n == len(found), f"the segments of {lane} do not tile"
            segments.setdefault(lane, []).append(segment)
            found += data.split(b"\n")
        assert found == expected, f"lane {lane}: not the lines of the log"
        beyond = store.pool_slices(job, [(lane, len(expected), len(expected) + PAGE)])
        assert not beyond, f"lane {lane} has segments beyond the log"
    numbers = [n for rows in segments.values() for s in rows for n in range(s.seq, s.seq + s.n)]
    assert sorted(numbers) == [*range(1, len(numbers) + 1)], "the order of acceptance has holes"
    return segments


def _places(segments: dict[int, list[SegmentRow]]) -> Iterator[ExceptionKey]:
    for lane, rows in segments.items():
        for off in range(1, rows[-1].upto + 1):
            yield ExceptionKey(lane, off)


def _ids(
    accepts: Sequence[Recorded], segments: dict[int, list[SegmentRow]]
) -> dict[str, ExceptionKey]:
    found: dict[str, ExceptionKey] = {}
    for recorded in accepts:
        event = recorded.event
        assert isinstance(event, EventsReceived)
        places = [(lane, first + k) for lane, first, n, *_ in event.lanes for k in range(n)]
        for place, line in zip(places, event.lines.split(b"\n"), strict=True):
            fields = json.loads(line)
            if len(fields) > 3:
                assert fields[3] not in found, f"{fields[3]} was accepted twice"
                found[fields[3]] = ExceptionKey(*place)
    return found


# -- what became of it -----------------------------------------------------------------------------


def _follow(fates: dict[ExceptionKey, Fate], recorded: Recorded, stream: str) -> None:
    event = recorded.event
    match event:
        case EventsReceived() | PrioritiesChanged():
            pass
        case RunsStarted():
            for key in _started(event):
                fates[key].started += 1
        case RunsExecuted():
            for line in event.lines.split(b"\n") if event.lines else ():
                lane, off, *rest = json.loads(line)
                fates[ExceptionKey(lane, off)].completed += 1
                fates[ExceptionKey(lane, off)].results += rest[3:]
        case EventsCancelled() | EventsDiscarded() | EventsRequeued():
            for name in event.items:
                fate = fates[_key(name)]
                fate.cancelled += isinstance(event, EventsCancelled)
                fate.discarded += isinstance(event, EventsDiscarded)
                fate.requeued += isinstance(event, EventsRequeued)
        case RunsLost():
            for place in event.items:
                fates[ExceptionKey(*place)].lost += 1
        case RunsReturned():
            for place in event.items:
                fates[ExceptionKey(*place)].returned += 1
        case DeadLettered():
            assert event.item is not None
            fates[_key(event.item)].dead += 1
        case Executed():
            raise AssertionError(f"{stream}: an outcome that is not part of a batch: {event}")
        case _:
            pass


def _key(name: str) -> ExceptionKey:
    place = place_of(name)
    assert place is not None, name
    return ExceptionKey(*place)


def _started(event: RunsStarted) -> Iterator[ExceptionKey]:
    without = {tuple(each) for each in event.without}
    for lane, after, upto in event.ranges:
        for off in range(after + 1, upto + 1):
            if (lane, off) not in without:
                yield ExceptionKey(lane, off)
    for lane, off, _ in event.items:
        yield ExceptionKey(lane, off)


# -- the rows --------------------------------------------------------------------------------------


def _check_taken(
    store: Store,
    job: str,
    events: dict[str, list[Recorded]],
    segments: dict[int, list[SegmentRow]],
    state: PoolState,
) -> None:
    """The ranges of takes tile each lane from 1 on, up to where the document says."""
    ranges: dict[int, dict[int, tuple[int, int, int]]] = {}
    for number, partition in enumerate(state.partitions):
        assert partition.number == number
        for recorded in events[partition_stream(job, number)]:
            if isinstance(recorded.event, RunsStarted):
                for lane, after, upto in recorded.event.ranges:
                    mine = ranges.setdefault(lane, {})
                    assert after not in mine, f"lane {lane}: two takes after {after}"
                    mine[after] = upto, number, recorded.version
    lanes = {lane.number: lane for lane in state.lanes}
    for number, rows in segments.items():
        if number == 0:
            continue
        mine, taken = ranges.get(number, {}), 0
        while (found := mine.pop(taken, None)) is not None:
            upto, partition_number, version = found
            row = store.pool_taken(job, number, taken + 1)
            assert row is not None
            assert (row.upto, row.partition, row.version) == (upto, partition_number, version)
            taken = upto
        assert not mine, f"lane {number}: takes that do not tile: {mine}"
        assert store.pool_taken(job, number, taken + 1) is None
        if number in lanes:
            expected = (taken, rows[-1].upto)
            assert (lanes[number].taken, lanes[number].received) == expected, f"lane {number}"
        else:
            left = [ExceptionKey(number, off) for off in range(taken + 1, rows[-1].upto + 1)]
            kept = {*store.pool_look(PoolLook(job, 0, keys=left)).skips}
            assert kept.issuperset(left), f"lane {number} was forgotten at {taken}"


def _rows(store: Store, job: str) -> dict[ExceptionKey, ExceptionRow]:
    found: dict[ExceptionKey, ExceptionRow] = {}
    after = ExceptionKey(0, 0)
    while page := store.pool_exceptions(job, PoolFilter(after=after, limit=PAGE)):
        after = ExceptionKey(page[-1].lane, page[-1].off)
        found.update({ExceptionKey(row.lane, row.off): row for row in page})
    return found


def _check_places(
    store: Store,
    job: str,
    state: PoolState,
    fates: dict[ExceptionKey, Fate],
    rows: dict[ExceptionKey, ExceptionRow],
) -> None:
    """Every accepted item is in exactly one place."""
    keys = [*fates]
    skips: set[ExceptionKey] = set()
    for at in range(0, len(keys), PAGE):
        asked = keys[at : at + PAGE]
        look = PoolLook(job, 0, keys=asked)
        skips |= {ExceptionKey(*key) for key in store.pool_look(look).skips}
    takes = [each.take for each in state.partitions if each.take is not None]
    taken = Counter(key for take in takes for key in _of_take(take))
    lanes = {lane.number: lane for lane in state.lanes}
    for key, fate in fates.items():
        lane = lanes.get(key.lane)
        in_lane = lane is not None and lane.taken < key.off <= lane.received and key not in skips
        places = {
            "its lane": int(in_lane),
            "the table": int(key in rows),
            "a take": taken[key],
            "its end": int(fate.is_over),
        }
        assert sum(places.values()) == 1, f"{item_name(*key)} is in {places}: {fate}"
        assert (key in rows and rows[key].why == "dead") == fate.is_dead, f"{key}: {fate}"
    assert not rows.keys() - fates.keys(), "rows of items that were not accepted"
    for take in takes:
        assert take.count == sum(1 for _ in _of_take(take)), f"a take of {take.count}: {take}"
    slots = Counter(slot for take in takes for slot in take.slots)
    assert not [slot for slot, count in slots.items() if count > 1], "a key slot in two partitions"
    for lane in state.lanes:
        skipped = sum(key.lane == lane.number and key.off > lane.taken for key in skips)
        assert lane.skips == skipped, f"lane {lane.number}: {lane.skips} skips, {skipped} rows"


def _of_take(take: Take) -> Iterator[ExceptionKey]:
    without = {tuple(each) for each in take.without}
    for lane, after, upto, *_ in take.ranges:
        for off in range(after + 1, upto + 1):
            if (lane, off) not in without:
                yield ExceptionKey(lane, off)
    for row in take.rows:
        yield ExceptionKey(row.lane, row.off)


def _check_counts(
    state: PoolState, fates: dict[ExceptionKey, Fate], rows: dict[ExceptionKey, ExceptionRow]
) -> None:
    assert state.accepted == len(fates)
    counted = Counter(row.why for row in rows.values())
    assert {why: count for why, count in state.counts.items() if count} == dict(counted)
    assert state.processed == sum(fate.completed for fate in fates.values())
    assert state.cancelled == sum(fate.cancelled for fate in fates.values())
    assert state.discarded == sum(fate.discarded for fate in fates.values())
    counts = state.counts
    places = [state.pending, counts.get("delayed", 0), counts.get("retrying", 0), state.processing,
              state.processed, counts.get("dead", 0), state.cancelled, state.discarded]  # fmt: skip
    assert sum(places) == state.accepted, f"{places} are not {state.accepted}"
    groups = Counter((row.slot, row.priority) for row in rows.values() if row.due_us is not None)
    assert {(g.slot, g.priority): g.count for g in state.groups if g.count} == dict(groups)
    for group in state.groups:
        for row in rows.values():
            if (row.slot, row.priority) == (group.slot, group.priority) and row.due_us is not None:
                assert row.due_us >= group.floor_us, f"{row} is hidden below {group}"
                assert row.due_us >= group.next_us, f"{row} is due before {group}"
