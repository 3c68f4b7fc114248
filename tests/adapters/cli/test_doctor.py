"""`wakelog doctor`: each finding is provoked on a real store, and says what to do."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.test_migrate import later, migrate_further, newest
from tests.adapters.postgres.network_cuts import (
    as_a_pooler_would,
    as_if_all_shared_a_session,
    wired,
)
from tests.support import WAIT_S, counter_task, numbers
from tests.support_postgres import bare_connection, serving, with_options
from wakelog import Jobs, Task, TaskContext
from wakelog.clock import SystemClock
from wakelog.core.events import (
    DeadLettered,
    EventReceived,
    ExecutionFailed,
    Parked,
    Returned,
)
from wakelog.jobs import open_store
from wakelog.ports.rows import WorkerRow
from wakelog.ports.store import Store
from wakelog_adapters.conformance.units import ORDERS, UnitBuilder
from wakelog_adapters.postgres import admin as postgres_admin
from wakelog_adapters.sql.admin import store_admin
from wakelog_adapters.sqlite import admin as sqlite_admin
from wakelog_adapters.sqlite.url import parse

MINUTE_US = 60_000_000
_NUMBERS = numbers()
Findings = dict[str, tuple[str, str]]
"""Of each check, the level and all that was said."""


@pytest.fixture(scope="module")
def safe_server() -> Iterator[str]:
    """A server whose settings lose nothing, until a test changes them."""
    with serving(safe=True) as url:
        yield url


@pytest.fixture
def server_url(safe_server: str) -> Iterator[str]:
    """A new store there."""
    schema = f"test_{next(_NUMBERS)}"
    yield with_options(safe_server, schema=schema)
    with bare_connection(safe_server) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


@pytest.fixture(params=["sqlite", "server"])
def url(request: pytest.FixtureRequest) -> str:
    """A new store of each kind."""
    name: str = request.getfixturevalue(f"{request.param}_url")
    return name


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """The store, opened."""
    with closing(open_store(url)) as factory:
        yield factory.application_recorder()


def examined(url: str) -> tuple[int, Findings]:
    """The exit code, and what was found."""
    result = CommandLine(url)("doctor", "--json")
    said = json.loads(result.stdout)
    found = {each["check"]: each for each in said["findings"]}
    assert said["healthy"] is (result.exit_code == 0)
    assert all(bool(each["advice"]) is (each["level"] != "ok") for each in found.values())
    return result.exit_code, {
        check: (each["level"], f"{each['text']} -> {each['advice']}")
        for check, each in found.items()
    }


def is_problem(url: str, check: str, *said: str) -> None:
    code, found = examined(url)
    assert code == 1
    assert found[check][0] == "problem"
    assert [words for words in said if words not in found[check][1]] == []
    assert [name for name, (level, _) in found.items() if level == "problem"] == [check]


def is_warning(url: str, check: str, *said: str) -> None:
    code, found = examined(url)
    assert (code, found[check][0]) == (0, "warning")
    assert [words for words in said if words not in found[check][1]] == []


def now() -> int:
    return time.time_ns() // 1000


def living(store: Store, *jobs: str, worker: str = "host:1:a", for_us: int = MINUTE_US) -> None:
    """A worker that has said that it lives."""
    store.put_worker(WorkerRow(worker, jobs, 9, "host", 1, now(), now(), now() + for_us))


def by_hand(url: str, sql: str) -> None:
    """Change a store's tables, whose names begin with `{t}`, behind its back."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(parse(url).path)) as connection, connection:
            connection.execute(sql.replace("{t}", "wakelog_"))
    else:
        schema = url.partition("schema=")[2]
        with bare_connection(url) as bare:
            bare.execute(sql.replace("{t}", f"{schema}.").encode())


# -- a store that is well


