"""wakelog: durable jobs whose every move is in the log."""

from __future__ import annotations

from wakelog import errors
from wakelog.app import App
from wakelog.blocking import (
    BlockingApp,
    BlockingContinuousClient,
    BlockingDebounceClient,
    BlockingTaskClient,
    BlockingWorkerPoolClient,
)
from wakelog.client.bulk import BulkResult, NotDone
from wakelog.client.continuous import (
    ContinuousClient,
    ContinuousStatus,
    StartResult,
    StopResult,
    TerminateResult,
)
from wakelog.client.dead_letters import DeadLetter, DeadLetterResult
from wakelog.client.debounce import AddResult, DebounceClient, DebounceStatus
from wakelog.client.inbox.sending import InboxResult
from wakelog.client.job_pause import JobPause
from wakelog.client.listing import InstanceRow, JobCount
from wakelog.client.pool.results import (
    CancelResult,
    EnqueueResult,
    ItemsResult,
    PartitionStatus,
    PoolControl,
    PoolDeadLetter,
    PoolEvent,
    PoolStatus,
    RebuildResult,
    Why,
)
from wakelog.client.results import (
    ClearResult,
    ErrorInfo,
    PauseResult,
    ResumeResult,
    RetryResult,
    TriggerResult,
)
from wakelog.client.status import LastError, WaitsForCode
from wakelog.client.task import SendResult, TaskClient, TaskStatus
from wakelog.client.wait_flush import FlushResult
from wakelog.client.worker_pool import NewEvent, WorkerPoolClient
from wakelog.client.workers import Work, WorkerStatus
from wakelog.core.retry import Backoff, GiveUp, Retry, RetryAfter
from wakelog.definitions.continuous import Continuous, ContinuousContext
from wakelog.definitions.debounce import Debounce, DebounceContext
from wakelog.definitions.task import Task, TaskContext
from wakelog.definitions.worker_pool import Fair, WorkerPool, WorkerPoolContext
from wakelog.errors import (
    ConflictError,
    ExecutionError,
    HandlerTimeoutError,
    IdempotencyConflictError,
    InboxConnectionError,
    InstanceNotFoundError,
    IntegrityError,
    InvalidIdError,
    InvalidStateError,
    LeaseLostError,
    NotOpenedError,
    QueueFullError,
    RetryExhaustedError,
    StoreUnavailableError,
    ThreadsExhaustedError,
    UnknownActionError,
    UnknownJobError,
    UnknownJobTypeError,
    UnreadableEventError,
    ValidationError,
    WaitTimeoutError,
    WakelogError,
)
from wakelog.history.past import PastState
from wakelog.history.timeline import HistoryEntry
from wakelog.ids import InstanceId
from wakelog.jobs import Jobs
from wakelog.log.cloud_event import CloudEvent
from wakelog.log.position import Position

__all__ = [
    "AddResult",
    "App",
    "Backoff",
    "BlockingApp",
    "BlockingContinuousClient",
    "BlockingDebounceClient",
    "BlockingTaskClient",
    "BlockingWorkerPoolClient",
    "BulkResult",
    "CancelResult",
    "ClearResult",
    "CloudEvent",
    "ConflictError",
    "Continuous",
    "ContinuousClient",
    "ContinuousContext",
    "ContinuousStatus",
    "DeadLetter",
    "DeadLetterResult",
    "Debounce",
    "DebounceClient",
    "DebounceContext",
    "DebounceStatus",
    "EnqueueResult",
    "ErrorInfo",
    "ExecutionError",
    "Fair",
    "FlushResult",
    "GiveUp",
    "HandlerTimeoutError",
    "HistoryEntry",
    "IdempotencyConflictError",
    "InboxConnectionError",
    "InboxResult",
    "InstanceId",
    "InstanceNotFoundError",
    "InstanceRow",
    "IntegrityError",
    "InvalidIdError",
    "InvalidStateError",
    "ItemsResult",
    "JobCount",
    "JobPause",
    "Jobs",
    "LastError",
    "LeaseLostError",
    "NewEvent",
    "NotDone",
    "NotOpenedError",
    "PartitionStatus",
    "PastState",
    "PauseResult",
    "PoolControl",
    "PoolDeadLetter",
    "PoolEvent",
    "PoolStatus",
    "Position",
    "QueueFullError",
    "RebuildResult",
    "ResumeResult",
    "Retry",
    "RetryAfter",
    "RetryExhaustedError",
    "RetryResult",
    "SendResult",
    "StartResult",
    "StopResult",
    "StoreUnavailableError",
    "Task",
    "TaskClient",
    "TaskContext",
    "TaskStatus",
    "TerminateResult",
    "ThreadsExhaustedError",
    "TriggerResult",
    "UnknownActionError",
    "UnknownJobError",
    "UnknownJobTypeError",
    "UnreadableEventError",
    "ValidationError",
    "WaitTimeoutError",
    "WaitsForCode",
    "WakelogError",
    "Why",
    "Work",
    "WorkerPool",
    "WorkerPoolClient",
    "WorkerPoolContext",
    "WorkerStatus",
    "errors",
]
