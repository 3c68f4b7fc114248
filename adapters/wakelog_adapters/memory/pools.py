"""The memory store's pools: the tables of each as sorted lists in dictionaries."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import (
    ExceptionKey,
    ExceptionRow,
    Group,
    IdRow,
    PartitionLease,
    Plan,
    PoolFilter,
    PoolLook,
    PoolRows,
    PoolSeen,
    PoolWrites,
    Positioned,
    Refold,
    SegmentRow,
    TakenRow,
    TrailRow,
)
from wakelog.ports.rows import JobPauseRow
from wakelog.ports.units import Lease
from wakelog_adapters.memory.claims import MemoryClaims
from wakelog_adapters.memory.event_log import version_of
from wakelog_adapters.memory.messages import MemoryMessages
from wakelog_projections.inline.pool_document import PoolDocument

__all__ = ["MemoryPools"]

_MOST_SKIPS = 1_000
_MOST_BEHIND = 16
_upto: Callable[[Any], int] = attrgetter("upto")


class _Pool:
    """The tables of one pool. Not thread-safe."""

    def __init__(self) -> None:
        self.state: bytes | None = None
        self.number = 0
        """How many states there have been."""
        self.segments: dict[int, list[SegmentRow]] = {}
        self.taken: dict[int, list[TakenRow]] = {}
        self.skips: dict[int, list[int]] = {}
        self.ids: dict[str, IdRow] = {}
        self.trail: dict[ExceptionKey, list[tuple[int, TrailRow]]] = {}
        """Each with the position of its event in the log."""
        self.exceptions: dict[ExceptionKey, ExceptionRow] = {}
        self._due: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        """By slot and priority: due time, lane and place."""
        self._keys: dict[str, list[tuple[int, int, int]]] = {}
        """By partition key: number in the order of acceptance, lane and place."""

    def first(self, lane: int, after: int) -> SegmentRow | None:
        return next(self.segments_after(lane, after), None)

    def segments_after(self, lane: int, after: int) -> Iterator[SegmentRow]:
        """The segments of a lane that have items beyond a place."""
        segments = self.segments.get(lane, [])
        for index in range(bisect_right(segments, after, key=_upto), len(segments)):
            yield segments[index]

    def skipped(self, lane: int, after: int) -> Sequence[ExceptionKey]:
        skips = self.skips.get(lane, [])
        first = bisect_right(skips, after)
        return [ExceptionKey(lane, off) for off in skips[first : first + _MOST_SKIPS]]

    def skip(self, lane: int, off: int) -> None:
        skips = self.skips.setdefault(lane, [])
        index = bisect_left(skips, off)
        if skips[index : index + 1] != [off]:
            skips.insert(index, off)

    def due(self, group: Group, limit: int) -> Sequence[ExceptionRow]:
        rows = self._due.get(group[:2], [])
        first = bisect_left(rows, (group.floor_us,))
        return [
            self.exceptions[ExceptionKey(lane, off)] for _, lane, off in rows[first : first + limit]
        ]

    def of_key(self, key: str) -> Iterator[ExceptionRow]:
        """The exceptions with this partition key, in the order of acceptance."""
        for _, lane, off in self._keys.get(key, ()):
            yield self.exceptions[ExceptionKey(lane, off)]

    def put(self, row: ExceptionRow) -> None:
        key = ExceptionKey(row.lane, row.off)
        self.drop(key)
        self.exceptions[key] = row
        if row.due_us is not None:
            insort(
                self._due.setdefault((row.slot, row.priority), []), (row.due_us, row.lane, row.off)
            )
        if row.key is not None:
            insort(self._keys.setdefault(row.key, []), (row.seq, row.lane, row.off))

    def drop(self, key: ExceptionKey) -> None:
        row = self.exceptions.pop(key, None)
        if row is not None and row.due_us is not None:
            _remove(self._due[row.slot, row.priority], (row.due_us, row.lane, row.off))
        if row is not None and row.key is not None:
            _remove(self._keys[row.key], (row.seq, row.lane, row.off))

    def behind(self, key: str) -> Iterator[ExceptionRow]:
        """The first items that wait behind another one of this partition key."""
        return islice((row for row in self.of_key(key) if row.why == "behind"), _MOST_BEHIND)

    def is_skipped(self, key: ExceptionKey) -> bool:
        skips = self.skips.get(key.lane, [])
        index = bisect_left(skips, key.off)
        return skips[index : index + 1] == [key.off]


def _remove(rows: list[tuple[int, int, int]], row: tuple[int, int, int]) -> None:
    del rows[bisect_left(rows, row)]


class MemoryPools(MemoryMessages):
    """Pools beside the log, under its lock."""

    def __init__(self) -> None:
        super().__init__()
        self._claims = MemoryClaims()
        self._job_pauses: dict[str, JobPauseRow] = {}
        self._pools: dict[str, _Pool] = {}

    def pool_call(self, look: PoolLook, plan: Plan) -> Sequence[tuple[SegmentRow, bytes]]:
        with self._database_lock:
            pool = self._pools.get(look.pool) or _Pool()
            seen = self._seen(pool, look)
            writes = plan(seen)
            if writes.is_empty:
                return ()
            self._check(pool, writes)
            self._pools[look.pool] = pool
            self._write(pool, look, writes, {})
        self._notify()
        return self.pool_slices(look.pool, writes.read)

    def pool_jobs(self) -> Sequence[str]:
        with self._database_lock:
            return sorted(job for job, pool in self._pools.items() if pool.state is not None)

    def pool_look(self, look: PoolLook) -> PoolSeen:
        with self._database_lock:
            return self._seen(self._pools.get(look.pool) or _Pool(), look)

    def _notify(self) -> None:
        """Something has been appended."""
        for listener in tuple(self._listeners):  # others come and go on threads of their own
            listener.set()

    def _seen(self, pool: _Pool, look: PoolLook) -> PoolSeen:
        document = PoolDocument.of(pool.state)
        firsts = [pool.first(*lane) for lane in document.looked_for(pool.state, look.firsts)]
        keys = [*dict.fromkeys(ExceptionKey(*key) for key in look.keys)]
        return PoolSeen(
            state=pool.state,
            number=pool.number,
            is_paused=look.pool in self._job_pauses,
            firsts=[first for first in firsts if first is not None],
            due=[row for group in document.due() for row in pool.due(group, look.due_limit)],
            ids=[pool.ids[id] for id in {*look.ids} if id in pool.ids],
            exceptions=[pool.exceptions[key] for key in keys if key in pool.exceptions],
            behind=[row for key in {*look.behind} for row in pool.behind(key)],
            leases=self._leases_of(look.pool, look.now_us) if look.leases else (),
            skips=self._skips(pool, document, keys),
        )

    def _skips(
        self, pool: _Pool, document: PoolDocument, keys: Sequence[ExceptionKey]
    ) -> list[ExceptionKey]:
        found = [
            skip
            for lane, skips in document.waiting()
            if skips > 0
            for skip in pool.skipped(lane.lane, lane.taken)
        ]
        return [*dict.fromkeys([*found, *(key for key in keys if pool.is_skipped(key))])]

    def _leases_of(self, job: str, now_us: int) -> Sequence[PartitionLease]:
        return [
            PartitionLease(stream, lease.owner, lease.token, lease.until_us <= now_us)
            for stream, lease in self._claims.leases_of(job)
        ]

    def _check(self, pool: _Pool, writes: PoolWrites) -> None:
        """Raise `StoreUnavailableError` for what a table with keys would refuse."""
        tables: list[tuple[Sequence[object], Callable[[Any], bool]]] = [
            ([(e.stream, e.version) for e in writes.events], lambda key: self._has(*key)),
            ([row.id for row in writes.ids], pool.ids.__contains__),
            ([row[:2] for row in writes.segments], _in(pool.segments)),
            ([row[:2] for row in writes.taken], _in(pool.taken)),
        ]
        for keys, is_used in tables:
            if len({*keys}) < len(keys) or any(map(is_used, keys)):
                raise StoreUnavailableError("refused", "a row of a pool is there already")

    def _write(
        self,
        pool: _Pool,
        look: PoolLook,
        writes: PoolWrites,
        positions: dict[tuple[str, int], int],
    ) -> None:
        for event in writes.events:
            self._log.append(event)
            positions[event.stream, event.version] = len(self._log)
            insort(self._streams.setdefault(event.stream, []), event, key=version_of)
        for stream, sent in writes.sent:
            self._send(stream, [sent], look.now_us)
        if writes.state is not None:
            pool.state = writes.state
            pool.number += 1
        for segment in writes.segments:
            insort(pool.segments.setdefault(segment.lane, []), segment, key=_upto)
        for taken in writes.taken:
            insort(pool.taken.setdefault(taken.lane, []), taken, key=_upto)
        pool.ids.update((row.id, row) for row in writes.ids)
        for key in writes.gone:
            pool.drop(ExceptionKey(*key))
        for row in writes.put:
            pool.put(row)
        for lane, off in writes.skips:
            pool.skip(lane, off)
        for trail in writes.trail:
            position = positions.get((trail.stream, trail.version), 0)
            insort(pool.trail.setdefault(ExceptionKey(*trail[:2]), []), (position, trail))
        for stream in writes.dropped:
            self._claims.drop(stream)
        for stream, owner, token, length_us in writes.leases:
            lease = Lease(owner, look.now_us + length_us, token, False)
            self._claims.take(look.pool, stream, lease)

    # -- reading

    def pool_slices(
        self, pool: str, ranges: Sequence[tuple[int, int, int]]
    ) -> Sequence[tuple[SegmentRow, bytes]]:
        with self._database_lock:
            tables = self._pools.get(pool) or _Pool()
            found: set[SegmentRow] = set()
            for lane, after, upto in ranges:
                for segment in tables.segments_after(lane, after):
                    if segment.upto - segment.n >= upto:
                        break
                    found.add(segment)
            return [(segment, self._slice(f"{pool}:shared", segment)) for segment in sorted(found)]

    def _slice(self, stream: str, segment: SegmentRow) -> bytes:
        event = next(iter(self._between(stream, segment.version - 1, segment.version)), None)
        body = b"" if event is None else event.state.partition(b"\n")[2]
        return body[segment.at : segment.at + segment.len]

    def pool_taken(self, pool: str, lane: int, off: int) -> TakenRow | None:
        with self._database_lock:
            tables = self._pools.get(pool) or _Pool()
            rows = tables.taken.get(lane, [])
            index = bisect_left(rows, off, key=_upto)
            return rows[index] if index < len(rows) else None

    def pool_trail(self, pool: str, lane: int, off: int) -> Sequence[TrailRow]:
        with self._database_lock:
            tables = self._pools.get(pool) or _Pool()
            return [row for _, row in tables.trail.get(ExceptionKey(lane, off), ())]

    def pool_exceptions(self, pool: str, filter: PoolFilter) -> Sequence[ExceptionRow]:
        with self._database_lock:
            tables = self._pools.get(pool) or _Pool()
            rows = tables.exceptions.values() if filter.key is None else tables.of_key(filter.key)
            return nsmallest(
                filter.limit,
                (
                    row
                    for row in rows
                    if (row.lane, row.off) > filter.after
                    and (not filter.why or row.why in filter.why)
                ),
                key=lambda row: (row.lane, row.off),
            )

    def pool_blocked(self, pool: str, keys: Sequence[str]) -> Sequence[tuple[str, int]]:
        with self._database_lock:
            tables = self._pools.get(pool) or _Pool()
            firsts = {
                key: next((row.seq for row in tables.of_key(key) if row.why != "dead"), None)
                for key in keys
            }
        return [(key, seq) for key, seq in firsts.items() if seq is not None]

    # -- made anew from the log

    def pool_log(self, pool: str, after: int, limit: int) -> Sequence[Positioned]:
        with self._database_lock:
            return [*islice(self._log_of(pool, after), limit)]

    def _log_of(self, pool: str, after: int) -> Iterator[Positioned]:
        for position, event in enumerate(self._log[after:], after + 1):
            if event.stream.startswith(f"{pool}:"):
                yield position, event

    def pool_rows(self, pool: str) -> PoolRows:
        with self._database_lock:
            tables = self._pools.get(pool) or _Pool()
            positions = [position for position, _ in self._log_of(pool, 0)]
            return PoolRows(
                position=positions[-1] if positions else 0,
                state=tables.state,
                segments=[*chain.from_iterable(tables.segments.values())],
                taken=[*chain.from_iterable(tables.taken.values())],
                ids=[*tables.ids.values()],
                exceptions=[*tables.exceptions.values()],
                skips=[ExceptionKey(lane, off) for lane, n in tables.skips.items() for off in n],
                trail=[row for rows in tables.trail.values() for _, row in rows],
            )

    def pool_rebuild(self, pool: str, after: int, refold: Refold) -> None:
        with self._database_lock:
            rows = refold([*self._log_of(pool, after)], self.pool_rows(pool))
            number = (self._pools.get(pool) or _Pool()).number
            self._pools[pool] = tables = _Pool()
            tables.number = number
            positions = {(e.stream, e.version): at for at, e in self._log_of(pool, 0)}
            writes = PoolWrites(
                state=rows.state, segments=rows.segments, taken=rows.taken, ids=rows.ids,
                put=rows.exceptions, skips=rows.skips, trail=rows.trail,
            )  # fmt: skip
            self._write(tables, PoolLook(pool, 0), writes, positions)


def _in(lanes: dict[int, list[Any]]) -> Callable[[Any], bool]:
    """Whether a lane has a row that ends at a place."""

    def found(key: tuple[int, int]) -> bool:
        rows = lanes.get(key[0], [])
        index = bisect_left(rows, key[1], key=_upto)
        return index < len(rows) and _upto(rows[index]) == key[1]

    return found
