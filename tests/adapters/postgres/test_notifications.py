"""Notifications of alarms between processes, and what happens if connections are cut."""

from __future__ import annotations

import errno
import queue
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from tests.adapters.postgres.network_cuts import as_a_pooler_would, wired
from tests.support import WAIT_S
from tests.support_postgres import bare_connection, with_options
from wakelog import Jobs, Task
from wakelog.errors import StoreUnavailableError
from wakelog.ports.rows import JobPauseRow
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder
from wakelog_adapters.postgres import PostgresStore, notifications, open_store
from wakelog_adapters.postgres.connections import Connection, Waits, connect
from wakelog_adapters.postgres.notifications import POLL_WITH_LISTENER_US, POLL_WITHOUT_LISTENER_US
from wakelog_adapters.postgres.url import StoreLocation

Alarms = queue.SimpleQueue[int]
FAR_US = 3_600_000_000


@pytest.fixture
def stores(postgres_url: str) -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """Two openings of one store, as two processes have them."""
    one, two = (open_store(postgres_url).application_recorder() for _ in range(2))
    yield one, two
    one.close()
    two.close()


@pytest.fixture
def bare(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the database, beside the stores."""
    with bare_connection(postgres_url) as connection:
        yield connection


@contextmanager
def listening(store: PostgresStore) -> Iterator[Alarms]:
    """The notifications that a store receives, after the first, which says that it listens."""
    alarms: Alarms = queue.SimpleQueue()
    stop = store.watch_alarms(alarms.put)
    try:
        assert alarms.get(timeout=WAIT_S) == 0
        assert store.poll_us == POLL_WITH_LISTENER_US
        yield alarms
    finally:
        stop()


def soon() -> int:
    """A time that needs a notification: it comes before the next poll of other processes."""
    return time.time_ns() // 1000 + 1_000_000


def backends(bare: psycopg.Connection, store: PostgresStore, query: str) -> list[int]:
    """The server's processes whose last query is like this one; `{channel}` is the schema's."""
    like = query.replace("{channel}", f"wakelog_{store.datastore.schema}")
    rows = bare.execute("SELECT pid FROM pg_stat_activity WHERE query LIKE %s", (like,)).fetchall()
    return [pid for (pid,) in rows if pid != bare.info.backend_pid]


def until(is_so: Callable[[], Any]) -> None:
    """Wait until the server, or the log, shows it."""
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s


# -- which processes are notified, and of what


def test_another_process_is_notified_of_an_alarm(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    with listening(two) as alarms:
        for number, due_us in enumerate((NOW, soon(), NOW + 7)):
            one.append([UnitBuilder(f"o-{number}").begin(due_us)])
            assert alarms.get(timeout=WAIT_S) == due_us
            assert len(two.status([f"task:order:o-{number}"])) == 1


def test_A5_another_process_is_notified_of_the_end_of_a_job_pause(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    one.pause_job(JobPauseRow(ORDERS, None, None, NOW))
    with listening(two) as alarms:
        one.resume_job(ORDERS)
        assert alarms.get(timeout=WAIT_S) == 0
        assert two.job_pauses() == []


def test_K2_another_process_is_notified_of_released_leases(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    builder = UnitBuilder()
    one.append([builder.begin(), builder.run("w1", NOW + FAR_US)])
    with listening(two) as alarms:
        one.release("w1", [(builder.stream, 3)])
        assert alarms.get(timeout=WAIT_S) == 0
        assert two.leases(NOW, 10) == []


def test_a_process_is_not_notified_of_its_own_alarms(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    with listening(one) as mine, listening(two) as others:
        one.append([UnitBuilder("o-1").begin(NOW + 1)])
        assert others.get(timeout=WAIT_S) == NOW + 1
        two.append([UnitBuilder("o-2").begin(NOW + 2)])
        assert mine.get(timeout=WAIT_S) == NOW + 2  # its own one came before, and was skipped
        assert others.empty()


def test_no_notification_is_sent_of_what_other_processes_find_by_polling(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with listening(two) as alarms:
        one.append([UnitBuilder("far").begin(soon() + FAR_US)])
        one.append([UnitBuilder("none").begin()])
        assert not one.notifier.is_started  # so that there is no connection either
        one.append([UnitBuilder("near").begin(NOW)])
        assert alarms.get(timeout=WAIT_S) == NOW


def test_another_schema_is_not_notified(
    stores: tuple[PostgresStore, PostgresStore], postgres_url: str, bare: psycopg.Connection
) -> None:
    one, two = stores
    schema = f"{one.datastore.schema}_b"
    with (
        closing(open_store(with_options(postgres_url, schema=schema))) as factory,
        listening(factory.application_recorder()) as elsewhere,
        listening(two) as alarms,
    ):
        one.append([UnitBuilder().begin(NOW)])
        assert alarms.get(timeout=WAIT_S) == NOW
        factory.application_recorder().append([UnitBuilder().begin(NOW)])
        assert elsewhere.empty()
    bare.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def test_a_simulation_sends_no_notifications(
    stores: tuple[PostgresStore, PostgresStore], postgres_url: str
) -> None:
    with closing(open_store(with_options(postgres_url, clock="given"))) as factory:
        store = factory.application_recorder()
        store.append([UnitBuilder().begin(NOW)])
        assert not store.notifier.is_started


def test_foreign_notifications_on_the_channel_are_skipped(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with listening(two) as alarms:
        long = "a " + "9" * 5_000  # more digits than Python makes an integer of
        for payload in ("", "x", "a b c", "a -5", "a 1e9", "a \u0663", long):
            channel = f"wakelog_{one.datastore.schema}"
            bare.execute("SELECT pg_notify(%s, %s)", (channel, payload))
        one.append([UnitBuilder().begin(NOW)])
        assert alarms.get(timeout=WAIT_S) == NOW


# -- debounced, off the write path


def test_many_alarms_go_into_one_notification_of_the_earliest(
    stores: tuple[PostgresStore, PostgresStore],
    bare: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes while the notifier waits, here until it is closed, goes into one notification."""
    monkeypatch.setattr(notifications, "DEBOUNCE_S", 10 * WAIT_S)
    one, _ = stores
    bare.execute(f"LISTEN wakelog_{one.datastore.schema}".encode())
    for number in range(50):
        one.append([UnitBuilder(f"o-{number}").begin(NOW + 50 - number)])
    one.close()
    sent = [int(each.payload.split(" ")[1]) for each in bare.notifies(timeout=0.5)]
    assert len(sent) == 2
    assert sent[0] > sent[1] == NOW + 1


def test_closing_sends_what_is_still_to_be_sent(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    with listening(two) as alarms:
        one.append([UnitBuilder().begin(NOW)])
        one.close()
        assert alarms.get(timeout=WAIT_S) == NOW
    assert one.notifier.is_started
    assert not one.notifier.is_running


def test_a_notifier_replaces_a_broken_connection(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection, postgres_url: str
) -> None:
    _, two = stores
    url = with_options(postgres_url, application_name="notifying")
    with closing(open_store(url)) as factory, listening(two) as alarms:
        one = factory.application_recorder()
        one.append([UnitBuilder("o-1").begin(NOW)])
        assert alarms.get(timeout=WAIT_S) == NOW
        cut_off = bare.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'notifying' AND query LIKE 'SELECT pg_notify%'"
        )
        assert cut_off.fetchall() == [(True,)]
        one.append([UnitBuilder("o-2").begin(NOW + 2)])
        assert alarms.get(timeout=WAIT_S) == NOW + 2


CANNOT_CONNECT = (
    StoreUnavailableError("unreachable", "too many connections"),
    OSError(errno.EMFILE, "Too many open files"),
    MemoryError(),
)


@pytest.mark.parametrize("error", CANNOT_CONNECT, ids=repr)
def test_appends_do_not_wait_for_a_notifier_that_cannot_connect(
    stores: tuple[PostgresStore, PostgresStore],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """The server takes no more connections; what is to be sent is sent once it does."""
    one, two = stores
    refuse = threading.Event()

    def connect_or_refuse(location: StoreLocation, waits: Waits) -> Connection:
        if refuse.is_set():
            raise error
        return connect(location, waits)

    monkeypatch.setattr(notifications, "connect", connect_or_refuse)
    monkeypatch.setattr(notifications, "_PAUSE_S", 0.01)
    with listening(two) as alarms:
        refuse.set()
        for number in range(20):
            assert one.append([UnitBuilder(f"o-{number}").begin(NOW + number)]).errors == [None]
        until(lambda: "other processes cannot be notified of alarms" in caplog.text)
        refuse.clear()
        assert alarms.get(timeout=WAIT_S) == NOW


# -- a listener that is cut off, and listens again


def test_a_listener_that_is_cut_off_polls_often_and_listens_again(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with listening(two) as alarms:
        [pid] = backends(bare, two, "LISTEN {channel}")
        bare.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert alarms.get(timeout=WAIT_S) == 0  # cut off: look now
        assert alarms.get(timeout=WAIT_S) == 0  # listens again: look now
        assert two.poll_us == POLL_WITH_LISTENER_US
        one.append([UnitBuilder().begin(NOW)])
        assert alarms.get(timeout=WAIT_S) == NOW
        until(lambda: pid not in backends(bare, two, "LISTEN {channel}"))


@pytest.mark.parametrize("error", CANNOT_CONNECT, ids=repr)
def test_a_listener_that_cannot_connect_for_a_while_polls_often_and_listens_again(
    stores: tuple[PostgresStore, PostgresStore],
    bare: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    one, two = stores
    refused = queue.SimpleQueue[None]()
    refuse = threading.Event()

    def connect_or_refuse(location: StoreLocation, waits: Waits) -> Connection:
        if refuse.is_set():
            refused.put(None)
            raise error
        return connect(location, waits)

    monkeypatch.setattr(notifications, "connect", connect_or_refuse)
    with listening(two) as alarms:
        # when it is cut off, and cannot connect again
        refuse.set()
        [pid] = backends(bare, two, "LISTEN {channel}")
        bare.execute("SELECT pg_terminate_backend(%s)", (pid,))
        for _ in range(3):
            refused.get(timeout=WAIT_S)
        # then it is polled often
        assert two.poll_us == POLL_WITHOUT_LISTENER_US
        # and listens as soon as it can
        refuse.clear()
        until(lambda: two.poll_us == POLL_WITH_LISTENER_US)
        one.append([UnitBuilder().begin(NOW)])
        while alarms.get(timeout=WAIT_S) != NOW:
            pass


def test_a_listener_goes_on_if_what_it_calls_fails(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    alarms: Alarms = queue.SimpleQueue()

    def fail(due_us: int) -> None:
        alarms.put(due_us)
        if due_us == NOW:
            raise RuntimeError("can't start new thread")

    stop = two.watch_alarms(fail)
    assert alarms.get(timeout=WAIT_S) == 0
    one.append([UnitBuilder("o-1").begin(NOW)])
    assert alarms.get(timeout=WAIT_S) == NOW
    until(lambda: two.poll_us == POLL_WITH_LISTENER_US)
    while alarms.get(timeout=WAIT_S) != 0:  # it listens again: look now
        pass
    until(lambda: two.poll_us == POLL_WITH_LISTENER_US)
    one.append([UnitBuilder("o-2").begin(NOW + 2)])
    while alarms.get(timeout=WAIT_S) != NOW + 2:
        pass
    stop()


def test_a_listener_may_be_idle_for_any_time(postgres_url: str) -> None:
    """Also if the server ends idle sessions, as it does with another one here."""
    url = with_options(postgres_url, options="-cidle_session_timeout%3D200ms")
    with closing(open_store(url)) as factory, listening(factory.application_recorder()) as alarms:
        with bare_connection(url) as idle:
            assert select.select([idle.fileno()], [], [], WAIT_S)[0]
            with pytest.raises(psycopg.errors.IdleSessionTimeout):
                idle.execute("SELECT 1")
        with closing(open_store(postgres_url)) as other:
            other.application_recorder().append([UnitBuilder().begin(NOW)])
            assert alarms.get(timeout=WAIT_S) == NOW


def test_without_a_listener_it_polls_often(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, _ = stores
    assert one.poll_us == POLL_WITHOUT_LISTENER_US
    with listening(one):
        assert one.poll_us == POLL_WITH_LISTENER_US
    assert one.poll_us == POLL_WITHOUT_LISTENER_US


def test_a_listener_that_is_stopped_leaves_no_connection(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with listening(two) as alarms:
        pass
    until(lambda: backends(bare, two, "LISTEN {channel}") == [])
    one.append([UnitBuilder().begin(NOW)])
    one.close()
    assert alarms.empty()


def test_closing_the_store_ends_the_listener(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, _ = stores
    alarms: Alarms = queue.SimpleQueue()
    stop = one.watch_alarms(alarms.put)
    assert alarms.get(timeout=WAIT_S) == 0
    one.close()
    until(lambda: backends(bare, one, "LISTEN {channel}") == [])
    stop()


# -- workers


def job_that_runs_at_once() -> tuple[Jobs, queue.SimpleQueue[str]]:
    """A job whose event schedules a run, and the ids of the instances that have run."""
    ran: queue.SimpleQueue[str] = queue.SimpleQueue()
    task: Task[Any, Any] = Task(state=int, event=float)

    @task.on_event
    def received(ctx: Any, event: float) -> None:
        ctx.schedule(event)

    @task.execute
    async def run(ctx: Any) -> None:
        ran.put(ctx.id)

    return Jobs(order=task), ran


@pytest.mark.parametrize("pooler", ["session", "transaction"])
def test_a_worker_runs_what_another_process_has_scheduled(postgres_url: str, pooler: str) -> None:
    """Through a transaction pooler no notification arrives; there it is found by polling."""
    jobs, ran = job_that_runs_at_once()
    url = with_options(postgres_url, pooler=pooler)
    with jobs.open(url, worker=True), jobs.open(url) as client:
        for number in range(5):
            client.task("order").send(f"o-{number}", 0)
            assert ran.get(timeout=WAIT_S) == f"o-{number}"


@pytest.mark.parametrize("mode", [None, "session"])
def test_a_pooler_that_the_url_does_not_mention_is_detected(
    postgres_url: str, mode: str | None
) -> None:
    """It may give each transaction another session: no statement may be prepared in one, and no
    notification arrives."""
    with wired(postgres_url) as (wire, url):
        wire.answering = as_a_pooler_would
        with closing(open_store(with_options(url, pooler=mode) if mode else url)) as factory:
            store = factory.application_recorder()
            store.watch_alarms(lambda due_us: None)
            if mode:
                until(lambda: store.poll_us == POLL_WITH_LISTENER_US)
            with store.datastore.lend() as connection:
                for _ in range(10):
                    connection.execute("SELECT 1")
                prepared = connection.execute("SELECT FROM pg_prepared_statements").fetchall()
            assert bool(prepared) is bool(mode)
            expected_us = POLL_WITH_LISTENER_US if mode else POLL_WITHOUT_LISTENER_US
            assert store.poll_us == expected_us


def test_an_idle_worker_is_woken_by_a_notification(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it would poll only after the test has failed."""
    monkeypatch.setattr("wakelog_adapters.postgres.store.POLL_WITH_LISTENER_US", 3 * FAR_US)
    monkeypatch.setattr("wakelog_adapters.postgres.store.POLL_WITHOUT_LISTENER_US", 3 * FAR_US)
    jobs, ran = job_that_runs_at_once()
    with (
        jobs.open(postgres_url, worker=True, lease="1h"),
        jobs.open(postgres_url, worker=True, lease="1h"),
        jobs.open(postgres_url) as client,
    ):
        for number in range(20):
            client.task("order").send(f"o-{number}", number % 2 * 0.01)
            assert ran.get(timeout=WAIT_S) == f"o-{number}"
    assert ran.empty()


def test_A5_a_resumed_job_is_run_at_once_by_a_worker_of_another_process(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here no alarm is notified, and the worker would poll only after the test has failed."""
    monkeypatch.setattr("wakelog_adapters.postgres.store.POLL_WITH_LISTENER_US", 3 * FAR_US)
    monkeypatch.setattr("wakelog_adapters.postgres.store.POLL_WITHOUT_LISTENER_US", 3 * FAR_US)
    notify = notifications.Notifier.notify
    monkeypatch.setattr(
        notifications.Notifier, "notify", lambda self, told: told.due_us or notify(self, told)
    )
    jobs, ran = job_that_runs_at_once()
    with (
        jobs.open(postgres_url, worker=True, lease="1h") as working,
        jobs.open(postgres_url) as client,
    ):
        worker = working.app.worker
        assert worker is not None
        for number in range(3):
            client.pause("order")
            client.task("order").send(f"o-{number}", 0)
            until(lambda: (worker.next_look.at_us or 0) > soon() + FAR_US / 2)
            assert ran.empty()
            client.resume("order")
            assert ran.get(timeout=WAIT_S) == f"o-{number}"


def test_a_worker_looks_when_its_listener_was_cut_off(
    postgres_url: str, bare: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have missed a notification: here none was sent at all."""
    monkeypatch.setattr("wakelog_adapters.postgres.store.POLL_WITH_LISTENER_US", FAR_US)
    jobs, ran = job_that_runs_at_once()
    with (
        jobs.open(postgres_url, worker=True, lease="1h"),
        jobs.open(postgres_url) as client,
        closing(open_store(postgres_url)) as factory,
    ):
        listener = "LISTEN {channel}"
        until(lambda: backends(bare, factory.application_recorder(), listener))
        client.task("order").send("o-0", 0)
        assert ran.get(timeout=WAIT_S) == "o-0"
        until(lambda: not client.task("order").status("o-0").executing)
        monkeypatch.setattr(notifications.Notifier, "notify", lambda self, due_us: None)
        client.task("order").send("o-1", 0)
        [pid] = backends(bare, factory.application_recorder(), listener)
        bare.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert ran.get(timeout=WAIT_S) == "o-1"
