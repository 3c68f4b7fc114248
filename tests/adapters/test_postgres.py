"""The PostgreSQL store passes the exam."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_postgres import with_options
from wakelog.ports import Store
from wakelog_adapters.conformance import StoreExam
from wakelog_adapters.postgres import open_store


class TestPostgres(StoreExam):
    """The exam gives the time, and leases of microseconds, which no server's clock could judge."""

    @pytest.fixture(autouse=True)
    def url(self, postgres_url: str) -> None:
        self._url = with_options(postgres_url, clock="given")

    def make_store(self, folder: Path) -> Store:
        return open_store(self._url).application_recorder()