def test_nothing_is_found_where_all_is_well(url: str) -> None:
    with Jobs(order=counter_task()).open(url, worker=True):
        code, found = examined(url)
    assert (code, {level for level, _ in found.values()}) == (0, {"ok"})
    assert found["workers"][1].startswith("1 worker running")
    assert found["schema"][1].startswith("up to date")
    everywhere = {
        "server",
        "schema",
        "workers",
        "due",
        "leases",
        "stranded",
        "log",
        "future",
        "failed",
        "dead_letters",
        "waiting_for_code",
        "messages",
        "inbox",
        "pools",
    }
    of_its_own = (
        {"journal", "integrity"}
        if url.startswith("sqlite")
        else {"pooler", "fsync", "full_page_writes", "synchronous_commit", "clock", "rights"}
    )
    assert set(found) == everywhere | of_its_own


def test_people_get_a_line_for_each_finding_and_what_to_do(url: str, store: Store) -> None:
    store.append([UnitBuilder().begin(now() - MINUTE_US)])
    result = CommandLine("")("doctor", url)
    assert result.exit_code == 1
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    [at] = [n for n, line in enumerate(lines) if line.startswith("problem")]
    assert "1 instance of task:order due, the oldest for 60 s: no running worker" in lines[at]
    assert lines[at + 1].strip().startswith("-> start a worker that knows task:order")
    assert lines[-1] == "1 problem, 1 warning"


def test_a_password_is_not_shown(server_url: str) -> None:
    open_store(server_url).close()
    result = CommandLine(server_url.replace("postgres:@", "postgres:secret@"))("doctor")
    assert "secret" not in result.output


# -- its schema


def test_a_schema_that_is_not_there(server_url: str) -> None:
    is_problem(server_url, "schema", "lacks 0001_initial", "run wakelog migrate")
    assert not store_admin(server_url).schema_version().number


def test_a_schema_that_is_newer(url: str) -> None:
    open_store(url).close()
    migrate_further(url, later(url, newest(url)))
    is_warning(url, "schema", "newer than this wakelog", "upgrade")


def test_a_schema_that_is_too_new(url: str) -> None:
    open_store(url).close()
    migrate_further(url, later(url, newest(url) + 1))
    is_problem(url, "schema", "upgrade this wakelog")


# -- its work


def test_U9_an_instance_was_written_to_while_a_clock_was_ahead(url: str, store: Store) -> None:
    store.append([UnitBuilder().begin(now() + 60 * MINUTE_US, at_us=now() + 60 * MINUTE_US)])
    is_warning(url, "future", "1 instance lies up to", "ahead (task:order:o-1)", "clocks")


def test_no_worker_lives(url: str, store: Store) -> None:
    store.append([UnitBuilder().begin(now() + 60 * MINUTE_US)])
    living(store, ORDERS, for_us=-1)
    is_warning(url, "workers", "no worker is running", "1 instance", "1 other ended without")


def test_workers_of_two_versions_in_a_rolling_deploy_are_no_finding(url: str, store: Store) -> None:
    job = "continuous:beat"
    for worker, rule in (("host:1:old", "every 30d"), ("host:2:new", "every 1h")):
        times = now(), now(), now() + MINUTE_US
        store.put_worker(WorkerRow(worker, (job,), 9, "host", 1, *times, json.dumps({job: rule})))
    code, found = examined(url)
    assert (code, found["workers"][0]) == (0, "ok")
    assert found["workers"][1].startswith("2 workers running")


def test_work_is_due_that_no_worker_knows(url: str, store: Store) -> None:
    living(store, "task:mail")
    store.append([UnitBuilder(f"o-{number}").begin(now() - 3 * MINUTE_US) for number in range(3)])
    is_problem(url, "due", "3 instances of task:order", "for 3 min", "no running worker knows it")


def test_the_workers_are_behind(url: str, store: Store) -> None:
    living(store, ORDERS)
    store.append([UnitBuilder().begin(now() - 3 * MINUTE_US)])
    is_warning(url, "due", "the workers are behind", "--concurrency")


