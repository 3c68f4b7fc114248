"""The PostgreSQL store passes the exam."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.adapters.postgres.started_appends import StartingStore, opened
from tests.support_postgres import with_options
from wakelog.ports.store import Store
from wakelog_adapters.conformance import StoreExam
from wakelog_adapters.postgres import open_store
from wakelog_adapters.postgres.url import parse


class TestPostgres(StoreExam):
    """The exam gives the time and takes leases of microseconds; they end by the given time."""

    @pytest.fixture(autouse=True)
    def url(self, postgres_url: str) -> None:
        self._url = with_options(postgres_url, clock="given")

    def make_store(self, folder: Path) -> Store:
        return open_store(self._url).application_recorder()

    @contextmanager
    def caller(self, folder: Path) -> Generator[psycopg.Connection]:
        with psycopg.connect(parse(self._url).conninfo) as connection:
            yield connection


class TestPostgresWithStartedAppends(TestPostgres):
    """The same exam, with appends that no thread waits for."""

    def make_store(self, folder: Path) -> Store:
        return opened(self._url)

    def teardown_method(self) -> None:
        super().teardown_method()
        stores = [store for store in self._opened if isinstance(store, StartingStore)]
        missed = sum(store.missed for store in stores)  # while all connections were lent
        assert sum(store.begun for store in stores) > 0 or not missed
