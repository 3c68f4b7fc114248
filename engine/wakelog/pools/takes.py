"""Plans which items a partition takes next (P4 to P6, P10, P11).

The most urgent first, then in the order of acceptance: of the lanes that the partition serves, and
of the items in the table of exceptions that are due. A take is a range of one lane, or items out of
the table; under fair sharing it is one item of each key in turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from wakelog.core.pool.events import RunsStarted
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.pools.state import (
    Group,
    Lane,
    Partition,
    PoolState,
    Take,
    TakenRange,
    detail_of,
    partition_stream,
)
from wakelog.pools.writing import Writing
from wakelog.ports.pools import ExceptionRow, PoolSeen, TakenRow, TrailRow

__all__ = ["PoolRules", "Taking"]

MAX_RECENT = 100
"""How many of the newest starts are remembered with their fair keys, for `why`."""


class PoolRules(Struct, frozen=True):
    """What the definition says about takes."""

    concurrency: int
    """How many partitions."""
    ordered: bool = False
    rate: int | None = None
    """So many starts at most in any `span_us`."""
    span_us: int = 0
    weights: Mapping[str, float] = {}
    on_empty: bool = False
    max_lost: int = 5

    @classmethod
    def of(cls, definition: WorkerPool[Any], max_lost: int) -> PoolRules:
        """Those of a definition."""
        rate, span_us = definition.rate_limit or (None, 0)
        return cls(
            concurrency=definition.concurrency,
            ordered=definition.ordered,
            rate=rate,
            span_us=span_us,
            weights=definition.fair.weights if definition.fair else {},
            on_empty="on_empty" in definition.handlers,
            max_lost=max_lost,
        )


@dataclass
class Taking:
    """The takes of one call: what one partition gets the next one does not see."""

    writing: Writing
    seen: PoolSeen
    rules: PoolRules
    worker: str
    due: list[ExceptionRow] = field(default_factory=list[ExceptionRow])
    """What can be taken of the table of exceptions, and is not taken yet: what is due; and what
    waits for code, of the items that were looked for, since this worker has it."""

    def __post_init__(self) -> None:
        now_us = self.writing.meta.now_us
        if self.state.has_starts_ahead(now_us):
            self.state.correct_starts(now_us)
            self.writing.must_write = True
        for group in self.state.groups:
            mine = [r.due_us or 0 for r in self.seen.due if _is_of(r, group)]
            next_us = min(mine, default=group.next_us)
            self.writing.must_write |= group.next_us <= now_us < next_us
            group.next_us = next_us
        self.due = [row for row in self.seen.due if (row.due_us or 0) <= now_us]
        self.due += [row for row in self.seen.exceptions if row.why == "unread"]
        self._firsts = {row.lane: row for row in self.seen.firsts}
        self._lanes = {lane.number: lane for lane in self.state.lanes}
        self._ordered = [lane for lane in self.state.lanes if lane.fair is None]
        # those shared fairly, by priority, as heaps of start tag and number: there may be
        # thousands, and a take looks at those that it takes of
        self._fair: dict[int, list[tuple[float, int]]] = {}
        for each in self.state.lanes:
            if each.fair is not None and each.waiting > 0:
                self._fair.setdefault(each.priority, []).append((each.tag, each.number))
        for tags in self._fair.values():
            heapq.heapify(tags)
        self._gone: set[tuple[int, int]] = set()
        self._skips: dict[int, list[int]] = {}
        for lane, off in self.seen.skips:
            self._skips.setdefault(lane, []).append(off)

    @property
    def state(self) -> PoolState:
        return self.writing.state

    def take(self, partition: Partition, want: int) -> Take | None:
        """Up to `want` items for a partition that has settled its last take; None if there is
        nothing for it now."""
        state = self.state
        if state.paused or partition.paused or self.seen.is_paused or partition.take is not None:
            return None
        if sum(each.take is not None for each in state.partitions) >= self.rules.concurrency:
            return None  # partitions that a smaller definition no longer has count too
        want = min(want, self._allowed_by_rate())
        if want <= 0:
            return None
        served = self._served(partition.number)
        rows = self._best_due(served, want)
        lane = self._best_lane(served)
        if rows and (lane is None or self._rank_of(rows[0]) <= self._rank(lane)):
            return self._take_rows(partition, rows)
        if lane is None:
            return self._take_empty(partition)
        if lane.fair is not None:
            return self._take_fairly(partition, lane.priority, want)
        if not self._is_seen(lane):
            return None
        after, upto, without = self._cut(lane, want)
        self._count_others(lane.priority, upto - after - len(without))
        return self._take_ranges(partition, {lane.number: (after, upto, without)})

    # -- what there is

    def _allowed_by_rate(self) -> int:
        """How many runs may start now. Those that are taken may all start now (P10)."""
        rate = self.rules.rate
        if rate is None:
            return 1_000_000
        since_us = self.writing.meta.now_us - self.rules.span_us
        started = sum(count for at_us, count in self.state.starts if at_us > since_us)
        return rate - started - self.state.processing

    def _served(self, number: int) -> frozenset[int]:
        """The slots of which it may take: none of those that another one is still working on."""
        state = self.state
        busy = {slot for each in state.partitions if each.take for slot in each.take.slots}
        mine = {s for s in self._slots() if s and state.partition_of(s) == number}
        return frozenset({0} | mine - busy)

    def _slots(self) -> set[int]:
        return {lane.slot for lane in self._ordered} | {row.slot for row in self.due}

    def _rank(self, lane: Lane) -> tuple[int, float, int]:
        """Lanes that are shared fairly go by their tags alone."""
        first = self._firsts.get(lane.number)
        place = 0 if first is None else lane.taken + 1 - (first.upto - first.n + 1)
        seq = self.state.accepted if first is None else first.seq + place
        tag = lane.tag if lane.fair is not None else self._tag_of_others(lane.priority)
        return -lane.priority, tag, seq

    def _rank_of(self, row: ExceptionRow) -> tuple[int, float, int]:
        return -row.priority, self._tag_of_others(row.priority), row.seq

    def _tag_of_others(self, priority: int) -> float:
        """Beside lanes that share fairly all others are one more key, in the order of acceptance:
        what has a partition key, was delayed or failed. Else a key could go before all others with
        those."""
        state = self.state
        return max(state.virtual, state.others_tag) if self._fair.get(priority) else 0.0

    def _count_others(self, priority: int, count: int) -> None:
        """So many of the others are taken."""
        if self._fair.get(priority):
            self.state.virtual = self._tag_of_others(priority)
            self.state.others_tag = self.state.virtual + count

    def _best_due(self, served: frozenset[int], want: int) -> list[ExceptionRow]:
        """Items of one priority. What was lost with others is taken alone, so that one that kills
        its process is found out (P6)."""
        mine = [row for row in self.due if row.slot in served]
        mine.sort(key=lambda row: (-row.priority, row.seq))
        if not mine:
            return []
        if mine[0].why == "lost":
            return mine[:1]
        same = [r for r in mine if r.priority == mine[0].priority and r.why != "lost"]
        return same[:want]

    def _best_lane(self, served: frozenset[int]) -> Lane | None:
        lanes = [lane for lane in self._ordered if lane.waiting > 0 and lane.slot in served]
        priority = max((each for each, tags in self._fair.items() if tags), default=None)
        if priority is not None:
            lanes.append(self._lanes[self._fair[priority][0][1]])
        return min(lanes, key=self._rank, default=None)

    def _is_seen(self, lane: Lane) -> bool:
        """Whether what is to be skipped next was looked for: a look has the first 1,000 of a lane,
        and another take of this call may have passed all of them."""
        return lane.skips <= 0 or any(s > lane.taken for s in self._skips.get(lane.number, ()))

    # -- taking it

    def _take_rows(self, partition: Partition, rows: list[ExceptionRow]) -> Take:
        taken = set(rows)
        self.due = [row for row in self.due if row not in taken]
        for row in rows:
            self.writing.remove(row)
        state = self.state
        self._count_others(rows[0].priority, len(rows))
        for slot in {row.slot for row in rows}:
            group = state.group_for(slot, rows[0].priority)
            upto_us = max(row.due_us or 0 for row in rows if row.slot == slot)
            self._gone |= {(row.lane, row.off) for row in rows}
            seen = (r for r in self.seen.due if _is_of(r, group))
            left = [r.due_us or 0 for r in seen if (r.lane, r.off) not in self._gone]
            left += self.writing.due_of(slot, group.priority)
            group.next_us = min(left, default=upto_us)
            group.floor_us = max(group.floor_us, min(upto_us, group.next_us))
        take = self._started(partition, Take(0, 0, rows=rows, count=len(rows)))
        stream = partition_stream(self.writing.job, partition.number)
        self.writing.trail += [TrailRow(r.lane, r.off, stream, take.version) for r in rows]
        return take

    def _take_empty(self, partition: Partition) -> Take | None:
        """The run of `on_empty`, once for each time that the pool is emptied."""
        state = self.state
        if not self.rules.on_empty or not state.has_been_emptied:
            return None
        if any(each.take is not None for each in state.partitions):
            return None
        return self._started(partition, Take(0, 0, is_empty=True, filled=state.filled))

    def _cut(self, lane: Lane, want: int) -> tuple[int, int, list[tuple[int, int]]]:
        """The next range of a lane with `want` items: after which place, up to which, and the
        places in it to be skipped."""
        skips = [off for off in self._skips.get(lane.number, ()) if off > lane.taken]
        upto, found, without = lane.taken, 0, list[tuple[int, int]]()
        end = lane.received
        if len(skips) < lane.skips:
            end = skips[-1]  # more are beyond that: the next look shows them
        if not skips:
            upto = min(end, lane.taken + want)
            return lane.taken, upto, []
        skipped = set(skips)
        while upto < end and found < want:
            upto += 1
            if upto in skipped:
                without.append((lane.number, upto))
            else:
                found += 1
        return lane.taken, upto, without

    def _take_fairly(self, partition: Partition, priority: int, want: int) -> Take | None:
        """One item of each key in turn, by start tags (P11): the key that had least comes first."""
        state, tags = self.state, self._fair[priority]
        cuts: dict[int, tuple[int, int, list[tuple[int, int]]]] = {}
        while want > 0 and tags:
            lane = self._lanes[heapq.heappop(tags)[1]]
            if not self._is_seen(lane):
                continue  # another call looks for what it is to skip
            after, upto, without = self._cut(lane, 1)
            begun = cuts.get(lane.number, (after, after, []))
            cuts[lane.number] = (begun[0], upto, [*begun[2], *without])
            lane.skips -= len(without)
            lane.taken = upto
            state.virtual = max(state.virtual, lane.tag)
            weight = self.rules.weights.get(lane.fair or "", 1.0)
            lane.tag = max(state.virtual, lane.tag) + 1.0 / weight
            state.recent.append(lane.fair or "")
            want -= 1
            if lane.waiting > 0:
                heapq.heappush(tags, (lane.tag, lane.number))
        state.recent = state.recent[-MAX_RECENT:]
        return self._take_ranges(partition, cuts) if cuts else None

    def _take_ranges(
        self, partition: Partition, cuts: Mapping[int, tuple[int, int, list[tuple[int, int]]]]
    ) -> Take | None:
        """Record the ranges as taken; None if all in them was to be skipped."""
        ranges: list[TakenRange] = []
        without: list[tuple[int, int]] = []
        for number, (after, upto, skipped) in cuts.items():
            lane = self._lanes[number]
            ranges.append(TakenRange(number, after, upto, lane.priority, lane.slot))
            without += skipped
            if lane.taken < upto:
                lane.skips -= len(skipped)
                lane.taken = upto
        count = sum(each.upto - each.after for each in ranges) - len(without)
        take = self._started(partition, Take(0, 0, ranges, without, count=count))
        for each in ranges:
            row = TakenRow(each.lane, each.upto, partition.number, take.version)
            self.writing.taken.append(row)
        if not count:
            partition.take = None
            return None
        return take

    def _started(self, partition: Partition, take: Take) -> Take:
        """Record it in the partition's stream."""
        started = RunsStarted(
            ranges=tuple(each[:3] for each in take.ranges),
            without=tuple(take.without),
            items=tuple((row.lane, row.off, detail_of(row).attempt) for row in take.rows),
            trigger="empty" if take.is_empty else "alarm",
            worker=self.worker,
        )
        stream = partition_stream(self.writing.job, partition.number)
        take.version = self.writing.append(stream, partition.head, [started])
        take.at_us = self.writing.meta.now_us
        partition.take = take
        return take


def _is_of(row: ExceptionRow, group: Group) -> bool:
    return row.slot == group.slot and row.priority == group.priority
