"""A follower never passes over an event that commits late (I3)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.support import WAIT_S
from tests.support_postgres import bare_connection
from wakelog import Jobs, Task, TaskContext
from wakelog_adapters.postgres.url import parse

HOLD = """CREATE FUNCTION {schema}.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.originator_id = 'task:desk:held' THEN
        PERFORM pg_advisory_xact_lock(4711);
    END IF;
    RETURN NEW;
END $$"""
TRIGGER = """CREATE TRIGGER hold AFTER INSERT ON {schema}.stored_events
    FOR EACH ROW EXECUTE FUNCTION {schema}.hold()"""


def make_jobs() -> Jobs:
    desk: Task[int, int] = Task(state=int, event=int)

    @desk.on_event
    def said(ctx: TaskContext[int], event: int) -> None:
        ctx.emit("said", event)

    return Jobs(desk=desk)


@contextmanager
def held(url: str) -> Iterator[psycopg.Connection]:
    """Who inserts an event of the instance `held` has got its position, and waits to commit."""
    schema = parse(url).schema
    with bare_connection(url) as server:
        for statement in (HOLD, TRIGGER):
            server.execute(statement.replace("{schema}", schema).encode())
        server.execute("SELECT pg_advisory_lock(4711)")
        yield server


def wait_until_held(server: psycopg.Connection) -> None:
    """Until an insert waits for our lock."""
    waiting = b"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    for _ in range(1_000):
        if server.execute(waiting).fetchone() != (0,):
            return
        server.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nothing waits")


def order_is_broken(server: psycopg.Connection, schema: str) -> None:
    """Positions are given without the lock under which commits come in their order."""
    for name in ("append_1", "insert_1"):
        found = server.execute(
            "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n"
            " ON n.oid = p.pronamespace WHERE n.nspname = %s AND p.proname = %s",
            (schema, name),
        ).fetchone()
        assert found is not None
        lock = f"LOCK TABLE {schema}.ordering IN SHARE UPDATE EXCLUSIVE MODE;"
        assert lock in found[0]
        server.execute(found[0].replace(lock, "").encode())


@pytest.mark.parametrize("broken", [False, True])
def test_I3_what_commits_late_comes_late_and_is_not_passed_over(
    postgres_url: str, broken: bool
) -> None:
    with (
        make_jobs().open(postgres_url) as here,
        make_jobs().open(postgres_url) as there,
        held(postgres_url) as server,
    ):
        if broken:
            order_is_broken(server, parse(postgres_url).schema)
        # when one append has its position, and others come after it
        late = threading.Thread(target=send, args=(here, "held", 1))
        late.start()
        wait_until_held(server)
        others = threading.Thread(target=send, args=(there, "other", 2))
        others.start()
        if broken:  # nothing holds it back
            others.join(WAIT_S)
        early = [event.data for event in there.follow("reader", wait=False)]
        server.execute("SELECT pg_advisory_unlock(4711)")
        late.join(WAIT_S)
        others.join(WAIT_S)
        # then a follower that had looked meanwhile gets both, unless the order is broken
        after = [event.data for event in there.follow("reader", wait=False)]
    assert (early, after) == (([2], []) if broken else ([], [1, 2]))


def send(app: Any, id: str, event: int) -> None:
    app.task("desk").send(id, event)