def test_what_is_being_worked_on_is_not_overdue(url: str, store: Store) -> None:
    builder = UnitBuilder()
    at_us = now() - 10 * MINUTE_US
    units = [
        builder.begin(at_us, at_us=at_us),
        builder.run("w1", at_us + 60 * MINUTE_US, at_us=at_us),
    ]
    living(store, ORDERS)
    store.append(units)
    code, found = examined(url)
    assert (code, {level for level, _ in found.values()}) == (0, {"ok"})
    assert found["leases"][1].startswith("1 lease,")


def test_nobody_takes_up_a_lease_that_ended_long_ago(url: str, store: Store) -> None:
    builder = UnitBuilder()
    store.append([builder.begin(at_us=now()), builder.run("w1", now() + MINUTE_US, at_us=now())])
    by_hand(url, f"UPDATE {{t}}leases SET until_us = until_us - {11 * MINUTE_US}")
    is_problem(url, "leases", "1 lease expired up to 10 min ago", "begins the runs again")


def test_a_run_has_lost_its_lease(url: str, store: Store) -> None:
    """Given up without an event, as after work that failed unexpectedly."""
    builder, at_us = UnitBuilder(), now() - 5 * MINUTE_US
    run = [builder.begin(at_us=at_us), builder.run("w1", at_us + MINUTE_US, at_us=at_us)]
    store.append(run)
    store.release("w1", [(builder.stream, 3)])
    is_warning(url, "stranded", "1 instance with work", "re-arms")


def test_work_has_lost_its_alarm(url: str, store: Store) -> None:
    at_us = now() - 5 * MINUTE_US
    store.append([UnitBuilder().begin(now() + MINUTE_US, at_us=at_us)])
    by_hand(url, "DELETE FROM {t}alarms")
    is_warning(url, "stranded", "1 instance with work", "neither alarm nor lease")


def test_instances_have_failed_or_cannot_be_read(url: str, store: Store) -> None:
    bad, worse = UnitBuilder("bad"), UnitBuilder("worse")
    store.append(
        [
            *(bad.begin(), bad.run("w1", now() + MINUTE_US)),
            bad.unit(
                ExecutionFailed(handler="execute", error_type="E", message="no", run=1, attempt=1),
                ends_lease=True,
            ),
        ]
    )
    is_warning(url, "failed", "1 instance failed", "wakelog ls --status failed")
    parked = Parked(reason="unreadable", error_type="UnreadableEventError", message="no")
    store.append([worse.begin(), worse.unit(parked)])
    is_problem(url, "parked", "1 instance parked", "wakelog history")
    assert examined(url)[1]["failed"][1].startswith("1 instance failed")


def test_A9_there_are_dead_letters(url: str, store: Store) -> None:
    builder, event = UnitBuilder(), EventReceived(deferred=True, payload="1")
    dead = DeadLettered(event_version=3, reason="handler_failed")
    store.append([builder.begin(), builder.unit(event, dead, dead)])
    is_warning(url, "dead_letters", "2 dead letters of 1 instance", "wakelog requeue")


def test_K4_something_waits_for_code(url: str, store: Store) -> None:
    builder, event = UnitBuilder(), EventReceived(deferred=True, payload="1")
    back = Returned(event_version=3, error_type="ValidationError", message="email: Field required")
    store.append([builder.begin(), builder.unit(event, back)])
    is_warning(url, "waiting_for_code", "1 instance with an event or a state", "start a worker")
    assert "task:order:o-1: ValidationError: email" in examined(url)[1]["waiting_for_code"][1]


# -- PostgreSQL


