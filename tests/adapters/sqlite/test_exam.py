"""The SQLite store passes the exam."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from wakelog.ports.store import Store
from wakelog_adapters.conformance import StoreExam
from wakelog_adapters.sqlite import open_store


class TestSQLite(StoreExam):
    def make_store(self, folder: Path) -> Store:
        return open_store(f"sqlite:///{folder}/jobs.db?prefix=exam_").application_recorder()

    @contextmanager
    def caller(self, folder: Path) -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(folder / "jobs.db")) as connection:
            yield connection
