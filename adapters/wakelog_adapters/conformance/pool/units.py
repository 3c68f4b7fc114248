"""What the exams of pools write with: documents, events and rows as a planner would make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from wakelog.ports.pools import ExceptionRow, PoolLook, PoolSeen, PoolWrites, SegmentRow
from wakelog.ports.records import StoredEvent
from wakelog.ports.store import Store
from wakelog_adapters.conformance.units import NOW

__all__ = [
    "POOL", "SHARED", "call", "count_up", "document", "excepted", "number_in", "pool_event",
    "pool_look", "seen_by", "segment",
]  # fmt: skip

POOL = "workerPool:emails"
SHARED = f"{POOL}:shared"
"""The stream in which items are accepted."""


def document(
    *, lanes: Sequence[Sequence[int]] = (), groups: Sequence[Sequence[int]] = (), **rest: object
) -> bytes:
    """A document of a pool, with members that no store knows."""
    return msgspec.json.encode({"head": 7, "lanes": lanes, "groups": groups, **rest})


def pool_event(
    version: int, *lines: bytes, stream: str = SHARED, commit: str = "commit"
) -> StoredEvent:
    """An event whose body has these lines. Each is as long as a real one: no store may find the
    body by a guess."""
    head = b'{"at_us":%d,"commit":"%b","prev":"%b"}' % (NOW, commit.encode(), b"0" * 64)
    return StoredEvent(stream, version, "pool", b"\n".join([head, *lines]))


def segment(lane: int, upto: int, n: int, version: int, at: int = 0, len: int = 0) -> SegmentRow:
    """`n` items of a lane; their number in the order of acceptance is their place."""
    return SegmentRow(lane, upto, n, version, at, len, NOW, upto - n + 1)


def excepted(lane: int, off: int, why: str = "retrying", **changes: Any) -> ExceptionRow:
    """An item of slot 0 and priority 0 that is due at NOW; `changes` are its fields."""
    row = ExceptionRow(lane, off, why, 0, 0, NOW, off, None, "{}")
    return row._replace(**changes)


def pool_look(**changes: Any) -> PoolLook:
    """A look at NOW, for the first segments too; `changes` are its fields."""
    return replace(PoolLook(POOL, NOW, firsts="all"), **changes)


def call(store: Store, writes: PoolWrites, **look: Any) -> PoolSeen:
    """Write this, whatever is there; return what was seen before."""
    seen: list[PoolSeen] = []

    def plan(found: PoolSeen) -> PoolWrites:
        seen.append(found)
        return writes

    store.pool_call(pool_look(**look), plan)
    return seen[-1]


def seen_by(store: Store, **look: Any) -> PoolSeen:
    """A look without the lock, whose rows without an order are sorted."""
    seen = store.pool_look(pool_look(**look))
    for rows in (seen.firsts, seen.due, seen.ids, seen.exceptions, seen.leases, seen.skips):
        assert len({*rows}) == len(rows)
    return replace(
        seen,
        ids=sorted(seen.ids),
        exceptions=sorted(seen.exceptions, key=lambda row: row[:2]),
        leases=sorted(seen.leases),
        firsts=[*seen.firsts],
        due=[*seen.due],
        skips=[*seen.skips],
    )


def number_in(state: bytes | None) -> int:
    """What `count_up` has counted."""
    number: int = 0 if state is None else msgspec.json.decode(state)["number"]
    return number


def count_up(seen: PoolSeen) -> PoolWrites:
    """A plan that counts in the document, and writes an event with that number as its version."""
    number = number_in(seen.state) + 1
    events = [pool_event(number, commit=f"commit-{number}")]
    state = document(number=number)
    return PoolWrites(events=events, state=state, commit=f"commit-{number}")