@contextmanager
def set_for_all(server: str, name: str, value: str) -> Iterator[None]:
    """A setting of the database, for new sessions."""
    with bare_connection(server) as bare:
        bare.execute(f"ALTER DATABASE postgres SET {name} = {value}".encode())
        try:
            yield
        finally:
            bare.execute("SET default_transaction_read_only = off")
            bare.execute(f"ALTER DATABASE postgres RESET {name}".encode())


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_the_server_does_not_wait_for_the_disk(
    safe_server: str, server_url: str, name: str
) -> None:
    open_store(server_url).close()
    with bare_connection(safe_server) as bare:
        bare.execute(f"ALTER SYSTEM SET {name} = off".encode())
        reload(bare, name, "off")
        try:
            is_problem(server_url, name, f"{name} is off", f"set {name} = on")
        finally:
            bare.execute(f"ALTER SYSTEM RESET {name}".encode())
            reload(bare, name, "on")


def reload(bare: psycopg.Connection, name: str, value: str) -> None:
    bare.execute("SELECT pg_reload_conf()")
    deadline_s = time.monotonic() + WAIT_S
    while bare.execute(f"SHOW {name}".encode()).fetchone() != (value,):
        assert time.monotonic() < deadline_s


def test_commits_are_answered_before_they_are_on_the_disk(
    safe_server: str, server_url: str
) -> None:
    open_store(server_url).close()
    with set_for_all(safe_server, "synchronous_commit", "off"):
        is_problem(server_url, "synchronous_commit", "is off", "the role")
    with set_for_all(safe_server, "synchronous_commit", "local"):
        is_warning(server_url, "synchronous_commit", "is local", "standby")
    with set_for_all(safe_server, "synchronous_commit", "remote_apply"):
        assert examined(server_url)[0] == 0


def test_this_user_may_only_read(safe_server: str, server_url: str) -> None:
    open_store(server_url).close()
    with set_for_all(safe_server, "default_transaction_read_only", "on"):
        is_problem(server_url, "server", "is read-only for this user", "primary")


