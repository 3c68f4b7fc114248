"""The admin of a PostgreSQL store passes the exam."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_postgres import bare_connection
from wakelog_adapters.conformance.store_admin import StoreAdminExam


class TestPostgresAdmin(StoreAdminExam):
    known_problems = frozenset({"fsync", "full_page_writes"})  # of the server that tests run

    @pytest.fixture(autouse=True)
    def new_store(self, postgres_url: str) -> None:
        self._url = postgres_url

    def url(self, folder: Path) -> str:
        return self._url

    def run_script(self, url: str, script: str) -> None:
        with bare_connection(url) as connection:
            connection.execute(script.encode())
