"""The admin of an SQLite store passes the exam."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from wakelog_adapters.conformance.store_admin import StoreAdminExam
from wakelog_adapters.sqlite.url import parse


class TestSQLiteAdmin(StoreAdminExam):
    def url(self, folder: Path) -> str:
        return f"sqlite:///{folder}/jobs.db?prefix=exam_"

    def run_script(self, url: str, script: str) -> None:
        with closing(sqlite3.connect(parse(url).path)) as connection:
            connection.executescript(script)
