"""The tables of a pool, folded from its log alone (H5).

    fold = PoolFold(job, rules)
    for position, stored in store.pool_log(job, fold.position, 100): fold.add(position, stored)
    fold.rows(stored_rows)

Calls keep the tables in step with what they record; this is the same, said a second time: what an
event means for where each item is. Memory: what the tables hold, and the partition keys of what
waits. What no event says is not folded: see `PoolFold.rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from wakelog.core.events import (
    DeadLettered,
    ExecutionLost,
    Paused,
    Resumed,
    RetryScheduled,
    Stopped,
)
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
from wakelog.errors import IntegrityError
from wakelog.log.batches import read_item
from wakelog.log.records import Recorded, decode
from wakelog.pools.accept import DELAYED_LANE, slot_of
from wakelog.pools.book import BEHIND_US, detail_of_dead
from wakelog.pools.folded import FoldedTables, Left, OpenTake
from wakelog.pools.items import item_name, place_of
from wakelog.pools.state import (
    Detail,
    Head,
    Lane,
    Take,
    TakenRange,
    bounded,
    detail_of,
)
from wakelog.pools.takes import PoolRules
from wakelog.ports.pools import (
    ExceptionKey,
    ExceptionRow,
    IdRow,
    SegmentRow,
    TakenRow,
    TrailRow,
)
from wakelog.ports.records import StoredEvent

__all__ = ["PoolFold"]


class PoolFold(FoldedTables):
    """Everything about one pool, as of the event that was added last."""

    def __init__(self, job: str, rules: PoolRules) -> None:
        """`rules`: of the definition; of those only a rate limit matters, which no event names."""
        super().__init__(job, rules)
        self._prefix = f"{job}:"

    def add(self, position: int, stored: StoredEvent) -> None:
        """The next event in the order of the log. Raises `IntegrityError` if it does not follow the
        event before it in its stream, and `UnreadableEventError`."""
        recorded = decode(stored)
        name = stored.stream.removeprefix(self._prefix)
        head = self._state.head if name == "shared" else self._partition_head(stored, name)
        if recorded.version != head.version + 1 or recorded.prev != head.hash:
            detail = f"it does not follow version {head.version}"
            raise IntegrityError(stored.stream, stored.version, detail)
        head.version, head.hash, head.at_us = recorded.version, recorded.hash, recorded.at_us
        try:
            if name == "shared":
                self._of_pool(recorded)
            else:
                self._of_partition(int(name), recorded)
        except (LookupError, ValueError) as error:
            detail = f"it does not fit the events before it: {type(error).__name__}: {error}"
            raise IntegrityError(stored.stream, stored.version, detail) from error
        self.position, self.newest_us = position, max(self.newest_us, recorded.at_us)

    def _partition_head(self, stored: StoredEvent, name: str) -> Head:
        if not name.isdecimal():
            raise IntegrityError(stored.stream, stored.version, "a pool has no such stream")
        return self._state.partition(int(name)).head

    # -- the pool's own stream

    def _of_pool(self, recorded: Recorded) -> None:
        state, event = self._state, recorded.event
        match event:
            case EventsReceived():
                self._received(recorded, event)
            case EventsCancelled():
                for key in self._touched(recorded, event.items):
                    self._leave(key)
                    state.cancelled += 1
            case EventsDiscarded():
                for key in self._touched(recorded, event.items):
                    self._leave(key)
                    state.discarded += 1
            case EventsRequeued():
                for key in self._touched(recorded, event.items):
                    row = self._rows[key]
                    due_us = recorded.decided_us
                    self._rows[key] = row._replace(why="requeued", due_us=due_us, detail="{}")
                    state.requeued += 1
            case PrioritiesChanged():
                for key in self._touched(recorded, event.items):
                    self._move(key, event.priority, recorded.decided_us)
            case DeadLettered():
                for key in self._touched(recorded, (event.item or "",)):
                    left = Left(self._rows[key], detail_of(self._rows[key]))
                    self._put(left, "dead", None, detail_of_dead(event, recorded.decided_us))
            case Paused() | Resumed():
                target = state if event.item is None else state.partition(int(event.item))
                target.paused = isinstance(event, Paused)
                target.reason = bounded(event.reason) if target.paused else None
                if event.item is None and not target.paused:
                    state.draining = False
            case Stopped():
                state.draining, state.reason = True, bounded(event.reason)
            case _:
                pass

    def _received(self, recorded: Recorded, event: EventsReceived) -> None:
        state, at_us = self._state, recorded.decided_us
        lines = event.lines.split(b"\n")
        due = {off: (due_us, priority) for off, due_us, priority in event.delayed}
        begin = at = 0
        for number, first, count, priority, slot, fair in event.lanes:
            own = lines[begin : begin + count]
            size = sum(map(len, own)) + count - 1
            upto, seq = first + count - 1, state.accepted + 1
            row = SegmentRow(number, upto, count, recorded.version, at, size, at_us, seq)
            self._segments.setdefault(number, []).append(row)
            begin, at, state.accepted = begin + count, at + size + 1, state.accepted + count
            if number == DELAYED_LANE:
                state.delayed_upto = upto
            else:
                lane = self._lanes.setdefault(
                    number, Lane(number, priority=priority, slot=slot, fair=fair)
                )
                lane.received = upto
                state.next_lane = max(state.next_lane, number + 1)
            for off, line in enumerate(own, first):
                item, key = read_item(line), ExceptionKey(number, off)
                if item is not None and item.id is not None:
                    self._ids.append(IdRow(item.id, number, off, "", at_us, 0))
                if item is not None and item.key is not None:
                    self._keys[key] = item.key
                if number == DELAYED_LANE:
                    due_us, urgency = due[off]
                    mine = self._keys.get(key)
                    self._rows[key] = ExceptionRow(
                        number, off, "delayed", slot_of(mine), urgency, due_us, seq + off - first,
                        mine, "{}",
                    )  # fmt: skip

    def _touched(self, recorded: Recorded, names: tuple[str, ...]) -> Iterator[ExceptionKey]:
        """The items that an operator's act was about."""
        for name in names:
            place = place_of(name)
            if place is None or place[0] not in self._segments:
                detail = f"{name} was never accepted"
                raise IntegrityError(recorded.stream, recorded.version, detail)
            self._trail.append(TrailRow(*place, recorded.stream, recorded.version))
            yield ExceptionKey(*place)

    # -- the stream of a partition

    def _of_partition(self, number: int, recorded: Recorded) -> None:
        event, open_take = recorded.event, self._open.get(number)
        match event:
            case RunsStarted():
                self._started(number, recorded, event)
            case RunsExecuted() if open_take is not None:
                self._executed(open_take, event)
            case RunsLost() if open_take is not None:
                self._lost(open_take, event, recorded.decided_us)
            case RunsReturned() if open_take is not None:
                for each in event.items:
                    self._returned(open_take, ExceptionKey(*each), event.reason, recorded)
            case RetryScheduled() | DeadLettered() | ExecutionLost():
                place = place_of(event.item or "")
                if place is not None:
                    self._single(number, ExceptionKey(*place), event, recorded.decided_us)
            case Paused() if not self._state.paused:
                self._state.paused, self._state.reason = True, bounded(event.reason)
            case _:
                pass
        if open_take is not None and self._open.get(number) is open_take and not open_take.left:
            del self._open[number]

    def _started(self, number: int, recorded: Recorded, event: RunsStarted) -> None:
        take = Take(recorded.version, recorded.decided_us, without=[*event.without])
        self._open[number] = opened = OpenTake(take)
        without = {ExceptionKey(*each) for each in event.without}
        for lane_number, after, upto in event.ranges:
            lane = self._lanes[lane_number]
            found = TakenRange(lane_number, after, upto, lane.priority, lane.slot)
            take.ranges.append(found)
            self._taken.append(TakenRow(lane_number, upto, number, recorded.version))
            for off in range(after + 1, upto + 1):
                key = ExceptionKey(lane_number, off)
                if key in without:
                    lane.skips -= 1
                else:
                    opened.left[key] = found
            lane.taken = upto
            if lane.waiting <= 0:
                del self._lanes[lane_number]
        for lane_number, off, _ in event.items:
            key = ExceptionKey(lane_number, off)
            row = opened.left[key] = self._rows.pop(key)
            take.rows.append(row)
            self._trail.append(TrailRow(*key, recorded.stream, recorded.version))
        take.count = len(opened.left)
        if event.trigger == "empty":
            take.is_empty, take.filled = True, self._state.filled
        elif not take.count:
            del self._open[number]

    def _executed(self, open_take: OpenTake, event: RunsExecuted) -> None:
        state, take = self._state, open_take.take
        if take.is_empty:
            state.emptied = max(state.emptied, take.filled)
        starts: list[int] = []
        for line in event.lines.split(b"\n") if event.lines else ():
            lane, off, began_us, *_ = _LINE.decode(line)
            key = ExceptionKey(lane, off)
            if open_take.left.pop(key, None) is not None:
                self._keys.pop(key, None)
                state.processed += 1
                starts.append(take.at_us + began_us)
        self._note_starts(starts, take.at_us)

    def _lost(self, open_take: OpenTake, event: RunsLost, now_us: int) -> None:
        take = open_take.take
        alone = len(event.items) == 1 and len(open_take.left) == 1
        for each in event.items:
            place = self._left(open_take, ExceptionKey(*each))
            if place is not None:
                before = place.detail
                losses = before.losses + 1 if alone else before.losses
                first_us = before.first_us or take.at_us
                detail = Detail(before.attempt + alone, first_us, losses)
                self._put(place, "lost", now_us, detail)
        self._note_starts([now_us] * len(event.items), now_us)

    def _returned(
        self, open_take: OpenTake, key: ExceptionKey, reason: str, recorded: Recorded
    ) -> None:
        place = self._left(open_take, key)
        if place is None:
            return
        match reason:
            case "behind":
                detail = replace(place.detail, looks=place.detail.looks + 1)
                self._put(place, "behind", recorded.decided_us + BEHIND_US, detail)
            case "unread":
                before = place.detail
                detail = Detail(before.attempt, before.first_us, before.losses, reason="unread")
                self._put(place, "unread", None, detail)
                self._note_starts([recorded.decided_us], recorded.decided_us)
            case _:
                self._put(place, "returned", recorded.decided_us, place.detail)

    def _single(
        self,
        number: int,
        key: ExceptionKey,
        event: RetryScheduled | DeadLettered | ExecutionLost,
        now_us: int,
    ) -> None:
        """What became of one item alone."""
        open_take = self._open.get(number)
        place = None if open_take is None else self._left(open_take, key)
        if place is not None:
            self._note_starts(
                [now_us], now_us
            )  # at the latest: no event says when a failed run began
        else:  # it was lost, and that was its last attempt
            row = self._rows.get(key)
            place = None if row is None else Left(row, detail_of(row))
        if place is None:
            detail = f"{item_name(*key)} was not taken"
            raise IntegrityError(f"{self.job}:{number}", self._version(number), detail)
        took_us = now_us if open_take is None else open_take.take.at_us
        match event:
            case RetryScheduled():
                first_us = place.detail.first_us or took_us
                again = Detail(attempt=event.attempt, first_us=first_us)
                self._put(place, "retrying", event.due_us, again)
            case DeadLettered():
                self._put(place, "dead", None, detail_of_dead(event, took_us))
            case ExecutionLost():
                self._put(place, "returned", took_us, place.detail)

    def _version(self, number: int) -> int:
        return self._state.partition(number).head.version


_LINE = msgspec.json.Decoder(list[Any])
