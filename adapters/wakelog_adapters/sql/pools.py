"""The pools of the SQL stores: rows that travel as JSON lists, in the order of their fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec
from msgspec import Struct

from wakelog.ports.pools import (
    ExceptionKey,
    ExceptionRow,
    IdRow,
    PartitionLease,
    PoolLook,
    PoolSeen,
    SegmentRow,
    TrailRow,
)
from wakelog_adapters.sql.rows import can_be_stored

__all__ = [
    "BLOCKED", "EXCEPTION", "EXCEPTIONS", "ID", "MOST_BEHIND", "MOST_SKIPS", "SEGMENT", "TAKEN",
    "TRAIL", "findable", "known", "overlapping", "seen_of",
]  # fmt: skip

MOST_BEHIND = 16
"""How many items that wait behind another one a look finds of each key."""
MOST_SKIPS = 1_000
"""How many places to skip a look finds in each lane."""

SEGMENT = ", ".join(f"s.{column}" for column in SegmentRow._fields)
EXCEPTION = ", ".join(f"x.{column}" for column in ExceptionRow._fields)
ID = ", ".join(f"i.{column}" for column in IdRow._fields)
TAKEN = "t.lane, t.upto, t.partition, t.version"

EXCEPTIONS = msgspec.json.Decoder(list[ExceptionRow])
TRAIL = msgspec.json.Decoder(list[TrailRow])
BLOCKED = msgspec.json.Decoder(list[tuple[str, int]])


class _Found(Struct, frozen=True):
    """What a look answers, beside the document."""

    paused: int
    firsts: list[SegmentRow]
    due: list[list[ExceptionRow]]
    """Of each group."""
    ids: list[IdRow]
    exceptions: list[ExceptionRow]
    behind: list[list[ExceptionRow]]
    """Of each key."""
    leases: list[tuple[str, str, int, int]]
    skips: list[list[ExceptionKey]]
    """Of each lane."""
    skipped: list[ExceptionKey]
    inbox: list[int]


_FOUND = msgspec.json.Decoder(_Found)


def seen_of(number: int, state: bytes | None, answer: str | bytes) -> PoolSeen:
    """What a look has found. Raises `ValueError` for rows that are not as they were written."""
    found = _FOUND.decode(answer)
    return PoolSeen(
        state=state,
        number=number,
        is_paused=bool(found.paused),
        firsts=found.firsts,
        due=[*chain.from_iterable(found.due)],
        ids=found.ids,
        exceptions=found.exceptions,
        leases=[
            PartitionLease(stream, owner, token, bool(has_ended))
            for stream, owner, token, has_ended in found.leases
        ],
        behind=[*chain.from_iterable(found.behind)],
        skips=[*dict.fromkeys([*chain.from_iterable(found.skips), *found.skipped])],
        inbox=tuple(found.inbox),
    )


def findable(texts: Iterable[str]) -> list[str]:
    """Those that some row may have, each once."""
    return [text for text in dict.fromkeys(texts) if can_be_stored(text)]


def known(look: PoolLook) -> list[tuple[int, int]]:
    """The items to look for, each once."""
    return [*dict.fromkeys((lane, off) for lane, off in look.keys)]


def overlapping(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The ranges that have items, each once."""
    return [*dict.fromkeys(each for each in ranges if each[1] < each[2])]
