"""The exams that the eventsourcing library ships for recorders, taken by those of our stores.

Left out: what prints figures and asserts nothing (`test_performance`,
`test_concurrent_throughput`), and the exam of a factory: it makes one from an environment, and ours
is made from a URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from eventsourcing import persistence
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.tests import persistence as exams
from psycopg.conninfo import conninfo_to_dict

from wakelog import Jobs, Task
from wakelog.jobs import open_store
from wakelog_adapters.postgres.url import parse

FIGURES: Any = None
"""In place of a test that asserts nothing."""


class Opened:
    """A new store of one kind; an exam is taken only by one."""

    __test__ = True
    factory: Any

    @pytest.fixture(autouse=True)
    def _opened(self, sqlite_url: str) -> Iterator[None]:
        yield from self.opened(sqlite_url)

    def opened(self, url: str) -> Iterator[None]:
        self.factory = open_store(url)
        yield
        self.factory.close()

    def new_originator_id(self) -> str:
        """Ours are texts."""
        return str(uuid4())


class InMemory(Opened):
    @pytest.fixture(autouse=True)
    def _opened(self) -> Iterator[None]:
        yield from self.opened("memory://")


class InPostgres(Opened):
    @pytest.fixture(autouse=True)
    def _opened(self, postgres_url: str) -> Iterator[None]:
        yield from self.opened(postgres_url)


# -- the store itself


class Log(exams.ApplicationRecorderTestCase[Any]):
    __test__ = False
    test_performance = FIGURES
    test_concurrent_throughput = FIGURES
    factory: Any

    def create_recorder(self) -> persistence.ApplicationRecorder:
        recorder: persistence.ApplicationRecorder = self.factory.application_recorder()
        return recorder

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class Order(exams.NonInterleavingNotificationIDsBaseCase):
    __test__ = False
    factory: Any

    def create_recorder(self) -> persistence.ApplicationRecorder:
        recorder: persistence.ApplicationRecorder = self.factory.application_recorder()
        return recorder


class TestLogInMemory(InMemory, Log): ...


class TestLogInSQLite(Opened, Log): ...


class TestLogInPostgres(InPostgres, Log): ...


class TestOrderInMemory(InMemory, Order): ...


class TestOrderInSQLite(Opened, Order): ...


class TestOrderInPostgres(InPostgres, Order): ...


# -- recorders beside it, which its factory makes


class Aggregates(exams.AggregateRecorderTestCase):
    __test__ = False
    test_performance = FIGURES
    factory: Any

    def create_recorder(self) -> persistence.AggregateRecorder:
        recorder: persistence.AggregateRecorder = self.factory.aggregate_recorder("snapshots")
        return recorder


class Tracking(exams.TrackingRecorderTestCase):
    __test__ = False
    factory: Any

    def create_recorder(self) -> persistence.TrackingRecorder:
        recorder: persistence.TrackingRecorder = self.factory.tracking_recorder()
        return recorder


class Process(exams.ProcessRecorderTestCase):
    __test__ = False
    test_performance = FIGURES
    factory: Any

    def create_recorder(self) -> persistence.ProcessRecorder:
        recorder: persistence.ProcessRecorder = self.factory.process_recorder()
        return recorder


class TestAggregatesInMemory(InMemory, Aggregates): ...


class TestAggregatesInSQLite(Opened, Aggregates): ...


class TestAggregatesInPostgres(InPostgres, Aggregates): ...


class TestTrackingInMemory(InMemory, Tracking): ...


class TestTrackingInSQLite(Opened, Tracking): ...


class TestTrackingInPostgres(InPostgres, Tracking): ...


class TestProcessInMemory(InMemory, Process): ...


class TestProcessInSQLite(Opened, Process): ...


class TestProcessInPostgres(InPostgres, Process): ...


# -- recorders of the library's own, on our table


def test_a_stock_recorder_reads_the_log_in_postgres(postgres_url: str) -> None:
    job: Task[Any, Any] = Task(state=int, event=int)
    job.on_event(lambda ctx, event: ctx.set_state(event))
    with Jobs(job=job).open(postgres_url) as app:
        app.task("job").send("a", 1)
    place = parse(postgres_url)
    known = conninfo_to_dict(place.conninfo)
    server = (str(known.get(each) or "") for each in ("dbname", "host", "port", "user", "password"))
    with PostgresDatastore(
        *server, schema=place.schema, originator_id_type="text", pool_size=1
    ) as datastore:
        recorder = PostgresApplicationRecorder(datastore, events_table_name="stored_events")
        topics = [each.topic for each in recorder.select_events("task:job:a")]
        positions = [each.id for each in recorder.select_notifications(None, 9)]
    assert topics == ["wakelog.Started", "wakelog.EventReceived", "wakelog.StateSet"]
    assert positions == [1, 2, 3]