def test_the_server_is_too_old(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if those who make it no longer looked after the one that is there."""
    open_store(server_url).close()
    monkeypatch.setattr(postgres_admin, "OLDEST", 99)
    is_problem(server_url, "server", "too old", "99 or newer")


class Apart(SystemClock):
    """A machine whose clock is wrong."""

    def __init__(self, by_us: int) -> None:
        self._by_us = by_us

    def now_us(self) -> int:
        return now() + self._by_us


@pytest.mark.parametrize(
    ("by_us", "level", "said"),
    [
        (0, "ok", "0.0 s apart"),
        (10_000_000, "warning", "ahead of the server's"),
        (-10_000_000, "warning", "behind the server's"),
        (-5 * MINUTE_US, "problem", "5 min behind the server's"),
    ],
)
def test_the_clocks_are_apart(server_url: str, by_us: int, level: str, said: str) -> None:
    open_store(server_url).close()
    found = {each.check: each for each in store_admin(server_url).check_health(Apart(by_us))}
    assert (found["clock"].level, said in found["clock"].text) == (level, True)


def test_a_pooler_stands_between(server_url: str) -> None:
    open_store(server_url).close()
    with wired(server_url) as (wire, url):
        declared = with_options(url, pooler="transaction")
        kept = with_options(url, pooler="session")
        assert examined(url)[1]["pooler"] == ("ok", "there is no pooler -> None")
        is_warning(declared, "pooler", "no pooler", "leave")
        wire.answering = as_a_pooler_would
        is_warning(url, "pooler", "there is a pooler", "pooler=session (notifies workers)")
        assert examined(declared)[1]["pooler"][0] == "ok"
        assert examined(kept)[1]["pooler"][1].startswith("there is a pooler, which keeps")
        wire.answering = as_if_all_shared_a_session
        assert examined(declared)[1]["pooler"][0] == "ok"
        is_problem(kept, "pooler", "but the URL has pooler=session", "pooler=transaction")


def test_a_user_lacks_rights(server_url: str) -> None:
    """Each statement of docs/upkeep.md gives some; with all of them a worker can work."""
    open_store(server_url).close()
    schema = server_url.partition("schema=")[2]
    page = (Path(__file__).parents[3] / "docs/upkeep.md").read_text()
    grants = re.findall(r"^GRANT .*;$", page, re.MULTILINE)
    user = server_url.replace("postgres:@", "guest:@")
    with bare_connection(server_url) as bare:
        bare.execute("CREATE ROLE guest LOGIN")
        for lacks in (f"schema {schema}", "alarms, ", "stored_events_notification_id_seq"):
            is_problem(user, "rights", lacks, "owner GRANT")
            grant = grants.pop(0).replace("SCHEMA jobs", f"SCHEMA {schema}")
            bare.execute(grant.replace(" TO app", " TO guest").encode())
        log = f"{schema}.stored_events, {schema}.migrations"
        bare.execute(f"REVOKE UPDATE, DELETE ON {log} FROM guest".encode())
        try:
            works_for(user)
        finally:
            bare.execute("DROP OWNED BY guest")
            bare.execute("DROP ROLE guest")
    assert grants == []


def works_for(url: str) -> None:
    """Nothing is lacking that is asked of a store."""
    ran = threading.Event()
    task: Task[int, int] = Task(state=int, event=int)

    @task.on_event
    def told(ctx: TaskContext[int], event: int) -> None:
        ctx.set_state(event)
        ctx.schedule(0)

    @task.execute
    async def run(ctx: TaskContext[int]) -> None:
        ran.set()

    with Jobs(order=task).open(url, worker=True) as app:
        app.pause(task)
        app.resume(task)
        app.task(task).send("o-1", 1, event_id="e")
        assert ran.wait(WAIT_S)
        assert app.task(task).forget_key("o-1", "e")
        assert examined(url)[1]["rights"][0] == "ok"


def test_what_cannot_be_asked_is_unavailable(server_url: str, tmp_path: Path) -> None:
    nowhere = CommandLine(f"postgresql:///x?host={tmp_path}")
    assert "unreachable" in nowhere.refusal(3, "doctor")
    with bare_connection(server_url) as bare:
        bare.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            latin = CommandLine(server_url.replace("/postgres?", "/latin?"))
            assert "LATIN1" in latin.refusal(3, "doctor")
        finally:
            bare.execute("DROP DATABASE latin WITH (FORCE)")


# -- SQLite


def test_a_file_is_not_made_by_looking_for_it(sqlite_url: str) -> None:
    assert "there is no file" in CommandLine(sqlite_url).refusal(3, "doctor")
    path = Path(parse(sqlite_url).path)
    assert not path.exists()
    path.write_bytes(b"something else " * 1000)
    assert "not_a_database" in CommandLine(sqlite_url).refusal(3, "doctor")


def test_a_file_is_left_as_it_is(sqlite_url: str) -> None:
    open_store(sqlite_url).close()
    with closing(sqlite3.connect(parse(sqlite_url).path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    is_warning(sqlite_url, "journal", "journal_mode is delete", "makes it wal again")
    is_warning(sqlite_url, "journal", "journal_mode is delete")


def test_a_damaged_file(sqlite_url: str) -> None:
    path = Path(parse(sqlite_url).path)
    with closing(open_store(sqlite_url)) as factory:
        builders = [UnitBuilder(f"o-{number}") for number in range(500)]
        factory.application_recorder().append([builder.begin() for builder in builders])
    with closing(sqlite3.connect(path)) as connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'wakelog_status'"
        ).fetchone()
    content = bytearray(path.read_bytes())
    content[4096 * (root - 1) : 4096 * root] = b"\xa5" * 4096
    path.write_bytes(content)
    is_problem(sqlite_url, "integrity", "the file is damaged", "restore a copy")


def test_a_library_that_is_too_old(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(sqlite_url).close()
    monkeypatch.setattr(sqlite_admin, "OLDEST", (99, 0, 0))
    is_problem(sqlite_url, "server", "too old", "99.0.0 or newer")
