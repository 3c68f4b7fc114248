"""Alarms that one process sets, heard of by another: bells, ears, and what if they are cut off."""

from __future__ import annotations

import queue
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.adapters.postgres.network_cuts import as_a_pooler_would, wired
from tests.support import WAIT_S
from tests.support_postgres import bare_connection, with_options
from wakelog import Jobs, Task
from wakelog.ports.rows import JobPauseRow
from wakelog_adapters.conformance.units import NOW, ORDERS, UnitBuilder
from wakelog_adapters.postgres import PostgresStore, notifications, open_store
from wakelog_adapters.postgres.notifications import DEAF_LOOK_US, LOOK_US

Heard = queue.SimpleQueue[int]
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
    """Another's hands on the database."""
    with bare_connection(postgres_url) as connection:
        yield connection


@contextmanager
def hearing(store: PostgresStore) -> Iterator[Heard]:
    """What a store hears, from when it listens on."""
    heard: Heard = queue.SimpleQueue()
    stop = store.watch_alarms(heard.put)
    try:
        assert heard.get(timeout=WAIT_S) == 0
        assert store.poll_us == LOOK_US
        yield heard
    finally:
        stop()


def soon() -> int:
    """A moment to be told of: it comes before others would look."""
    return time.time_ns() // 1000 + 1_000_000


def backends(bare: psycopg.Connection, store: PostgresStore, query: str) -> list[int]:
    """The server's processes whose last query was such a one, of this schema."""
    like = query.replace("{channel}", f"wakelog_{store.datastore.schema}")
    rows = bare.execute("SELECT pid FROM pg_stat_activity WHERE query LIKE %s", (like,)).fetchall()
    return [pid for (pid,) in rows if pid != bare.info.backend_pid]


def until(is_so: Callable[[], Any]) -> None:
    """Wait for what the server says to become so."""
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s


# -- what is told, and to whom


