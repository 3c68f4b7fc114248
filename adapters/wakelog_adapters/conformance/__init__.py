"""The exam that every store passes: subclass `StoreExam`, say how to open your store, run pytest.

    class TestMyStore(StoreExam):
        def make_store(self, folder: Path) -> Store:
            return open_store(f"mystore://{folder}").application_recorder()

Opening the same folder twice must give two openings of one store. Nothing here sleeps or mocks.
"""

from __future__ import annotations

from wakelog_adapters.conformance.append import AppendExam
from wakelog_adapters.conformance.claims import ClaimsExam
from wakelog_adapters.conformance.job_pauses import JobPausesExam
from wakelog_adapters.conformance.reads import ReadsExam
from wakelog_adapters.conformance.run_limits import RunLimitsExam
from wakelog_adapters.conformance.units import UnitBuilder

__all__ = ["StoreExam", "UnitBuilder"]


class StoreExam(AppendExam, ClaimsExam, JobPausesExam, RunLimitsExam, ReadsExam):
    """What is promised in `wakelog.ports`, as tests."""
