"""The exam that every store passes: subclass `StoreExam`, say how to open your store, run pytest.

    class TestMyStore(StoreExam):
        def make_store(self, folder: Path) -> Store:
            return open_store(f"mystore://{folder}").application_recorder()

Opening the same folder twice must give two openings of one store. Nothing here sleeps or mocks.
"""

from __future__ import annotations

from wakelog_adapters.conformance.appending import AppendingExam
from wakelog_adapters.conformance.claiming import ClaimingExam
from wakelog_adapters.conformance.holding import HoldingExam
from wakelog_adapters.conformance.limiting import LimitingExam
from wakelog_adapters.conformance.pen import Pen
from wakelog_adapters.conformance.reading import ReadingExam

__all__ = ["Pen", "StoreExam"]


class StoreExam(AppendingExam, ClaimingExam, HoldingExam, LimitingExam, ReadingExam):
    """What is promised in `wakelog.ports`, as tests."""
