"""Connections of callers: which of the known kinds one is, and how a statement is executed on it.

What is to be executed is a generator of statements, so that it is written once for blocking and for
async connections. No library is imported for it: SQLAlchemy and aiosqlite are known by the modules
of the classes, so an application without them needs none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple

from wakelog.errors import InboxConnectionError, WakelogError, quoted

__all__ = ["Caller", "Statement", "Statements", "caller_of", "run"]


class Statement(NamedTuple):
    """A statement with the placeholders of the store's driver."""

    sql: str
    params: tuple[object, ...] = ()


Rows = Sequence[Sequence[Any]]
Statements = Generator[Statement, Rows, None]
"""Yields what is to be executed, and is sent the rows."""


class Caller(NamedTuple):
    """A connection of a caller."""

    driver: str
    """`psycopg`, `sqlite3`, `aiosqlite`, or what SQLAlchemy calls another one."""
    raw: Any
    """The connection of that driver, blocking or async."""
    execute: Callable[[Statement], Any]
    """Blocking: the rows. Async: their coroutine."""


_KNOWN = {
    ("psycopg", "Connection"): "psycopg",
    ("psycopg", "AsyncConnection"): "psycopg async",
    ("sqlite3", "Connection"): "sqlite3",
    ("aiosqlite.core", "Connection"): "aiosqlite",
    ("sqlalchemy.engine.base", "Connection"): "sqlalchemy",
    ("sqlalchemy.orm.session", "Session"): "session",
    ("sqlalchemy.orm.scoping", "scoped_session"): "session",
    ("sqlalchemy.ext.asyncio.engine", "AsyncConnection"): "sqlalchemy async",
    ("sqlalchemy.ext.asyncio.session", "AsyncSession"): "session async",
    ("sqlalchemy.ext.asyncio.scoping", "async_scoped_session"): "session async",
}
"""By module and name of a class: what its objects are, and those of its subclasses."""


def _kind(connection: object) -> str:
    for each in type(connection).__mro__:
        if kind := _KNOWN.get((each.__module__, each.__qualname__)):
            return kind
    raise InboxConnectionError(
        f"{quoted(connection)} is of no known kind",
        "give a connection of psycopg or sqlite3, or a Connection or Session of SQLAlchemy 2",
    )


Put = Callable[[Caller], Statements]


def run(connection: object, put: Put) -> Coroutine[Any, Any, None] | None:
    """Execute the statements of `put` on a connection of any known kind; with an async one the
    coroutine does it. Raises `InboxConnectionError`, what `put` raises, and the driver's errors."""
    kind = _kind(connection)
    if kind in ("psycopg async", "aiosqlite"):
        return _awaited(caller_of(connection), put)
    if kind.endswith(" async"):
        return _synced(connection, put)
    _run(connection, put)
    return None


async def _synced(connection: Any, put: Put) -> None:
    """An async connection or session of SQLAlchemy runs what is written for its blocking ones."""
    await connection.run_sync(_run, put)


def _run(connection: object, put: Put) -> None:
    caller = caller_of(connection)
    statements = put(caller)
    try:
        statement = next(statements)
        while True:
            statement = _sent(statements, partial(caller.execute, statement))
    except StopIteration:
        return


def _sent(statements: Statements, execute: Callable[[], Rows]) -> Statement:
    try:
        rows = execute()
    except Exception as error:
        return statements.throw(error)
    return statements.send(rows)


async def _awaited(caller: Caller, put: Put) -> None:
    statements = put(caller)
    try:
        statement = next(statements)
        while True:
            try:
                rows = await caller.execute(statement)
            except Exception as error:
                statement = statements.throw(error)
            else:
                statement = statements.send(rows)
    except StopIteration:
        return


def caller_of(connection: Any) -> Caller:
    """How statements are executed on a connection: an async one of SQLAlchemy only by its blocking
    side."""
    kind = _kind(connection)
    if kind == "session":
        connection, kind = connection.connection(), "sqlalchemy"
    if kind == "sqlalchemy":
        return _of_sqlalchemy(connection)
    if kind == "aiosqlite":
        return Caller("aiosqlite", connection, partial(_aiosqlite, connection))
    if kind == "sqlite3":
        return Caller("sqlite3", connection, partial(_sqlite3, connection))
    if kind == "psycopg":
        return Caller("psycopg", connection, partial(_psycopg, connection))
    return Caller("psycopg", connection, partial(_psycopg_async, connection))


def _of_sqlalchemy(connection: Any) -> Caller:
    if connection.closed:
        raise InboxConnectionError("it is closed", "give one that is open, in its transaction")
    name: str = connection.dialect.driver
    driver = {"pysqlite": "sqlite3", "psycopg_async": "psycopg"}.get(name, name)
    return Caller(
        driver,
        connection.connection.driver_connection,
        partial(_sqlalchemy, connection),
    )


def _sqlalchemy(connection: Any, statement: Statement) -> Rows:
    """SQLAlchemy begins its transaction by itself, if it has none, and wraps the driver's errors:
    the driver's are raised."""
    try:
        found = connection.exec_driver_sql(statement.sql, statement.params)
        rows: Rows = found.all() if found.returns_rows else ()
    except WakelogError:
        raise
    except Exception as error:
        original = getattr(error, "orig", None)
        if isinstance(original, BaseException):
            raise original from error
        raise
    return rows


def _sqlite3(connection: sqlite3.Connection, statement: Statement) -> Rows:
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(statement.sql, statement.params).fetchall()


async def _aiosqlite(connection: Any, statement: Statement) -> Rows:
    async with connection.execute(statement.sql, statement.params) as cursor:
        return [tuple(row) for row in await cursor.fetchall()]


def _psycopg(connection: Any, statement: Statement) -> Rows:
    """By a cursor of psycopg's own, whatever factories the connection has."""
    import psycopg
    from psycopg.rows import tuple_row

    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        rows: Rows = cursor.execute(statement.sql.encode(), statement.params).fetchall()
        return rows


async def _psycopg_async(connection: Any, statement: Statement) -> Rows:
    import psycopg
    from psycopg.rows import tuple_row

    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(statement.sql.encode(), statement.params)
        rows: Rows = await cursor.fetchall()
        return rows
