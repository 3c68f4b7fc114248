"""E6: who can read and hold up what; passwords are shown nowhere."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import psycopg
import pytest

from tests.support import WAIT_S
from tests.support_postgres import bare_connection, with_options
from tests.support_roles import ROLES, drop_roles, make_roles
from wakelog import Continuous, Jobs, StoreUnavailableError, Task, WakelogError, WorkerPool
from wakelog.clock import SystemClock
from wakelog.jobs import open_store
from wakelog_adapters.postgres.admin import open_admin as open_postgres_admin
from wakelog_adapters.postgres.url import parse
from wakelog_adapters.sqlite.admin import open_admin


def order(
    execute: Callable[[Any], None] = lambda ctx: ctx.set_state(ctx.run_count), **options: Any
) -> Task[Any, Any]:
    task: Task[Any, Any] = Task(state=int, event=int, **options)
    task.on_event(lambda ctx, event: ctx.schedule(0))
    task.execute(execute)
    return task


# -- passwords

URLS = [
    "postgresql://me:hush/a@x@127.0.0.1:1/db",
    "postgresql://me:hush@a@127.0.0.1:1/db",
    "postgresql://me:hush",
    "postgresql://me:hush%zz@127.0.0.1:1/db",
    "postgresql://me:hush a@127.0.0.1:1/db",
    "postgresql://127.0.0.1:1/db?PASSWORD=hush",
    "postgresql://127.0.0.1:1/db?password=hush&schema=9",
    "postgresql://127.0.0.1:1/db?password=a&hush",
    "postgresql://127.0.0.1:1/db?password=a&hush=b",
    "postgresql://127.0.0.1:1/db?user=me&password=hush/a@b",
    "postgresql://127.0.0.1:1/db password=hush",
    "postgresql://me:hush@127.0.0.1:1/db?pool=1",
    "postgresql://me:hush?pool=1&x=@127.0.0.1:1/db",
    "host=127.0.0.1 password=hush",
    "postgresql://127.0.0.1:1/db;password=hush",
    "postgresql://127.0.0.1:1/db?oauth_client_secret=a&hush=b",
    "postgresql://hush/db?schema=9",
    "sqlite://me:hush@file/db",
    "sqlite:///file.db?password=hush",
    "sqlite:///file.db?password=a&hush",
    "sqlite:///file.db?timeout=hush",
    "memory://me:hush@name?pool=1",
    "mysql://me:hush@db/shop",
]


@pytest.mark.parametrize("url", URLS)
def test_E6_no_error_log_or_repr_shows_a_password(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    opening = Jobs(order=order()).open(url)
    with pytest.raises(WakelogError) as raised, opening:
        pass
    shown = [str(raised.value), repr(raised.value), repr(opening), caplog.text]
    error: BaseException | None = raised.value
    while error is not None:
        shown.append(str(error))
        error = error.__cause__ or error.__context__
    assert "hush" not in "".join(shown)


def test_E6_neither_does_the_place_of_a_store() -> None:
    assert "hush" not in repr(parse("postgresql://me:hush@db/shop"))


# -- files


def test_E6_a_new_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Jobs(order=order()).open(f"sqlite:///{tmp_path}/jobs.db") as app:
            app.task("order").send("a", 1)
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        admin = open_admin(f"sqlite:///{tmp_path}/migrated.db")
        with admin.connected(to_migrate=True):
            pass
        migrated = stat.S_IMODE((tmp_path / "migrated.db").stat().st_mode)
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["jobs.db", "jobs.db-wal", "jobs.db-shm"], 0o600)
    assert migrated == 0o600


def test_E6_so_is_one_that_a_link_names_before_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").symlink_to(tmp_path / "disk.db")
    before = os.umask(0)
    try:
        open_store(f"sqlite:///{tmp_path}/jobs.db").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "disk.db").stat().st_mode) == 0o600


def test_E6_the_rights_of_a_file_that_is_there_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    file.touch()
    file.chmod(0o640)
    open_store(f"sqlite:///{file}").close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


# -- roles


@pytest.fixture
def roles(postgres_url: str) -> Iterator[dict[str, str]]:
    """The URLs of the roles that docs/deploying.md makes, by name, and that of a stranger."""
    open_store(postgres_url).close()
    names = (*ROLES, "jobs_stranger")
    try:
        yield make_roles(postgres_url, *names)
    finally:
        drop_roles(postgres_url, *names)


def test_E6_a_worker_a_client_and_a_reader_have_the_rights_they_need(roles: dict[str, str]) -> None:
    jobs = Jobs(order=order())
    with jobs.open(roles["jobs_client"], handlers=False) as client:
        assert client.task("order").send("a", 1, event_id="k").deferred
        assert client.task("order").send("a", 1, event_id="k").duplicate
        assert client.task("order").clear("b").cleared is False
    with jobs.open(roles["jobs_worker"], worker=True) as worker:
        assert worker.task("order").send("c", 1, delay=0, wait=True, timeout=20).version
        assert not worker.task("order").trigger("a", timeout=20).failed  # or it was running
    with jobs.open(with_options(roles["jobs_reader"], migrate="off"), handlers=False) as reader:
        assert reader.count(type="task") == 2
        assert len(reader.history("task:order:a")) > 3
        with pytest.raises(StoreUnavailableError, match="read_only"):
            reader.task("order").send("d", 1)


def test_E6_a_client_puts_into_a_pool_what_a_worker_works_on(roles: dict[str, str]) -> None:
    pool: WorkerPool[Any] = WorkerPool(event=int, concurrency=2)
    ran: list[int] = []
    pool.execute(lambda ctx, event: ran.append(event))
    jobs = Jobs(pool=pool)
    with jobs.open(roles["jobs_client"], handlers=False) as app:
        client = app.worker_pool(pool)
        ids = [client.enqueue(n, id=f"id-{n}", priority=n).event_id for n in range(3)]
        late = client.enqueue(3, delay="1h").event_id
        assert client.cancel_event(ids[0]).cancelled
        assert client.set_priority(7, [late]).events == (late,)
        client.pause()
        client.resume()
        with jobs.open(roles["jobs_worker"], worker=True):
            assert client.wait(ids[2], timeout=20).status == "completed"
        with jobs.open(with_options(roles["jobs_reader"], migrate="off"), handlers=False) as reader:
            assert reader.worker_pool(pool).get(late).status == "delayed"
    assert set(ran) <= {1, 2}


def test_E6_a_client_ends_what_lives_and_what_runs(roles: dict[str, str]) -> None:
    begun: Queue[str] = Queue()

    async def stay(ctx: Any) -> None:
        begun.put(ctx.id)
        await asyncio.sleep(WAIT_S)

    tick: Continuous[Any] = Continuous(state=int, every="1h")
    tick.execute(stay)
    task: Task[Any, Any] = Task(state=int, event=int)
    task.execute(stay)

    @task.on_event
    def told(ctx: Any, event: int) -> None:
        ctx.set_state(event)
        if event:
            ctx.schedule(0)

    jobs = Jobs(task=task, tick=tick)
    with (
        jobs.open(roles["jobs_worker"], worker=True, grace=0) as worker,
        jobs.open(roles["jobs_client"], handlers=False) as client,
    ):
        # given one that lives, and two that run
        worker.task(task).send("lives", 0)
        worker.task(task).send("runs", 1)
        client.continuous(tick).start("ticks", 1, wait=False)
        assert {begun.get(timeout=WAIT_S) for _ in range(2)} == {"runs", "ticks"}
        # when a client clears and terminates, then they have ended
        assert client.task(task).clear("lives").cleared
        assert client.task(task).clear("runs").cleared
        assert client.continuous(tick).terminate("ticks").terminated
        assert [client.task(task).status(each).status for each in ("lives", "runs")] == [
            "not_found",
            "not_found",
        ]


def test_E6_doctor_knows_the_roles_and_what_each_needs(
    roles: dict[str, str], postgres_url: str
) -> None:
    def said(role: str) -> tuple[str, str]:
        admin = open_postgres_admin(roles[role])
        with admin.connected() as connection:
            found = list(admin.check_database(connection, SystemClock()))
        [rights] = [each for each in found if each.check == "rights"]
        return rights.level, rights.text

    assert said("jobs_worker") == ("ok", "this user has all the rights that it needs")
    for name in ("client", "reader"):
        assert said(f"jobs_{name}")[0] == "ok"
        assert f"the rights of a {name}" in said(f"jobs_{name}")[1]
    # and each right that the script gives to a client or a reader is needed
    schema = parse(postgres_url).schema
    with bare_connection(postgres_url) as owner:
        for rights, table, name in (
            ("UPDATE (run)", "leases", "client"),
            ("UPDATE (reason)", "job_pauses", "client"),
            ("DELETE", "pool_states", "client"),
            ("SELECT", "status", "reader"),
        ):
            changed = f"{rights} ON {schema}.{table}"
            owner.execute(f"REVOKE {changed} FROM jobs_{name}".encode())
            lacks = f"this user lacks rights of a {name} to {table}"
            assert said(f"jobs_{name}") == ("problem", lacks)
            owner.execute(f"GRANT {changed} TO jobs_{name}".encode())
    assert said("jobs_stranger")[0] == "problem"


def test_E6_a_client_and_a_worker_cannot_change_what_is_recorded(roles: dict[str, str]) -> None:
    schema = parse(roles["jobs_client"]).schema
    for name in ROLES:
        with bare_connection(roles[name]) as role:
            for what in (
                f"UPDATE {schema}.stored_events SET topic = ''",
                f"DELETE FROM {schema}.stored_events",
                f"TRUNCATE {schema}.stored_events",
                f"DELETE FROM {schema}.migrations",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    role.execute(what.encode())


def test_E6_a_client_can_neither_take_nor_prolong_a_lease(roles: dict[str, str]) -> None:
    schema = parse(roles["jobs_client"]).schema
    with bare_connection(roles["jobs_client"]) as role:
        for what in (
            f"INSERT INTO {schema}.leases SELECT 's', 'j', 'o', 1, 1, false",
            f"UPDATE {schema}.leases SET until_us = 0",
            f"UPDATE {schema}.leases SET owner = 'o'",
            f"UPDATE {schema}.leases SET token = 0",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(what.encode())


def test_E6_a_role_without_rights_stops_neither_appends_nor_claims(roles: dict[str, str]) -> None:
    schema = parse(roles["jobs_worker"]).schema
    with bare_connection(roles["jobs_stranger"]) as stranger, stranger.transaction():
        # given one that holds every advisory lock that a table of the schema could stand for
        stranger.execute(
            b"SELECT count(pg_advisory_xact_lock(c.oid::int, 0)) FROM pg_class c"
            b" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s",
            (schema,),
        )
        # then events are appended
        with Jobs(order=order()).open(with_options(roles["jobs_worker"], timeout=2)) as app:
            assert app.task("order").send("a", 1).created
    with bare_connection(roles["jobs_stranger"]) as stranger, stranger.transaction():
        # given one that holds every advisory lock that the name of a job could stand for
        stranger.execute(
            b"SELECT count(pg_advisory_xact_lock(c.oid::int, hashtext('task:order')))"
            b" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s",
            (schema,),
        )
        # then runs of a job with a limit begin
        ran: Queue[str] = Queue()
        limited = order(lambda ctx: ran.put(ctx.id), max_running=1)
        with Jobs(order=limited).open(roles["jobs_worker"], worker=True) as app:
            app.task("order").send("b", 1)
            assert {ran.get(timeout=WAIT_S) for _ in range(2)} == {"a", "b"}
    lock = f"BEGIN; LOCK TABLE {schema}.ordering IN SHARE UPDATE EXCLUSIVE MODE".encode()
    for name in ("jobs_stranger", "jobs_reader"):
        with (
            bare_connection(roles[name]) as role,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            role.execute(lock)
