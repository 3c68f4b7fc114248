"""Rows put into the inbox of a PostgreSQL schema by a connection of a caller."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any
from weakref import WeakSet

import msgspec
import psycopg
from msgspec.structs import astuple
from psycopg.pq import TransactionStatus

from wakelog.errors import InboxConnectionError
from wakelog.ports.inbox import InboxEntry, InboxRow
from wakelog_adapters.inbox.callers import Caller, Statement, Statements, run
from wakelog_adapters.inbox.table import InboxWrites
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.pool_reads import PostgresPools

__all__ = ["PostgresInbox"]


class PostgresInbox(InboxWrites, PostgresPools):
    """The inbox of a schema. Raises `StoreUnavailableError`."""

    _place: Sequence[Any] | None = None
    """What tells this inbox from all others."""
    _checked: WeakSet[Any]
    """Connections of callers that were found to be to it."""

    def inbox_put(
        self, connection: object, entries: Sequence[InboxEntry]
    ) -> Coroutine[Any, Any, None] | None:
        if self._place is None:
            self._checked = WeakSet()
            self._place = self._rows(self.queries.inbox_place)[0]
        rows = msgspec.json.encode([astuple(entry) for entry in entries]).decode()
        statement = Statement(self.queries.inbox_put.decode(), (rows,))
        return run(connection, lambda caller: self._put(caller, statement))

    def _put(self, caller: Caller, statement: Statement) -> Statements:
        """What cannot fail is asked first: an error would end the caller's transaction."""
        _check(caller)
        if caller.raw not in self._checked:
            with translated(self.location.label):
                [place] = yield Statement(self.queries.inbox_place.decode())
            if tuple(place) != self._place:
                raise InboxConnectionError(
                    f"it is to another database than {self.location.label}, "
                    f"schema {self.location.schema}, in which the jobs are",
                    "give one to that database",
                )
            self._checked.add(caller.raw)
        with translated(self.location.label):
            yield statement

    def inbox_rows(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[InboxRow]:
        params = {"jobs": list(jobs), "now_us": now_us, "limit": limit}
        return [InboxRow(*row) for row in self._rows(self.queries.inbox_rows, params)]

    def inbox_list(self, after: int, limit: int) -> Sequence[InboxRow]:
        return [InboxRow(*row) for row in self._rows(self.queries.inbox_list, (after, limit))]


def _check(caller: Caller) -> None:
    raw = caller.raw
    if not isinstance(raw, (psycopg.Connection, psycopg.AsyncConnection)):
        raise InboxConnectionError(
            f"the jobs are in PostgreSQL, and it is a connection of {caller.driver}",
            "give one of psycopg to that database",
        )
    status = raw.info.transaction_status
    if raw.closed:
        raise InboxConnectionError("it is closed", "give one that is open, in its transaction")
    if status == TransactionStatus.INERROR:
        raise InboxConnectionError(
            "an error has ended its transaction", "roll that back, and begin again"
        )
    if status == TransactionStatus.IDLE and raw.autocommit:
        raise InboxConnectionError(
            "it is in autocommit mode, without a transaction",
            "begin one, or leave connection= out",
        )
