"""Items: events of a pool as they are worked on, read from the log.

An item that is taken is an `Instance` with one open run, so what follows from its outcome is
decided as for every job. What is written about it is put together by `wakelog.pools.book`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from wakelog.core.calls import HandlerCall, PoolPlace
from wakelog.core.instance import Instance, OpenRun
from wakelog.errors import IntegrityError
from wakelog.ids import InstanceId
from wakelog.log.batches import ERASED_LINE, read_item
from wakelog.pools.state import Detail, Take, detail_of, job_stream
from wakelog.ports.pools import ExceptionKey, ExceptionRow, SegmentRow

__all__ = ["Slices", "TakenItem", "item_name", "items_of", "looks_like_place", "place_of"]


_PLACE = re.compile(r"#(0|[1-9][0-9]{0,17})\.([1-9][0-9]{0,17})")


def item_name(lane: int, off: int) -> str:
    """How an item is named in events and, without an id of its own, to callers."""
    return f"#{lane}.{off}"


def place_of(name: str) -> tuple[int, int] | None:
    """The lane and place of such a name; None if it is none."""
    found = _PLACE.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]))


def looks_like_place(name: str) -> bool:
    """Whether it could be read as one: no caller may give such an id."""
    lane, dot, off = name.removeprefix("#").partition(".")
    return name.startswith("#") and bool(dot) and (lane + off).isdecimal()


class TakenItem(Struct, gc=False):
    """An item that a partition has taken."""

    lane: int
    off: int
    seq: int
    slot: int
    priority: int
    payload: str | None
    """None if it was destroyed on request."""
    key: str | None
    id: str | None
    accepted_us: int
    row: ExceptionRow | None = None
    """As it was in the table of exceptions, if it was there."""
    detail: Detail = Detail()

    @property
    def name(self) -> str:
        """As in `#3.17`."""
        return item_name(self.lane, self.off)

    @property
    def place(self) -> ExceptionKey:
        """Its lane, and its number there."""
        return ExceptionKey(self.lane, self.off)

    def put(self, why: str, due_us: int | None, detail: Detail) -> ExceptionRow:
        """A row of the table of exceptions for it."""
        return ExceptionRow(
            self.lane, self.off, why, self.slot, self.priority, due_us, self.seq, self.key,
            detail.dumped(),
        )  # fmt: skip

    def call(
        self, pool: str, take: Take, now_us: int, worker: str, partition: int, processed: int
    ) -> HandlerCall:
        """The call of `execute` with it, on the instance that it is while it is taken."""
        attempt = self.detail.attempt
        run = OpenRun(
            number=1,
            attempt=attempt,
            trigger="alarm" if attempt == 1 else "retry",
            due_us=self.accepted_us if self.row is None else self.row.due_us or self.accepted_us,
            started_us=now_us,
            worker=worker,
            token=take.version,
        )
        instance = Instance(
            InstanceId("workerPool", pool, self.id or self.name),
            version=take.version,
            recorded_us=now_us,
            lives=1,
            started_us=self.accepted_us,
            run=run,
            event_count=1,
            run_count=1,
            run_version=1,
            run_began_us=self.detail.first_us or now_us,
            run_due_us=run.due_us,
            losses=self.detail.losses,
        )
        return HandlerCall(
            "execute",
            base=instance,
            payload=self.payload,
            run=run,
            attempt=attempt,
            event_id=self.id,
            place=PoolPlace(partition, self.key, attempt, processed),
        )


class Slices:
    """Parts of accepted batches, as a store has read them for ranges of lanes."""

    def __init__(self, job: str, slices: Sequence[tuple[SegmentRow, bytes]]) -> None:
        self._job = job
        self.is_empty = not slices
        self._by_lane: dict[int, list[tuple[SegmentRow, list[bytes]]]] = {}
        for row, data in slices:
            lines = data.split(b"\n")
            if len(lines) != row.n:
                raise IntegrityError(job_stream(job), row.version, "a lane has not so many lines")
            self._by_lane.setdefault(row.lane, []).append((row, lines))

    def lines(self, lane: int, after: int, upto: int) -> Iterator[tuple[int, SegmentRow, bytes]]:
        """Place, segment and line of each item of a range. Raises `IntegrityError` if one is not
        there."""
        expected = after + 1
        for row, lines in self._by_lane.get(lane, ()):
            first = row.upto - row.n + 1
            for off in range(max(first, expected), min(row.upto, upto) + 1):
                if off != expected:
                    break
                yield off, row, lines[off - first]
                expected += 1
        if expected <= upto:
            detail = f"item {expected} of lane {lane} is not in the log"
            raise IntegrityError(job_stream(self._job), 0, detail)

    def found(self, lane: int, off: int) -> list[tuple[int, SegmentRow, bytes]]:
        """The line of one item; nothing if there is no such item."""
        try:
            return list(self.lines(lane, off - 1, off))
        except IntegrityError:
            return []


def items_of(take: Take, slices: Slices) -> list[TakenItem]:
    """The items of a take, in the order in which they are worked on. Raises `IntegrityError`."""
    items: list[TakenItem] = []
    without = {(lane, off) for lane, off in take.without}
    for lane, after, upto, priority, slot in take.ranges:
        for off, segment, line in slices.lines(lane, after, upto):
            if (lane, off) in without:
                continue
            seq = segment.seq + off - (segment.upto - segment.n + 1)
            items.append(_item(line, lane, off, seq, slot, priority, segment.at_us))
    for row in take.rows:
        for off, segment, line in slices.lines(row.lane, row.off - 1, row.off):
            item = _item(line, row.lane, off, row.seq, row.slot, row.priority, segment.at_us)
            item.row, item.detail = row, detail_of(row)
            items.append(item)
    items.sort(key=lambda each: each.seq)
    return items


def _item(
    line: bytes, lane: int, off: int, seq: int, slot: int, priority: int, at_us: int
) -> TakenItem:
    if line.startswith(ERASED_LINE):
        return TakenItem(lane, off, seq, slot, priority, None, None, None, at_us)
    read = read_item(line)
    if read is None:
        raise AssertionError("it was not erased")
    payload = bytes(read.payload).decode()
    return TakenItem(lane, off, seq, slot, priority, payload, read.key, read.id, at_us)
