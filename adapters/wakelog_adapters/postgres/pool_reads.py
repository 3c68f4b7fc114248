"""The reading half of the pools in PostgreSQL: nothing here takes a lock or writes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import (
    ExceptionRow,
    PoolFilter,
    PoolLook,
    PoolRows,
    PoolSeen,
    Positioned,
    SegmentRow,
    TakenRow,
    TrailRow,
)
from wakelog_adapters.postgres.connections import Connection, rows_of
from wakelog_adapters.postgres.errors import server_message
from wakelog_adapters.postgres.reads import PostgresReads
from wakelog_adapters.sql.pool_tables import Asker, all_rows, log_page
from wakelog_adapters.sql.pools import findable, known, overlapping, seen_of
from wakelog_adapters.sql.rows import readable

__all__ = ["PostgresPools", "document_of", "look_params", "seen_in", "slice_params", "slices_in"]

_UNLOCKED = (None, None, None)


def look_params(look: PoolLook, *, server_clock: bool) -> Sequence[object]:
    """What `pool_look_1` takes, in its order, behind what is for the locks."""
    keys = known(look)
    return (
        look.pool,
        look.now_us,
        None if server_clock else look.now_us,
        findable(look.ids),
        look.due_limit,
        [lane for lane, _ in keys],
        [off for _, off in keys],
        look.leases,
        findable(look.behind),
        look.firsts,
        [*look.inbox] or None,
    )


def slice_params(pool: str, ranges: Sequence[tuple[int, int, int]]) -> Sequence[object]:
    """What `pool_slices_1` takes."""
    columns = [*zip(*overlapping(ranges), strict=True)] or [(), (), ()]
    return pool, f"{pool}:shared", *map(list, columns)


def slices_in(rows: Iterable[Sequence[Any]]) -> list[tuple[SegmentRow, bytes]]:
    """What `pool_slices_1` answers."""
    return [(SegmentRow(*row), lines) for *row, lines in rows]


@readable
def seen_in(row: Sequence[Any]) -> PoolSeen:
    """What `pool_look_1` answers."""
    return seen_of(*row)


@contextmanager
def document_of(pool: str) -> Generator[None]:
    """Raise `StoreUnavailableError` ("damaged") if the server cannot read a document."""
    try:
        yield
    except (psycopg.DataError, StoreUnavailableError) as error:
        cause = error.__cause__ if isinstance(error, StoreUnavailableError) else error
        if not isinstance(cause, psycopg.DataError):
            raise
        detail = f"the document of a pool, {pool}: {server_message(cause)}"
        raise StoreUnavailableError("damaged", detail) from error


class PostgresPools(PostgresReads):
    """Raises `StoreUnavailableError`."""

    def pool_jobs(self) -> Sequence[str]:
        return [job for (job,) in self._rows(self.queries.pool_jobs, ())]

    def pool_look(self, look: PoolLook) -> PoolSeen:
        params = *_UNLOCKED, *look_params(look, server_clock=self.datastore.server_clock)
        with document_of(look.pool):
            return seen_in(self._rows(self.queries.pool_look, params)[0])

    def pool_slices(
        self, pool: str, ranges: Sequence[tuple[int, int, int]]
    ) -> Sequence[tuple[SegmentRow, bytes]]:
        return slices_in(self._rows(self.queries.pool_slices, slice_params(pool, ranges)))

    def pool_taken(self, pool: str, lane: int, off: int) -> TakenRow | None:
        rows = self._rows(self.queries.pool_taken, (pool, lane, off))
        return TakenRow(*rows[0]) if rows else None

    def pool_trail(self, pool: str, lane: int, off: int) -> Sequence[TrailRow]:
        rows = self._rows(self.queries.pool_trail, (pool, lane, off))
        return [TrailRow(*row) for row in rows]

    def pool_exceptions(self, pool: str, filter: PoolFilter) -> Sequence[ExceptionRow]:
        whys, key, (lane, off) = findable(filter.why), filter.key, filter.after
        if (filter.why and not whys) or (key is not None and not findable([key])):
            return []
        params: Any = (pool, lane, off, filter.limit)
        sql = self.queries.pool_exceptions
        if key is not None:
            sql = self.queries.pool_exceptions_key
            params = (pool, key, lane, off, whys, whys, filter.limit)
        elif whys:
            sql = self.queries.pool_exceptions_why
            params = {"why": whys, "pool": pool, "lane": lane, "off": off, "limit": filter.limit}
        return [ExceptionRow(*row) for row in self._rows(sql, params)]

    def pool_blocked(self, pool: str, keys: Sequence[str]) -> Sequence[tuple[str, int]]:
        rows = self._rows(self.queries.pool_blocked, (findable(keys), pool))
        return [(key, seq) for key, seq in rows]

    def pool_log(self, pool: str, after: int, limit: int) -> Sequence[Positioned]:
        return self._twice(lambda each: log_page(self.asker(each), pool, after, limit))

    def pool_rows(self, pool: str) -> PoolRows:
        def read(connection: Connection) -> PoolRows:
            with connection.transaction():
                connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                return all_rows(self.asker(connection), pool)

        return self._twice(read)

    def asker(self, connection: Connection) -> Asker:
        """For plain statements on a connection."""

        def rows(sql: str, params: Sequence[object]) -> Sequence[Sequence[Any]]:
            return rows_of(connection, sql.encode(), params)

        def each(sql: str, many: Iterable[Sequence[object]]) -> None:
            with connection.cursor() as cursor:
                cursor.executemany(sql.encode(), many)

        schema = self.location.schema
        return Asker(rows, each, f"{schema}.", "%s", "notification_id")
