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
from eventsourcing.tests import persistence as exams

from wakelog.jobs import open_store

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
