"""Settings that the server, the database, the role or the URL may have: none is relied on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import WAIT_S
from tests.support_postgres import bare_connection, with_options
from wakelog import Debounce, DebounceContext, Jobs, Task, TaskContext, WorkerPool
from wakelog.errors import StoreUnavailableError
from wakelog_adapters.postgres import open_store
from wakelog_adapters.postgres.connections import connect, rows_of
from wakelog_adapters.postgres.schema import PostgresSchema
from wakelog_adapters.postgres.url import parse
from wakelog_adapters.sql.migrations import Migration

TEXT = "é\\x00ü '\"\\ ☃ \U0001f600 NULL {}"
MEANING = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "datestyle": "German",
    "default_transaction_deferrable": "on",
    "extra_float_digits": "-15",
    "intervalstyle": "sql_standard",
    "quote_all_identifiers": "on",
    "search_path": "pg_temp, public",
    "standard_conforming_strings": "off",
    "synchronous_commit": "off",
    "timezone": "Asia/Kathmandu",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "client_encoding": "LATIN1",
}
ISOLATED = {"default_transaction_isolation": "serializable"}
ENDING = {"exit_on_error": "on", "idle_in_transaction_session_timeout": "300", "jit": "on"}
_NUMBERS = itertools.count(1)

limited: Task[str, str] = Task(state=str, event=str, max_running=1)
free: Task[str, str] = Task(state=str, event=str)
batch: Debounce[str, str] = Debounce(event=str, flush_after="10ms")
queue: WorkerPool[str] = WorkerPool(event=str, concurrency=2, keep_results=True)


@limited.on_event
@free.on_event
def received(ctx: TaskContext[str], event: str) -> None:
    ctx.set_state(event)
    ctx.schedule(0)


@limited.execute
@free.execute
async def run(ctx: TaskContext[str]) -> None:
    ctx.set_state("ran: " + await ctx.step("step", lambda: TEXT))


@batch.execute
def flush(ctx: DebounceContext[str, str]) -> None:
    pass


@queue.execute
def work(ctx: Any, event: str) -> str:
    return event


jobs = Jobs(limited=limited, free=free, batch=batch, queue=queue)


@pytest.fixture
def database(postgres_server: str) -> Iterator[str]:
    """The URL of a database of its own."""
    name = f"settings_{next(_NUMBERS)}"
    with bare_connection(postgres_server) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield postgres_server.replace("/postgres?", f"/{name}?")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def alter(url: str, settings: Mapping[str, str], *, role: bool = False) -> None:
    """Set them for the database, or for the role in it."""
    with bare_connection(url) as connection:
        name = connection.info.dbname
        whose = f"ROLE {connection.info.user} IN DATABASE {name}" if role else f"DATABASE {name}"
        for setting, value in settings.items():
            connection.execute(f"ALTER {whose} SET {setting} = '{value}'".encode())


def in_url(url: str, settings: Mapping[str, str]) -> str:
    options = " ".join(f"-c{name}={value}" for name, value in settings.items() if " " not in value)
    return with_options(url, options=quote(options))


async def used(url: str) -> None:
    """Jobs of all types come to their ends."""
    async with jobs.open(url, worker=True) as app:
        for task in (limited, free):
            client = app.task(task)
            sent = [client.send(f"{TEXT}{number}", TEXT) for number in range(4)]
            assert [each.event_count for each in await asyncio.gather(*sent)] == [1] * 4
            async with asyncio.timeout(WAIT_S):
                while not (run := await client.trigger(TEXT + "3", timeout="20s")).triggered:
                    assert run.reason == "running"  # by its alarm: ask again
            assert run.failed is False
            assert await client.get_state(TEXT + "3") == "ran: " + TEXT
        await app.debounce(batch).add("b", TEXT)
        assert (await app.debounce(batch).flush("b", timeout="20s")).event_count in (0, 1)
        added = await app.worker_pool(queue).enqueue(TEXT)
        done = await app.worker_pool(queue).wait(added.event_id, timeout="20s")
        assert done.result == TEXT
        assert await app.count() >= 8


@pytest.mark.parametrize("pooler", ["", "session", "transaction"])
def test_settings_of_a_database_change_nothing(database: str, pooler: str) -> None:
    alter(database, MEANING)
    asyncio.run(used(with_options(database, pooler=pooler) if pooler else database))


def test_settings_of_a_role_change_nothing(database: str) -> None:
    alter(database, {**MEANING, **ISOLATED, **ENDING}, role=True)
    asyncio.run(used(database))


def test_settings_in_the_url_change_nothing(database: str) -> None:
    asyncio.run(used(in_url(database, {**MEANING, **ISOLATED, **ENDING})))


def test_a_session_is_set_up(database: str) -> None:
    alter(database, {**MEANING, **ISOLATED})
    store = open_store(database).application_recorder()
    with store.datastore.lend() as connection:
        for name in (*MEANING, *ISOLATED):
            [(value,)] = rows_of(connection, b"SELECT current_setting(%s)", (name,))
            hostile = {**MEANING, **ISOLATED}[name]
            assert value != hostile or name == "xmlbinary", name
    store.close()


@pytest.mark.parametrize("chosen", ["local", "remote_write"])
def test_what_a_standby_must_have_is_left_to_the_server(database: str, chosen: str) -> None:
    alter(database, {"synchronous_commit": chosen})
    store = open_store(database).application_recorder()
    with store.datastore.lend() as connection:
        assert rows_of(connection, b"SHOW synchronous_commit") == [(chosen,)]
    store.close()


def test_what_cannot_be_set_behind_a_pooler_is_refused(database: str) -> None:
    alter(database, ISOLATED)
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(with_options(database, pooler="transaction"))
    assert caught.value.reason == "wrong_settings"
    assert "must be 'read committed'" in caught.value.detail
    assert "ALTER ROLE" in str(caught.value)


def test_a_migration_takes_the_time_that_it_needs(database: str) -> None:
    alter(database, {"statement_timeout": "100", "lock_timeout": "100"}, role=True)
    location = parse(database)
    schema = PostgresSchema(location, [Migration(1, "slow", 1, "SELECT pg_sleep(0.3)")])
    with closing(connect(location)) as connection:
        assert len(schema.migrate(connection)) == 1