def test_an_alarm_is_heard_of_in_another_process(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    with hearing(two) as heard:
        for number, due_us in enumerate((NOW, soon(), NOW + 7)):
            one.append([UnitBuilder(f"o-{number}").begin(due_us)])
            assert heard.get(timeout=WAIT_S) == due_us
            assert len(two.status([f"task:order:o-{number}"])) == 1


def test_A5_the_end_of_a_hold_is_heard_of(stores: tuple[PostgresStore, PostgresStore]) -> None:
    one, two = stores
    one.pause_job(JobPauseRow(ORDERS, None, None, NOW))
    with hearing(two) as heard:
        one.resume_job(ORDERS)
        assert heard.get(timeout=WAIT_S) == 0
        assert two.job_pauses() == []


def test_K2_leases_that_are_given_back_are_heard_of(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, two = stores
    builder = UnitBuilder()
    one.append([builder.begin(), builder.run("w1", NOW + FAR_US)])
    with hearing(two) as heard:
        one.release("w1", [(builder.stream, 3)])
        assert heard.get(timeout=WAIT_S) == 0
        assert two.leases(NOW, 10) == []


def test_ones_own_alarms_are_not_heard_of(stores: tuple[PostgresStore, PostgresStore]) -> None:
    one, two = stores
    with hearing(one) as mine, hearing(two) as others:
        one.append([UnitBuilder("o-1").begin(NOW + 1)])
        assert others.get(timeout=WAIT_S) == NOW + 1
        two.append([UnitBuilder("o-2").begin(NOW + 2)])
        assert mine.get(timeout=WAIT_S) == NOW + 2  # and what the server sent before it was no news
        assert others.empty()


def test_nothing_is_told_of_what_others_will_look_for_in_time(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with hearing(two) as heard:
        one.append([UnitBuilder("far").begin(soon() + FAR_US)])
        one.append([UnitBuilder("none").begin()])
        assert one._bell._thread is None  # not even a connection was made
        one.append([UnitBuilder("near").begin(NOW)])
        assert heard.get(timeout=WAIT_S) == NOW


def test_another_schema_hears_nothing(
    stores: tuple[PostgresStore, PostgresStore], postgres_url: str, bare: psycopg.Connection
) -> None:
    one, two = stores
    schema = f"{one.datastore.schema}_b"
    with (
        closing(open_store(with_options(postgres_url, schema=schema))) as factory,
        hearing(factory.application_recorder()) as elsewhere,
        hearing(two) as heard,
    ):
        one.append([UnitBuilder().begin(NOW)])
        assert heard.get(timeout=WAIT_S) == NOW
        factory.application_recorder().append([UnitBuilder().begin(NOW)])
        assert elsewhere.empty()
    bare.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def test_a_simulation_tells_nobody(
    stores: tuple[PostgresStore, PostgresStore], postgres_url: str
) -> None:
    with closing(open_store(with_options(postgres_url, clock="given"))) as factory:
        store = factory.application_recorder()
        store.append([UnitBuilder().begin(NOW)])
        assert store._bell._thread is None


def test_what_others_say_on_the_channel_does_no_harm(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with hearing(two) as heard:
        for payload in ("", "x", "a b c", "a -5", "a 1e9"):
            told = (f"wakelog_{one.datastore.schema}", payload)
            bare.execute("SELECT pg_notify(%s, %s)", told)
        one.append([UnitBuilder().begin(NOW)])
        assert heard.get(timeout=WAIT_S) == NOW


# -- debounced, off the write path


def test_many_alarms_are_told_of_together_the_earliest_of_them(
    stores: tuple[PostgresStore, PostgresStore],
    bare: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the bell is still, here until it is closed, all that comes goes into one ring."""
    monkeypatch.setattr(notifications, "DEBOUNCE_S", 10 * WAIT_S)
    one, _ = stores
    bare.execute(f"LISTEN wakelog_{one.datastore.schema}".encode())
    for number in range(50):
        one.append([UnitBuilder(f"o-{number}").begin(NOW + 50 - number)])
    one.close()
    told = [int(each.payload.split(" ")[1]) for each in bare.notifies(timeout=0.5)]
    assert len(told) == 2
    assert told[0] > told[1] == NOW + 1


def test_who_ends_at_once_has_told_before(stores: tuple[PostgresStore, PostgresStore]) -> None:
    one, two = stores
    with hearing(two) as heard:
        one.append([UnitBuilder().begin(NOW)])
        one.close()
        assert heard.get(timeout=WAIT_S) == NOW
    assert one._bell._thread is not None
    assert not one._bell._thread.is_alive()


def test_the_write_path_waits_for_no_bell(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    """The bell's connection is cut off, and while it cannot have another one appends go on."""
    one, two = stores
    with hearing(two) as heard:
        one.append([UnitBuilder("o-1").begin(NOW)])
        assert heard.get(timeout=WAIT_S) == NOW
        connection = one._bell._connection
        assert connection is not None
        bare.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        one.append([UnitBuilder("o-2").begin(NOW + 2)])
        assert heard.get(timeout=WAIT_S) == NOW + 2  # over another connection


def test_a_bell_that_cannot_ring_is_in_nobodys_way(
    stores: tuple[PostgresStore, PostgresStore],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No more connections are to be had: what was to be told is told once there are."""
    one, two = stores
    monkeypatch.setattr(notifications, "_PAUSE_S", 0.01)
    with hearing(two) as heard:
        place, one._bell._place = one._place, replace(one._place, conninfo="host=/nowhere")
        for number in range(20):
            assert one.append([UnitBuilder(f"o-{number}").begin(NOW + number)]).errors == [None]
        until(lambda: "others cannot be told of alarms" in caplog.text)
        one._bell._place = place
        assert heard.get(timeout=WAIT_S) == NOW


# -- deaf, and hearing again


def test_an_ear_that_is_cut_off_looks_often_and_hears_again(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with hearing(two) as heard:
        [pid] = backends(bare, two, "LISTEN {channel}")
        bare.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert heard.get(timeout=WAIT_S) == 0  # deaf: look now
        assert heard.get(timeout=WAIT_S) == 0  # hears again: look now
        assert two.poll_us == LOOK_US
        one.append([UnitBuilder().begin(NOW)])
        assert heard.get(timeout=WAIT_S) == NOW
        until(lambda: pid not in backends(bare, two, "LISTEN {channel}"))


def test_an_ear_is_idle_for_as_long_as_it_takes(postgres_url: str) -> None:
    """Whatever the server does with sessions that are; here it ends another one meanwhile."""
    url = with_options(postgres_url, options="-cidle_session_timeout%3D200ms")
    with closing(open_store(url)) as factory, hearing(factory.application_recorder()) as heard:
        with bare_connection(url) as idle:
            assert select.select([idle.fileno()], [], [], WAIT_S)[0]
            with pytest.raises(psycopg.errors.IdleSessionTimeout):
                idle.execute("SELECT 1")
        with closing(open_store(postgres_url)) as other:
            other.application_recorder().append([UnitBuilder().begin(NOW)])
            assert heard.get(timeout=WAIT_S) == NOW


def test_while_it_is_deaf_it_looks_often(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    one, _ = stores
    assert one.poll_us == DEAF_LOOK_US
    with hearing(one):
        assert one.poll_us == LOOK_US
    assert one.poll_us == DEAF_LOOK_US


def test_who_stops_hearing_leaves_nothing_behind(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, two = stores
    with hearing(two) as heard:
        pass
    until(lambda: backends(bare, two, "LISTEN {channel}") == [])
    one.append([UnitBuilder().begin(NOW)])
    one.close()
    assert heard.empty()


def test_closing_the_store_ends_the_ear(
    stores: tuple[PostgresStore, PostgresStore], bare: psycopg.Connection
) -> None:
    one, _ = stores
    heard: Heard = queue.SimpleQueue()
    stop = one.watch_alarms(heard.put)
    assert heard.get(timeout=WAIT_S) == 0
    one.close()
    until(lambda: backends(bare, one, "LISTEN {channel}") == [])
    stop()


# -- workers


def ringing() -> tuple[Jobs, queue.SimpleQueue[str]]:
    """A job whose event has it run at once, and what runs."""
    ran: queue.SimpleQueue[str] = queue.SimpleQueue()
    task: Task[Any, Any] = Task(state=int, event=float)

    @task.on_event
    def told(ctx: Any, event: float) -> None:
        ctx.schedule(event)

    @task.execute
    async def run(ctx: Any) -> None:
        ran.put(ctx.id)

    return Jobs(order=task), ran


@pytest.mark.parametrize("pooler", ["session", "transaction"])
def test_work_is_found_that_another_process_has_set(postgres_url: str, pooler: str) -> None:
    """Behind a transaction pooler nothing can be heard; there it is found by looking."""
    jobs, ran = ringing()
    url = with_options(postgres_url, pooler=pooler)
    with jobs.open(url, worker=True), jobs.open(url) as client:
        for number in range(5):
            client.task("order").send(f"o-{number}", 0)
            assert ran.get(timeout=WAIT_S) == f"o-{number}"


@pytest.mark.parametrize("said", [None, "session"])
def test_a_pooler_that_the_url_does_not_speak_of_is_noticed(
    postgres_url: str, said: str | None
) -> None:
    """It may give each transaction another session: nothing may be left there, or heard there."""
    with wired(postgres_url) as (wire, url):
        wire.answering = as_a_pooler_would
        with closing(open_store(with_options(url, pooler=said) if said else url)) as factory:
            store = factory.application_recorder()
            store.watch_alarms(lambda due_us: None)
            if said:
                until(lambda: store.poll_us == LOOK_US)
            with store.datastore.lend() as connection:
                for _ in range(10):
                    connection.execute("SELECT 1")
                left = connection.execute("SELECT FROM pg_prepared_statements").fetchall()
            assert bool(left) is bool(said)
            assert store.poll_us == (LOOK_US if said else DEAF_LOOK_US)


def test_an_idle_worker_is_woken_by_what_it_hears(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it would look by itself only after longer than the test waits."""
    monkeypatch.setattr("wakelog_adapters.postgres.store.LOOK_US", 3 * FAR_US)
    monkeypatch.setattr("wakelog_adapters.postgres.store.DEAF_LOOK_US", 3 * FAR_US)
    jobs, ran = ringing()
    with (
        jobs.open(postgres_url, worker=True, lease="1h"),
        jobs.open(postgres_url, worker=True, lease="1h"),
        jobs.open(postgres_url) as client,
    ):
        for number in range(20):
            client.task("order").send(f"o-{number}", number % 2 * 0.01)
            assert ran.get(timeout=WAIT_S) == f"o-{number}"
    assert ran.empty()


def test_A5_a_job_that_may_go_on_is_taken_up_by_a_worker_of_another_process_at_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the worker hears of no alarm, and would look only after longer than the test waits."""
    monkeypatch.setattr("wakelog_adapters.postgres.store.LOOK_US", 3 * FAR_US)
    monkeypatch.setattr("wakelog_adapters.postgres.store.DEAF_LOOK_US", 3 * FAR_US)
    ring = notifications.Bell.ring
    monkeypatch.setattr(
        notifications.Bell, "ring", lambda self, due_us: due_us or ring(self, due_us)
    )
    jobs, ran = ringing()
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


def test_a_worker_looks_when_its_ear_was_cut_off(
    postgres_url: str, bare: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be heard of: here nobody was told of it at all."""
    monkeypatch.setattr("wakelog_adapters.postgres.store.LOOK_US", FAR_US)
    jobs, ran = ringing()
    with (
        jobs.open(postgres_url, worker=True, lease="1h"),
        jobs.open(postgres_url) as client,
        closing(open_store(postgres_url)) as factory,
    ):
        ear = "LISTEN {channel}"
        until(lambda: backends(bare, factory.application_recorder(), ear))
        client.task("order").send("o-0", 0)
        assert ran.get(timeout=WAIT_S) == "o-0"
        until(lambda: not client.task("order").status("o-0").executing)
        monkeypatch.setattr(notifications.Bell, "ring", lambda self, due_us: None)
        client.task("order").send("o-1", 0)
        [pid] = backends(bare, factory.application_recorder(), ear)
        bare.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert ran.get(timeout=WAIT_S) == "o-1"
