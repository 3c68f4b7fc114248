"""Rows that another session keeps locked: they hold up their own instance, and no other (K5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from tests.adapters.postgres.started_appends import opened
from tests.support import WAIT_S, Ctx, counter_task, task_of
from tests.support_postgres import bare_connection, with_options
from wakelog import App, Continuous, Jobs, StoreUnavailableError
from wakelog.ports.units import StreamLocked, Unit
from wakelog.worker.startup import retime
from wakelog_adapters.conformance.units import NOW, UnitBuilder, claim_request, kept_reply, kinds
from wakelog_adapters.postgres import PostgresStore, open_store
from wakelog_adapters.postgres.url import parse

STATUS = "SELECT FROM status WHERE stream = 'task:order:held' FOR UPDATE"
LEASE = "SELECT FROM leases WHERE stream = 'task:order:held' FOR UPDATE"
NEW_ROW = """INSERT INTO status SELECT (jsonb_populate_record(s,
    '{"stream": "task:order:held", "id": "held"}')).* FROM status s
    WHERE stream = 'task:order:other'"""
NEW_REPLY = """INSERT INTO kept_replies SELECT (jsonb_populate_record(r,
    '{"stream": "task:order:held"}')).* FROM kept_replies r"""


def blocking(url: str) -> PostgresStore:
    return open_store(url).application_recorder()


@pytest.fixture(params=[blocking, opened], ids=["blocking", "started"])
def store(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[PostgresStore]:
    """A store whose appends wait, and one whose appends are watched."""
    store = request.param(postgres_url)
    yield store
    store.close()


@pytest.fixture
def bare(postgres_url: str) -> Iterator[psycopg.Connection]:
    """The session that keeps the locks."""
    with bare_connection(postgres_url) as connection:
        connection.execute(f"SET search_path = {parse(postgres_url).schema}".encode())
        yield connection


def group(held: UnitBuilder, other: UnitBuilder) -> list[Unit]:
    """Neighbours of all kinds, and two units of the one that is held."""
    second = held.receive(kept_reply=kept_reply("k"), ends_lease=True)
    new = [UnitBuilder(f"new-{n}").begin() for n in range(2)]
    return [new[0], second, other.receive(), held.receive(), new[1]]


@pytest.mark.parametrize("lock", [STATUS, LEASE, NEW_REPLY])
def test_K5_a_locked_member_of_a_group_is_refused_alone(
    store: PostgresStore, bare: psycopg.Connection, lock: str
) -> None:
    # given an instance with a lease; another session keeps one of its rows
    held, other = UnitBuilder("held"), UnitBuilder("other")
    store.append([held.begin(), held.run("w1", NOW + 60_000_000)])
    store.append([other.begin(kept_reply=kept_reply("k"))])
    units = group(held, other)
    with bare.transaction(force_rollback=True):
        bare.execute(lock.encode())
        # when a group has units of it, and of others
        appended = store.append(units)
        # then all others are recorded, and the first of it can be tried again
        assert kinds(appended)[:3] == [None, StreamLocked, None]
        assert appended.errors[3] is not None
        assert appended.errors[4] is None
    assert store.append([units[1], units[3]]).errors == [None, None]


def test_K5_an_instance_that_another_session_is_about_to_make_is_refused_alone(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    held, other = UnitBuilder("held"), UnitBuilder("other")
    store.append([other.begin()])
    first = held.begin()
    with bare.transaction(force_rollback=True):
        bare.execute(NEW_ROW.encode())
        appended = store.append([other.receive(), first, UnitBuilder("new").begin()])
        assert kinds(appended) == [None, StreamLocked, None]
    assert store.append([first]).errors == [None]


def test_K5_neighbours_of_many_that_are_locked(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    builders = [UnitBuilder(f"o-{n}") for n in range(40)]
    store.append([builder.begin() for builder in builders])
    with bare.transaction():
        bare.execute(b"SELECT FROM status WHERE id LIKE '%%5' OR id LIKE '%%7' FOR UPDATE")
        errors = kinds(store.append([builder.receive() for builder in builders]))
    assert [n for n, error in enumerate(errors) if error is StreamLocked] == [
        n for n in range(40) if n % 10 in (5, 7)
    ]
    assert set(errors) == {None, StreamLocked}


def test_a_locked_row_that_is_free_in_time_is_written(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    builder = UnitBuilder()
    store.append([builder.begin()])
    with bare.transaction():
        bare.execute(b"SELECT FROM status FOR UPDATE")
    assert store.append([builder.receive()]).errors == [None]


def test_a_locked_table_is_waited_for_by_all(postgres_url: str, bare: psycopg.Connection) -> None:
    store = blocking(with_options(postgres_url, timeout=1))
    builder = UnitBuilder()
    store.append([builder.begin()])
    with bare.transaction():
        bare.execute(b"LOCK TABLE status")
        with pytest.raises(StoreUnavailableError) as caught:
            store.append([builder.fork().receive(), UnitBuilder("new").begin()])
    assert caught.value.reason == "locked"
    assert store.append([builder.receive()]).errors == [None]
    store.close()


def test_a_locked_instance_that_is_due_is_left_to_later_claims(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    held, other = UnitBuilder("held"), UnitBuilder("other")
    store.append([held.begin(NOW - 1), other.begin(NOW)])
    minute_us = 60_000_000
    with bare.transaction():
        bare.execute(STATUS.encode())
        assert [due.stream for due in store.claim(claim_request(-1, lease_us=minute_us))] == [
            other.stream
        ]
    assert [due.stream for due in store.claim(claim_request(-2))] == [held.stream]


def test_U2_a_lease_that_ends_while_another_session_only_locks_it_is_still_held(
    store: PostgresStore, bare: psycopg.Connection
) -> None:
    held = UnitBuilder("held")
    store.append([held.begin(), held.run("w1", NOW)])
    with bare.transaction():
        bare.execute(LEASE.encode())
        assert store.renew("w1", NOW + 60_000_000, NOW) == [(held.stream, 3)]
    assert store.renew("w1", NOW + 60_000_000, NOW) == [(held.stream, 3)]


# -- the engine


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(counter=counter_task(0))


async def sent(app: App, *ids: str) -> None:
    """Send 1 to each, all at once, and wait until all are recorded."""
    await asyncio.gather(*(app.task("counter").send(id, 1) for id in ids))


def holds(bare: psycopg.Connection, *ids: str) -> None:
    for id in ids:
        sql = b"SELECT FROM status WHERE stream = %s FOR UPDATE"
        assert bare.execute(sql, (f"task:counter:{id}",)).rowcount == 1


@pytest.mark.anyio
async def test_K5_others_go_on_beside_a_locked_instance_which_waits_in_its_order(
    jobs: Jobs, postgres_url: str, bare: psycopg.Connection
) -> None:
    async with (
        jobs.open(with_options(postgres_url, timeout=WAIT_S)) as app,
        asyncio.timeout(WAIT_S),
    ):
        await sent(app, "a", "b", "free")
        with bare.transaction():
            holds(bare, "a", "b")
            # when two instances are locked, and others are sent to meanwhile
            waiting = [
                asyncio.create_task(app.task("counter").send(id, 1)) for id in ("a", "b") * 3
            ]
            for n in range(50):
                await sent(app, "free", f"new-{n}")
            # then all of those are recorded, and none of these
            assert not any(task.done() for task in waiting)
            assert await app.task("counter").get_state("free") == 51
        # and when the rows are free, what waited is recorded, each once
        replies = await asyncio.gather(*waiting)
        assert [reply.version for reply in replies[::2]] == sorted(
            {reply.version for reply in replies[::2]}
        )
        await sent(app, "a")
        assert await app.task("counter").get_state("a") == 5
        assert await app.task("counter").get_state("b") == 4


@pytest.mark.anyio
async def test_K5_an_instance_that_stays_locked_fails_by_itself(
    jobs: Jobs, postgres_url: str, bare: psycopg.Connection
) -> None:
    async with jobs.open(with_options(postgres_url, timeout=0.5)) as app, asyncio.timeout(WAIT_S):
        await sent(app, "a", "free")
        with bare.transaction():
            holds(bare, "a")
            held = [asyncio.create_task(app.task("counter").send("a", 1)) for _ in range(3)]
            for task in held:
                with pytest.raises(StoreUnavailableError, match="task:counter:a locked") as caught:
                    await task
                assert caught.value.reason == "locked"
            await sent(app, "free")
        await sent(app, "a")
        assert await app.task("counter").get_state("a") == 2


@pytest.mark.anyio
async def test_K5_a_locked_instance_holds_up_no_other_that_a_new_rule_re_times(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    def version(every: str) -> Jobs:
        job = Continuous(state=int, every=every, start_immediately=False)
        job.execute(lambda ctx: None)
        return Jobs(job=job)

    ids = ["a", "b", "c"]
    async with version("30d").open(postgres_url) as old:
        for id in ids:
            await old.continuous("job").start(id, 0)
    url = with_options(postgres_url, timeout=0.5)
    async with version("1h").open(url) as new, asyncio.timeout(WAIT_S):
        with bare.transaction():
            bare.execute(b"SELECT FROM status WHERE id = 'a' FOR UPDATE")
            assert await retime(new.application, ["continuous:job"]) == 2
        assert await retime(new.application, ["continuous:job"]) == 1


@pytest.mark.anyio
async def test_U14_a_lost_lease_is_told_although_the_heartbeat_fails_after_it(
    postgres_url: str, bare: psycopg.Connection
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def execute(ctx: Ctx) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    url = with_options(postgres_url, timeout=0.1)
    jobs = Jobs(job=task_of(execute=execute))
    async with jobs.open(url, worker=True, lease="1s") as app, asyncio.timeout(WAIT_S):
        await app.task("job").send("a", {"schedule": 0})
        await begun.wait()
        # when its lease is taken from it, while it cannot say that it lives
        with bare_connection(postgres_url) as locking, locking.transaction():
            locking.execute(f"SELECT FROM {parse(postgres_url).schema}.workers FOR UPDATE".encode())
            bare.execute(b"UPDATE leases SET owner = 'other', until_us = 9e15::bigint")
            # then
            await cancelled.wait()
