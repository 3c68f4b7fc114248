"""Events that are sent in a transaction of the caller's own (E1), on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.acceptance.aggregates_in_transactions import Parcel, parcels_beside
from tests.acceptance.jobs_in_transactions import (
    batch,
    connected,
    jobs,
    mails,
    numbers,
    pulse,
    until,
)
from tests.acceptance.processes import Children
from tests.auditing import audit
from wakelog import (
    BlockingApp,
    InboxConnectionError,
    InboxResult,
    InvalidIdError,
    Jobs,
    ValidationError,
)
from wakelog.ports.inbox import InboxRow

MODULE = "tests.acceptance.jobs_in_transactions"


@pytest.fixture
def app(shared_url: str) -> Iterator[BlockingApp]:
    """A client only."""
    with jobs.open(shared_url) as app:
        yield app


@pytest.fixture
def worker(shared_url: str) -> Iterator[BlockingApp]:
    with jobs.open(shared_url, worker=True) as app:
        yield app


def rows(app: BlockingApp) -> list[InboxRow]:
    """What is in the inbox."""
    return [*app.app.application.store.inbox_list(0, 10_000)]


def state(app: BlockingApp, id: str = "a") -> list[int]:
    return app.task(numbers).get_state(id) or []


def has_state(app: BlockingApp, id: str, expected: list[int]) -> bool:
    return state(app, id) == expected


def is_empty(app: BlockingApp) -> bool:
    return not rows(app)


def test_E1_an_event_of_a_committed_transaction_is_handled_once(
    shared_url: str, app: BlockingApp, worker: BlockingApp
) -> None:
    with connected(shared_url) as connection:
        result = app.task(numbers).send("a", 1, connection=connection, actor="ann")
        for number in (2, 3):
            app.task(numbers).send("a", number, connection=connection)
        app.debounce(batch).add("b", 1, connection=connection)
        app.continuous(pulse).start("c", 5, connection=connection)
        app.continuous(pulse).start("c", 7, connection=connection)
        app.worker_pool(mails).enqueue(1, connection=connection, id="m-1")
        app.worker_pool(mails).enqueue_many([2, 3], connection=connection)
        assert isinstance(result, InboxResult)
        assert result.target == "task:numbers:a"
        assert is_empty(app)  # as others see it
        connection.commit()
    until(lambda: is_empty(app))
    until(lambda: state(app) == [1, 2, 3])
    until(lambda: app.worker_pool(mails).status().processed == 3)
    until(lambda: app.continuous(pulse).get_state("c") == 6)
    until(lambda: app.debounce(batch).status("b").execute_count == 1)
    assert app.worker_pool(mails).get("m-1").status == "completed"
    received = [each for each in app.history("task:numbers:a") if each.event == "EventReceived"]
    assert [each.actor for each in received] == ["ann", None, None]
    audit(app.app.application.store, "task:numbers:a")


def test_E1_a_rollback_leaves_nothing(
    shared_url: str, app: BlockingApp, worker: BlockingApp
) -> None:
    with connected(shared_url) as connection:
        app.task(numbers).send("a", 1, connection=connection)
        app.worker_pool(mails).enqueue(1, connection=connection)
        connection.rollback()
        # what follows in the next transaction of the same connection is another matter
        app.task(numbers).send("b", 2, connection=connection)
        connection.commit()
    until(lambda: state(app, "b") == [2])
    assert app.task(numbers).status("a").status == "not_found"
    assert app.worker_pool(mails).status().pending == 0


def test_E1_what_a_savepoint_has_undone_is_not_sent(
    shared_url: str, app: BlockingApp, worker: BlockingApp
) -> None:
    with connected(shared_url) as connection:
        app.task(numbers).send("a", 1, connection=connection)
        connection.execute("SAVEPOINT before")
        app.task(numbers).send("a", 2, connection=connection)
        connection.execute("ROLLBACK TO SAVEPOINT before")
        app.task(numbers).send("a", 3, connection=connection)
        connection.commit()
    until(lambda: is_empty(app))
    until(lambda: state(app) == [1, 3])


def test_E1_rows_that_commit_late_are_not_skipped(
    postgres_url: str,
) -> None:
    """Each transaction inserts before those that commit before it."""
    with jobs.open(postgres_url) as app, jobs.open(postgres_url, worker=True), ExitStack() as stack:
        first, second, third = (stack.enter_context(connected(postgres_url)) for _ in range(3))
        for id, connection in zip("abc", (first, second, third), strict=True):
            app.task(numbers).send(id, 1, connection=connection)
        for id, connection in (("c", third), ("b", second), ("a", first)):
            assert state(app, id) == []
            connection.commit()
            until(partial(has_state, app, id, [1]))
        assert is_empty(app)


def test_E1_a_key_is_that_of_the_same_request_without_a_transaction(
    shared_url: str, app: BlockingApp, worker: BlockingApp
) -> None:
    task = app.task(numbers)
    with connected(shared_url) as connection:
        for _ in range(2):
            task.send("a", 1, event_id="k", connection=connection)
        task.send("b", 1, event_id="k", connection=connection)
        app.worker_pool(mails).enqueue(1, id="m", connection=connection)
        app.worker_pool(mails).enqueue(1, id="m", connection=connection)
        connection.commit()
        until(lambda: is_empty(app))
        assert task.send("a", 1, event_id="k").duplicate
        until(lambda: state(app) == [1] and state(app, "b") == [1])
        until(lambda: app.worker_pool(mails).status().processed == 1)
        # when the key is used for another event
        task.send("a", 2, event_id="k", connection=connection)
        task.send("a", 3, connection=connection)
        connection.commit()
    # then it is kept with the reason, and what is behind it goes on
    until(lambda: state(app) == [1, 3])
    until(lambda: bool(rows(app)[0].refused))
    [row] = rows(app)
    assert str(row.error).startswith("IdempotencyConflictError")


def test_E1_a_full_queue_holds_back_the_rows_of_that_instance_only(
    shared_url: str, app: BlockingApp, worker: BlockingApp
) -> None:
    with connected(shared_url) as connection:
        app.task(numbers).send("a", 0)
        app.task(numbers).pause("a")
        for number in range(60):
            app.task(numbers).send("a", number + 1, connection=connection)
        app.task(numbers).send("b", 1, connection=connection)
        connection.commit()
    until(lambda: state(app, "b") == [1])
    until(lambda: [row.retry_us > 0 for row in rows(app)] == [True, *[False] * 9])
    assert "QueueFullError" in str(rows(app)[0].error)
    app.task(numbers).resume("a")
    until(lambda: len(state(app)) == 51)
    assert app.app.application.store.inbox_retry(rows(app)[0].n)
    until(lambda: is_empty(app))
    until(lambda: state(app) == [*range(61)])


def test_E1_a_job_that_no_worker_knows_waits_for_one(shared_url: str, app: BlockingApp) -> None:
    with connected(shared_url) as connection, Jobs(mails=mails).open(shared_url, worker=True):
        app.task(numbers).send("a", 1, connection=connection)
        app.worker_pool(mails).enqueue(1, connection=connection)
        connection.commit()
        until(lambda: app.worker_pool(mails).status().processed == 1)
        assert [row.job for row in rows(app)] == ["task:numbers"]
    with jobs.open(shared_url, worker=True):
        until(lambda: state(app) == [1])


def test_E1_what_is_not_valid_is_refused_before_anything_is_written(
    shared_url: str, app: BlockingApp
) -> None:
    task: Any = app.task(numbers)
    with connected(shared_url) as connection:
        bads: list[Callable[[], Any]] = [
            lambda: task.send("a", "one", connection=connection),
            lambda: task.send("", 1, connection=connection),
            lambda: task.send("a", 1, connection=connection, wait=True),
            lambda: task.send("a", 1, connection=connection, event_id="\0"),
            lambda: task.send("a", 1, connection=connection, delay=-1),
            lambda: app.worker_pool("mails").enqueue("one", connection=connection),
        ]
        for bad in bads:
            with pytest.raises((ValidationError, InvalidIdError)):
                bad()
        connection.commit()
    assert is_empty(app)


def test_E1_the_memory_store_has_no_transactions() -> None:
    with (
        jobs.open("memory://") as app,
        sqlite3.connect(":memory:") as connection,
        pytest.raises(InboxConnectionError, match="memory store"),
    ):
        app.task(numbers).send("a", 1, connection=connection)


# -- killed processes, and several workers


@pytest.mark.parametrize("how", ["before", "after"])
def test_E1_a_sender_is_killed_around_its_commit(
    shared_url: str, app: BlockingApp, worker: BlockingApp, how: str
) -> None:
    with Children(shared_url, MODULE) as children:
        sender = children.start("sender", how).ready()
        assert is_empty(app)
        sender.tell("commit")
        assert sender.killed()
    with connected(shared_url) as connection:
        app.task(numbers).send("b", 1, connection=connection)
        connection.commit()
    until(lambda: state(app, "b") == [1])
    expected = 0 if how == "before" else 1
    until(lambda: app.worker_pool(mails).status().processed == expected)
    until(lambda: state(app) == [1] * expected)


@pytest.mark.parametrize("commit", [-1, 1, -2, 2, -3, 3])
def test_E1_a_worker_is_killed_around_each_commit_of_the_take_up(
    shared_url: str, app: BlockingApp, commit: int
) -> None:
    with connected(shared_url) as connection:
        for number in range(3):
            app.task(numbers).send("a", number, connection=connection)
            app.worker_pool(mails).enqueue(number, connection=connection)
        connection.commit()
    with Children(shared_url, MODULE) as children:
        assert children.start("worker", str(commit)).killed()
    with jobs.open(shared_url, worker=True, lease="1s"):
        until(lambda: state(app) == [0, 1, 2])
        until(lambda: app.worker_pool(mails).status().processed == 3)
    assert is_empty(app)
    audit(app.app.application.store, "task:numbers:a")


@pytest.mark.parametrize(
    ("workers", "count"), [(2, 400), pytest.param(4, 2_000, marks=pytest.mark.chaos)]
)
def test_E1_several_workers_take_up_each_row_once(
    shared_url: str, app: BlockingApp, workers: int, count: int
) -> None:
    ids = [f"i-{number % 100}" for number in range(count)]
    with connected(shared_url) as connection:
        for number, id in enumerate(ids):
            app.task(numbers).send(id, number, connection=connection)
        app.worker_pool(mails).enqueue_many([*range(count)], connection=connection)
        connection.commit()
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(jobs.open(shared_url, worker=True))
        until(lambda: is_empty(app), 60)
        until(lambda: app.worker_pool(mails).status().processed == count, 60)
        until(lambda: sum(len(state(app, f"i-{number}")) for number in range(100)) == count)
    for number in range(100):
        assert state(app, f"i-{number}") == [*range(number, count, 100)]


# -- the eventsourcing library, in the same database


def test_E1_an_aggregate_is_saved_and_an_event_is_sent_in_one_transaction(
    shared_url: str, app: BlockingApp, worker: BlockingApp
) -> None:
    def send(number: int) -> Callable[[Any], object]:
        return lambda connection: app.task(numbers).send("a", number, connection=connection)

    def fail(connection: object) -> None:
        send(2)(connection)
        raise ZeroDivisionError

    parcels = parcels_beside(shared_url)
    try:
        one, two = Parcel("p-1"), Parcel("p-2")
        parcels.save(one, send=send(1))
        # when it fails after it was sent, nothing is left of both
        with pytest.raises(ZeroDivisionError):
            parcels.save(two, send=fail)
        assert two.id not in parcels.repository
        parcels.save(Parcel("p-3"), send=send(3))
        until(lambda: state(app) == [1, 3])
        assert one.id in parcels.repository
    finally:
        parcels.close()
