"""The exam that every store passes: subclass `StoreExam`, say how to open your store, run pytest.

    class TestMyStore(StoreExam):
        def make_store(self, folder: Path) -> Store:
            return open_store(f"mystore://{folder}").application_recorder()

Opening the same folder twice must give two openings of one store. Nothing here sleeps or mocks.
Each role of a store (see `wakelog.ports.store`) has an exam of its own.
"""

from __future__ import annotations

from wakelog_adapters.conformance.append import AppendExam
from wakelog_adapters.conformance.claims import ClaimsExam
from wakelog_adapters.conformance.inbox import InboxExam
from wakelog_adapters.conformance.job_pauses import JobPauseTableExam
from wakelog_adapters.conformance.kept_replies import KeptRepliesExam
from wakelog_adapters.conformance.leases import LeasesExam
from wakelog_adapters.conformance.messages import MessagesExam
from wakelog_adapters.conformance.pool.calls import PoolCallsExam
from wakelog_adapters.conformance.pool.reads import PoolReadsExam
from wakelog_adapters.conformance.pool.rebuilds import PoolRebuildExam
from wakelog_adapters.conformance.reads import EventReadsExam
from wakelog_adapters.conformance.run_limits import RunLimitsExam
from wakelog_adapters.conformance.units import UnitBuilder
from wakelog_adapters.conformance.views import ViewsExam
from wakelog_adapters.conformance.workers import WorkerRegistryExam

__all__ = [
    "ClaimQueueExam",
    "EventLogExam",
    "InboxTableExam",
    "JobPauseTableExam",
    "KeptRepliesExam",
    "MessagesExam",
    "PoolTablesExam",
    "StoreExam",
    "UnitBuilder",
    "ViewsExam",
    "WorkerRegistryExam",
]


class EventLogExam(AppendExam, EventReadsExam):
    """What `EventLog` promises."""


class ClaimQueueExam(LeasesExam, ClaimsExam, RunLimitsExam):
    """What `ClaimQueue` promises."""


class PoolTablesExam(PoolCallsExam, PoolReadsExam, PoolRebuildExam):
    """What `PoolTables` promises."""


class InboxTableExam(InboxExam):
    """What `InboxTable` promises."""


class StoreExam(
    EventLogExam,
    ClaimQueueExam,
    ViewsExam,
    KeptRepliesExam,
    WorkerRegistryExam,
    JobPauseTableExam,
    MessagesExam,
    PoolTablesExam,
    InboxTableExam,
):
    """What `Store` promises, as tests."""
