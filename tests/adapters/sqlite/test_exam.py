"""The SQLite store passes the exam."""

from __future__ import annotations

from pathlib import Path

from wakelog.ports.store import Store
from wakelog_adapters.conformance import StoreExam
from wakelog_adapters.sqlite import open_store


class TestSQLite(StoreExam):
    def make_store(self, folder: Path) -> Store:
        return open_store(f"sqlite:///{folder}/jobs.db?prefix=exam_").application_recorder()
