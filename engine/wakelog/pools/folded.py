"""What the log of a pool is folded to, and how it becomes the tables of a store."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from wakelog.errors import StoreUnavailableError
from wakelog.pools.state import (
    Detail,
    Group,
    Lane,
    PoolState,
    Take,
    TakenRange,
    detail_of,
    dumped,
    loaded,
)
from wakelog.pools.takes import PoolRules
from wakelog.ports.pools import (
    ExceptionKey,
    ExceptionRow,
    IdRow,
    PoolRows,
    SegmentRow,
    TakenRow,
    TrailRow,
)

__all__ = ["FoldedTables", "Left", "OpenTake"]


class OpenTake(Struct):
    """What a partition has taken, and what of it is not settled."""

    take: Take
    left: dict[ExceptionKey, TakenRange | ExceptionRow] = field(
        default_factory=dict[ExceptionKey, TakenRange | ExceptionRow]
    )


class Left(NamedTuple):
    """An item that a take has, as it leaves it."""

    row: ExceptionRow
    detail: Detail


class FoldedTables:
    """The tables of one pool, as of the event that was added last."""

    def __init__(self, job: str, rules: PoolRules) -> None:
        self.job = job
        self.position = 0
        """In the log, of the newest event of the pool."""
        self.newest_us = 0
        """The newest recorded time of any of its streams."""
        self._rules = rules
        self._state = PoolState(concurrency=rules.concurrency)
        self._lanes: dict[int, Lane] = {}
        self._open: dict[int, OpenTake] = {}
        self._segments: dict[int, list[SegmentRow]] = {}
        self._keys: dict[ExceptionKey, str] = {}
        """The partition keys of items that are not over."""
        self._rows: dict[ExceptionKey, ExceptionRow] = {}
        self._taken: list[TakenRow] = []
        self._ids: list[IdRow] = []
        self._skips: list[ExceptionKey] = []
        self._trail: list[TrailRow] = []

    # -- items

    def _leave(self, key: ExceptionKey) -> None:
        """An item that waited or was dead is over."""
        if self._rows.pop(key, None) is None:
            self._skip(key)
        self._keys.pop(key, None)

    def _skip(self, key: ExceptionKey) -> None:
        self._skips.append(key)
        lane = self._lanes[key.lane]
        lane.skips += 1
        if lane.waiting <= 0:
            del self._lanes[key.lane]

    def _move(self, key: ExceptionKey, priority: int, now_us: int) -> None:
        row = self._rows.get(key)
        if row is None:
            lane = self._lanes[key.lane]
            self._skip(key)
            row = ExceptionRow(
                *key, "moved", lane.slot, priority, now_us, self._seq(key), self._keys.get(key),
                "{}",
            )  # fmt: skip
        self._rows[key] = row._replace(priority=priority)

    def _seq(self, key: ExceptionKey) -> int:
        segments = self._segments[key.lane]
        segment = segments[bisect_left(segments, key.off, key=lambda each: each.upto)]
        return segment.seq + key.off - (segment.upto - segment.n + 1)

    def _left(self, open_take: OpenTake, key: ExceptionKey) -> Left | None:
        """An item that its take has no longer."""
        found = open_take.left.pop(key, None)
        if found is None:
            return None
        if isinstance(found, ExceptionRow):
            return Left(found, detail_of(found))
        key_of = self._keys.get(key)
        row = ExceptionRow(*key, "", found.slot, found.priority, None, self._seq(key), key_of, "{}")
        return Left(row, Detail())

    def _put(self, place: Left, why: str, due_us: int | None, detail: Detail) -> None:
        row = place.row
        self._rows[ExceptionKey(row.lane, row.off)] = row._replace(
            why=why, due_us=due_us, detail=detail.dumped()
        )

    def _note_starts(self, starts: list[int], now_us: int) -> None:
        if self._rules.rate is not None and starts:
            self._state.note_starts(starts, max(now_us, *starts), self._rules.span_us)

    # -- what there is

    def rows(self, stored: PoolRows | None) -> PoolRows:
        """All tables.

        What no event says comes from what is stored, if that can be read: what ids were asked with
        and answered, why items wait for code, the shares of fair sharing, the counter of lease
        tokens, how often a take was taken over, and what operators want of it. Otherwise a
        repetition of an id is answered without a comparison, nothing is said about what waits for
        code, all fair keys begin anew with equal shares, and tokens go on at a number that none has
        reached.
        """
        state = self._state
        for partition in state.partitions:
            opened = self._open.get(partition.number)
            partition.take = None if opened is None else self._open_take(opened)
        state.lanes = [*self._lanes.values()]
        state.counts, state.groups = {}, []
        for row in self._rows.values():
            state.count(row.why, 1)
        state.groups = self._groups()
        _keep(state, stored, self.newest_us)
        known = {row.id: (row.fingerprint, row.position) for row in stored.ids} if stored else {}
        ids = [(row, known.get(row.id, ("", 0))) for row in self._ids]
        return PoolRows(
            position=self.position,
            state=dumped(state),
            segments=[row for rows in self._segments.values() for row in rows],
            taken=self._taken,
            ids=[IdRow(*row[:3], said[0], row.at_us, said[1]) for row, said in ids],
            exceptions=[*self._told(stored)],
            skips=self._skips,
            trail=self._trail,
        )

    def _told(self, stored: PoolRows | None) -> Iterator[ExceptionRow]:
        """The table of exceptions, with what the code has said of items that it could not read."""
        rows = stored.exceptions if stored else ()
        old = {ExceptionKey(row.lane, row.off): detail_of(row) for row in rows}
        for key, row in self._rows.items():
            detail, said = detail_of(row), old.get(key)
            if said is not None and detail.reason == said.reason == "unread":
                detail = replace(detail, error_type=said.error_type, message=said.message)
                row = row._replace(detail=detail.dumped())
            yield row

    def _open_take(self, opened: OpenTake) -> Take:
        take = opened.take
        if len(opened.left) == take.count:
            return take
        left = OpenTake(take, {**opened.left})
        rows = [self._left(left, key) for key in opened.left]
        kept = [each.row._replace(why="lost", due_us=None) for each in rows if each is not None]
        kept = [row._replace(detail=detail_of(row).dumped()) for row in kept]
        return Take(take.version, take.at_us, rows=kept, count=len(kept))

    def _groups(self) -> list[Group]:
        groups: dict[tuple[int, int], Group] = {}
        for row in self._rows.values():
            if row.due_us is not None:
                where = row.slot, row.priority
                group = groups.setdefault(where, Group(*where, next_us=row.due_us))
                group.count += 1
                group.next_us = min(group.next_us, row.due_us)
                group.floor_us = min(group.next_us, self.newest_us)  # what comes may be due now
        return [*groups.values()]


def _keep(state: PoolState, stored: PoolRows | None, now_us: int) -> None:
    """Put into a document that was folded what only the stored one has."""
    old = _readable(stored)
    if old is None:
        state.next_token = now_us
        return
    state.next_token = max(old.next_token, state.next_token)
    takes = {each.take.version: each.take for each in old.partitions if each.take is not None}
    for partition in state.partitions:
        same = None if partition.take is None else takes.get(partition.take.version)
        if partition.take is not None and same is not None:
            partition.take.takeovers, partition.take.recalls = same.takeovers, same.recalls
    state.virtual, state.others_tag = old.virtual, old.others_tag
    state.finished, state.recent = old.finished, old.recent
    tags = {lane.number: lane.tag for lane in old.lanes}
    for lane in state.lanes:
        lane.tag = tags.get(lane.number, state.virtual)


def _readable(stored: PoolRows | None) -> PoolState | None:
    if stored is None or stored.state is None:
        return None
    try:
        return loaded(stored.state)
    except StoreUnavailableError:
        return None
