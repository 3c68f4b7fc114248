"""The connections that an event can be sent on (E1): psycopg, sqlite3, aiosqlite, SQLAlchemy 2."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.support import counter_task
from tests.support_postgres import bare_connection
from wakelog import BlockingApp, InboxConnectionError, Jobs, StoreUnavailableError
from wakelog_adapters.postgres.url import parse

task = counter_task()
jobs = Jobs(task=task)


@pytest.fixture
def app(shared_url: str) -> Iterator[BlockingApp]:
    with jobs.open(shared_url) as app:
        yield app


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite:")


def path_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def engine_url(url: str, *, is_async: bool = False) -> str:
    if is_sqlite(url):
        return url.replace("sqlite:", "sqlite+aiosqlite:" if is_async else "sqlite:")
    return parse(url).conninfo.replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture
def engine(shared_url: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(engine_url(shared_url))
    yield engine
    engine.dispose()


def send(app: BlockingApp, id: str, connection: object) -> None:
    app.task(task).send(id, 1, connection=connection)


def sent(app: BlockingApp) -> list[str]:
    return [row.stream.rpartition(":")[2] for row in app.app.application.store.inbox_list(0, 99)]


def test_E1_a_connection_of_sqlalchemy(app: BlockingApp, engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        send(app, "a", connection)
        with connection.begin_nested() as savepoint:
            send(app, "b", connection)
            savepoint.rollback()
        send(app, "c", connection)
        assert sent(app) == []
    with engine.connect() as connection:
        send(app, "d", connection)
        connection.rollback()
    assert sent(app) == ["a", "c"]


def test_E1_a_session_of_sqlalchemy(app: BlockingApp, engine: sqlalchemy.Engine) -> None:
    with Session(engine) as session:
        send(app, "a", session)
        session.commit()
        send(app, "b", session)
        session.rollback()
    scoped = scoped_session(sessionmaker(engine))
    send(app, "c", scoped)
    scoped.commit()
    scoped.remove()
    assert sent(app) == ["a", "c"]


@pytest.mark.anyio
async def test_E1_async_connections_of_sqlalchemy(shared_url: str) -> None:
    engine = create_async_engine(engine_url(shared_url, is_async=True))
    async with jobs.open(shared_url) as app:
        client, store = app.task(task), app.application.store
        async with engine.begin() as connection:
            await client.send("a", 1, connection=connection)
            assert store.inbox_list(0, 9) == []
        async with AsyncSession(engine) as session:
            await client.send("b", 1, connection=session)
            await session.commit()
            await client.send("c", 1, connection=session)
            await session.rollback()
        async with engine.connect() as plain:
            plain = await plain.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(InboxConnectionError, match="autocommit"):
                await client.send("d", 1, connection=plain)
        await engine.dispose()
        streams = [row.stream for row in store.inbox_list(0, 9)]
        assert streams == ["task:task:a", "task:task:b"]


@pytest.mark.anyio
async def test_E1_async_connections_of_the_drivers(shared_url: str) -> None:
    async with jobs.open(shared_url) as app:
        client, store = app.task(task), app.application.store
        connection: Any
        if is_sqlite(shared_url):
            connection = await aiosqlite.connect(path_of(shared_url))
        else:
            rows: Any = dict_row
            connection = await psycopg.AsyncConnection.connect(
                parse(shared_url).conninfo, row_factory=rows
            )
        await client.send("a", 1, connection=connection)
        assert store.inbox_list(0, 9) == []
        await connection.commit()
        await client.send("b", 1, connection=connection)
        await connection.rollback()
        await connection.close()
        with pytest.raises(InboxConnectionError, match="closed"):
            await client.send("c", 1, connection=connection)
        assert [row.stream for row in store.inbox_list(0, 9)] == ["task:task:a"]


@pytest.mark.anyio
async def test_E1_a_blocking_connection_in_an_async_app(shared_url: str) -> None:
    async with jobs.open(shared_url) as app:
        if is_sqlite(shared_url):
            connection: Any = sqlite3.connect(path_of(shared_url))
            connection.row_factory = sqlite3.Row
        else:
            rows: Any = dict_row
            connection = psycopg.connect(parse(shared_url).conninfo, row_factory=rows)
        await app.task(task).send("a", 1, connection=connection)
        connection.commit()
        connection.close()
        assert len(app.application.store.inbox_list(0, 9)) == 1


def test_E1_an_async_connection_in_a_blocking_app_is_refused(
    app: BlockingApp, shared_url: str
) -> None:
    engine = create_async_engine(engine_url(shared_url, is_async=True))
    with pytest.raises(InboxConnectionError, match="async"):
        send(app, "a", AsyncSession(engine))


def test_E1_a_connection_in_autocommit_mode_is_refused(
    app: BlockingApp, engine: sqlalchemy.Engine, shared_url: str
) -> None:
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(InboxConnectionError, match="autocommit"),
    ):
        send(app, "a", connection)
    plain: Any
    if is_sqlite(shared_url):
        plain = sqlite3.connect(path_of(shared_url), isolation_level=None)
    else:
        plain = psycopg.connect(parse(shared_url).conninfo, autocommit=True)
    with pytest.raises(InboxConnectionError, match="autocommit"):
        send(app, "a", plain)
    plain.execute("BEGIN")
    send(app, "b", plain)
    plain.execute("COMMIT")
    plain.close()
    assert sent(app) == ["b"]


def test_E1_a_closed_connection_is_refused(
    app: BlockingApp, engine: sqlalchemy.Engine, shared_url: str
) -> None:
    with engine.connect() as connection:
        pass
    with pytest.raises(InboxConnectionError, match="closed"):
        send(app, "a", connection)
    plain: Any
    if is_sqlite(shared_url):
        plain = sqlite3.connect(path_of(shared_url))
    else:
        plain = psycopg.connect(parse(shared_url).conninfo)
    plain.close()
    with pytest.raises(InboxConnectionError, match="closed"):
        send(app, "a", plain)


def test_E1_a_connection_to_another_file_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    """One in which the file of the jobs is attached too: a crash between would commit one alone."""
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("ATTACH ? AS jobs", (path_of(sqlite_url),))
    memory = sqlite3.connect(":memory:")
    with jobs.open(sqlite_url) as app:
        for connection in (other, memory):
            with pytest.raises(InboxConnectionError, match=r"jobs are in .*jobs\.db"):
                send(app, "a", connection)
            connection.close()


def test_E1_a_connection_to_another_database_is_refused(postgres_url: str) -> None:
    with jobs.open(postgres_url) as app, bare_connection(postgres_url) as owner:
        owner.execute(b"CREATE DATABASE elsewhere")
        try:
            with psycopg.connect(parse(postgres_url).conninfo, dbname="elsewhere") as connection:
                with pytest.raises(InboxConnectionError, match="another database"):
                    send(app, "a", connection)
                # and its transaction is as it was
                assert connection.execute("SELECT 1").fetchone() == (1,)
        finally:
            owner.execute(b"DROP DATABASE elsewhere")


def test_E1_a_connection_whose_transaction_has_failed_is_refused(postgres_url: str) -> None:
    with jobs.open(postgres_url) as app, psycopg.connect(parse(postgres_url).conninfo) as failed:
        with pytest.raises(psycopg.Error):
            failed.execute("SELECT 1 / 0")
        with pytest.raises(InboxConnectionError, match="error has ended"):
            send(app, "a", failed)
        failed.rollback()
        send(app, "b", failed)
        failed.commit()
        assert sent(app) == ["b"]


@pytest.mark.parametrize("connection", [None, object(), "postgresql://"])
def test_E1_what_is_no_connection_is_refused(app: BlockingApp, connection: object) -> None:
    if connection is None:
        assert not app.task(task).send("a", 1, connection=None).deferred
        return
    with pytest.raises(InboxConnectionError, match="no known kind"):
        send(app, "a", connection)


def test_E1_a_right_to_insert_is_enough(postgres_url: str) -> None:
    """Beside what the caller needs for its own tables."""
    schema = parse(postgres_url).schema
    with jobs.open(postgres_url) as app, bare_connection(postgres_url) as owner:
        owner.execute(b"CREATE ROLE shop")
        owner.execute(f"GRANT USAGE ON SCHEMA {schema} TO shop".encode())
        with psycopg.connect(parse(postgres_url).conninfo) as connection:
            connection.execute("SET ROLE shop")
            with pytest.raises(StoreUnavailableError, match="permission denied"):
                send(app, "a", connection)
            connection.rollback()
            owner.execute(f"GRANT INSERT ON {schema}.inbox TO shop".encode())
            connection.execute("SET ROLE shop")
            send(app, "b", connection)
            connection.commit()
        owner.execute(b"DROP OWNED BY shop")
        owner.execute(b"DROP ROLE shop")
        assert sent(app) == ["b"]


def test_E1_nothing_is_imported_for_it() -> None:
    """An application without SQLAlchemy has none afterwards."""
    code = "import sys, wakelog.jobs, wakelog_adapters.sqlite, wakelog_adapters.postgres;"
    code += "sys.exit(bool({'sqlalchemy', 'aiosqlite'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
