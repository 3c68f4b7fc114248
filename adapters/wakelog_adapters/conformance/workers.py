"""The exam of a store's worker registry."""

from __future__ import annotations

from pathlib import Path

from wakelog.ports.rows import WorkerRow
from wakelog_adapters.conformance.base import ExamBase
from wakelog_adapters.conformance.units import NOW, ORDERS

__all__ = ["WorkerRegistryExam"]


class WorkerRegistryExam(ExamBase):
    """Workers are listed while they are alive."""

    def test_workers_are_listed_while_they_are_alive(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        one = WorkerRow("w1", (ORDERS, "task:mail"), 100, "host ☃", 7, NOW, NOW, NOW + 5)
        two = one._replace(worker="w2", until_us=NOW + 9, rules='{"continuous:job":"☃"}')
        store.put_worker(two)
        store.put_worker(one)
        assert store.workers(NOW) == [one, two]
        assert store.workers(NOW + 5) == [two]
        store.put_worker(one._replace(until_us=NOW + 50))
        assert [row.worker for row in store.workers(NOW + 10)] == ["w1"]
        store.remove_worker("w1")
        assert store.workers(NOW) == [two]
