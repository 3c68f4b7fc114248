"""All rows of a pool, read and replaced: the same plain statements for SQLite and PostgreSQL.

Each table has the fields of one type of row, in its order, behind the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import (
    ExceptionKey,
    ExceptionRow,
    IdRow,
    PoolRows,
    Positioned,
    Refold,
    SegmentRow,
    TakenRow,
    TrailRow,
)
from wakelog.ports.records import StoredEvent
from wakelog_adapters.sql.rows import readable

__all__ = ["Asker", "all_rows", "log_page", "rebuild"]

R = TypeVar("R")

CHUNK = 1_000
"""Rows that are inserted at a time."""
PAGE = 100
"""Events that are read at a time: each may have 256 KiB."""

_TABLES: dict[str, type[Any]] = {
    "segments": SegmentRow,
    "taken": TakenRow,
    "ids": IdRow,
    "exceptions": ExceptionRow,
    "skips": ExceptionKey,
    "trail": TrailRow,
}


class Asker(NamedTuple):
    """A connection, and how statements are written for it."""

    rows: Callable[[str, Sequence[object]], Sequence[Sequence[Any]]]
    """The rows of a query."""
    each: Callable[[str, Iterable[Sequence[object]]], object]
    """Execute a statement with each of many parameters."""
    tables: str
    """What precedes the name of a table."""
    mark: str
    """What stands for a parameter."""
    position: str
    """The column of an event's position in the log."""


def log_page(ask: Asker, pool: str, after: int, limit: int) -> Sequence[Positioned]:
    """Events of the pool's streams, in the order of the log: it is walked once, whatever of it are
    other streams', and not sorted for each page."""
    prefix, m = f"{pool}:", ask.mark
    rows = ask.rows(
        f"""SELECT {ask.position}, originator_id, originator_version, topic, state
            FROM {ask.tables}stored_events
            WHERE {ask.position} > {m} AND substr(originator_id, 1, {len(prefix)}) = {m}
            ORDER BY {ask.position} LIMIT {m}""",
        (after, prefix, limit),
    )
    return [(row[0], StoredEvent(row[1], row[2], row[3], bytes(row[4]))) for row in rows]


@readable
def all_rows(ask: Asker, pool: str) -> PoolRows:
    """To be called in a transaction that sees one moment. Raises `StoreUnavailableError`."""
    m, prefix = ask.mark, f"{pool}:"
    [[position]] = ask.rows(
        f"""SELECT coalesce(max({ask.position}), 0) FROM {ask.tables}stored_events
            WHERE originator_id >= {m} AND originator_id < {m}""",
        (prefix, f"{pool};"),  # the next character
    )
    newest = ask.rows(
        f"SELECT state FROM {ask.tables}pool_states WHERE pool = {m} ORDER BY n DESC LIMIT 1",
        (pool,),
    )
    found = {name: _read(ask, pool, name, row) for name, row in _TABLES.items()}
    return PoolRows(position=position, state=bytes(newest[0][0]) if newest else None, **found)


def _read(ask: Asker, pool: str, name: str, row: type[R]) -> list[R]:
    columns = ", ".join(row._fields)  # type: ignore[attr-defined]
    sql = f"SELECT {columns} FROM {ask.tables}pool_{name} WHERE pool = {ask.mark}"
    rows = [tuple(each) for each in ask.rows(sql, (pool,))]
    return msgspec.convert(rows, list[row])  # type: ignore[valid-type]


def rebuild(ask: Asker, pool: str, after: int, refold: Refold) -> None:
    """To be called in a transaction that has the lock of the log. Raises what `refold` raises."""
    since = [*_since(ask, pool, after)]
    try:
        stored = all_rows(ask, pool)
    except StoreUnavailableError as error:
        if error.reason != "damaged":
            raise
        stored = None
    rows, m = refold(since, stored), ask.mark
    states = f"{ask.tables}pool_states"
    [[number]] = ask.rows(f"SELECT coalesce(max(n), 0) FROM {states} WHERE pool = {m}", (pool,))
    for name in ("states", *_TABLES):
        ask.each(f"DELETE FROM {ask.tables}pool_{name} WHERE pool = {m}", [(pool,)])
    for name, row in _TABLES.items():
        columns = ("pool", *row._fields)
        marks = ", ".join([m] * len(columns))
        sql = f"INSERT INTO {ask.tables}pool_{name} ({', '.join(columns)}) VALUES ({marks})"
        news = getattr(rows, name)
        for at in range(0, len(news), CHUNK):
            ask.each(sql, [(pool, *each) for each in news[at : at + CHUNK]])
    # the numbers go on: one that was used before may be hidden by what an old snapshot keeps
    sql = f"INSERT INTO {states} (pool, n, state) VALUES ({m}, {m}, {m})"
    ask.each(sql, [(pool, number + 1, rows.state)])


def _since(ask: Asker, pool: str, after: int) -> Iterator[Positioned]:
    while page := log_page(ask, pool, after, PAGE):
        yield from page
        after = page[-1][0]
