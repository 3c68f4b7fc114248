"""Whether what a store keeps of a pool is what its log says (H4, H5)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import cast

from msgspec.structs import replace

from wakelog.errors import StoreUnavailableError
from wakelog.pools.state import Partition, PoolState, Take, detail_of, loaded
from wakelog.ports.pools import ExceptionRow, PoolRows

__all__ = ["differences"]

_COUNTS = (
    *("head", "accepted", "processed", "cancelled", "discarded", "emptied", "requeued"),
    *("delayed_upto", "next_lane", "paused", "draining", "reason"),
)
_TABLES = ("segments", "taken", "skips", "trail")


def differences(stored: PoolRows | None, folded: PoolRows, newest_us: int) -> list[str]:
    """What is not as it should be, in a line each; none: all is well.

    Not compared is what no event says: `PoolFold.rows`, and when something that can be taken
    already became due, or that waits behind another item is looked at.
    """
    if stored is None:
        return ["a row cannot be read"]
    found = [*_of_document(stored, folded, newest_us)]
    for name in _TABLES:
        found += _of_table(name, getattr(stored, name), getattr(folded, name))
    found += _of_table("ids", *([r[:3] for r in rows.ids] for rows in (stored, folded)))
    plain = _plainly(newest_us)
    found += _of_table("exceptions", *(map(plain, rows.exceptions) for rows in (stored, folded)))
    return found


def _of_table(name: str, stored: Iterable[Hashable], folded: Iterable[Hashable]) -> Iterator[str]:
    have, want = set(stored), set(folded)
    for word, rows in (("missing", want - have), ("too many", have - want)):
        if rows:
            first = min(rows, key=repr)
            yield f"{name}: {len(rows)} {word}, as {_shown(first)}"


def _shown(row: Hashable) -> str:
    values = cast("tuple[object, ...]", row)
    names: tuple[str, ...] = getattr(row, "_fields", ())
    named = zip(names, values, strict=False)
    return ", ".join(f"{name} {value}" for name, value in named) or str(row)


def _plainly(newest_us: int) -> Callable[[ExceptionRow], ExceptionRow]:
    """A row without what is not compared."""

    def plain(row: ExceptionRow) -> ExceptionRow:
        due_us = row.due_us
        if due_us is not None:
            due_us = 0 if row.why == "behind" else max(due_us, newest_us)
        detail = replace(detail_of(row), at_us=0)
        if detail.reason == "unread":  # what its code has said is not recorded
            detail = replace(detail, error_type="", message="")
        return row._replace(due_us=due_us, detail=detail.dumped())

    return plain


def _of_document(stored: PoolRows, folded: PoolRows, newest_us: int) -> Iterator[str]:
    if stored.state is None:
        if folded.position:
            yield "document: there is none"
        return
    try:
        have = loaded(stored.state)
    except StoreUnavailableError as error:
        yield error.detail
        return
    want = loaded(folded.state)
    for name in _COUNTS:
        a, b = getattr(have, name), getattr(want, name)
        if a != b:
            yield f"document: {name} is {a}, not {b}"
    for name, part in _PARTS.items():
        a, b = part(have, newest_us), part(want, newest_us)
        for key in sorted(a.keys() | b.keys(), key=repr):
            if a.get(key) != b.get(key):
                yield f"document: {name} {key} is {a.get(key)}, not {b.get(key)}"
    yield from _unsound(have, stored.exceptions)


def _unsound(state: PoolState, rows: Sequence[ExceptionRow]) -> Iterator[str]:
    """A group promises that nothing of it is due before it says."""
    first: dict[tuple[int, int], int] = {}
    for row in rows:
        if row.due_us is not None:
            where = row.slot, row.priority
            first[where] = min(first.get(where, row.due_us), row.due_us)
    for group in state.groups:
        due_us = first.get((group.slot, group.priority))
        if due_us is not None and due_us < max(group.floor_us, group.next_us):
            yield f"document: something of group {group.slot}, {group.priority} is hidden"


def _lanes(state: PoolState, newest_us: int) -> dict[Hashable, object]:
    return {
        lane.number: (lane.taken, lane.skips, lane.received, lane.priority, lane.slot, lane.fair)
        for lane in state.lanes
        if lane.waiting > 0
    }


def _partitions(state: PoolState, newest_us: int) -> dict[Hashable, object]:
    nothing = Partition(0)
    return {
        each.number: (each.head, each.paused, each.reason, _take(each.take, newest_us))
        for each in state.partitions
        if (each.head, each.paused, each.take) != (nothing.head, False, None)
    }


def _take(take: Take | None, newest_us: int) -> object:
    if take is None:
        return None
    plain = _plainly(newest_us)
    return (
        take.version, take.at_us, take.ranges, sorted(map(tuple, take.without)),
        sorted(map(plain, take.rows)), take.count, take.is_empty, take.filled,
    )  # fmt: skip


def _counts(state: PoolState, newest_us: int) -> dict[Hashable, object]:
    return {why: count for why, count in state.counts.items() if count}


def _groups(state: PoolState, newest_us: int) -> dict[Hashable, object]:
    return {(group.slot, group.priority): group.count for group in state.groups if group.count}


_PARTS: dict[str, Callable[[PoolState, int], dict[Hashable, object]]] = {
    "lane": _lanes,
    "partition": _partitions,
    "count of": _counts,
    "group": _groups,
}
