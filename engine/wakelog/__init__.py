"""wakelog: durable jobs whose every move is in the log."""

from __future__ import annotations

from wakelog import errors
from wakelog.app import App
from wakelog.blocking import (
    BlockingApp,
    BlockingContinuousClient,
    BlockingDebounceClient,
    BlockingTaskClient,
)
from wakelog.client import TaskClient
from wakelog.context import ContinuousContext, TaskContext
from wakelog.continuous import Continuous
from wakelog.continuous_client import ContinuousClient
from wakelog.core.retry import Backoff, GiveUp, Retry, RetryAfter
from wakelog.debounce import Debounce, DebounceContext
from wakelog.debounce_client import DebounceClient
from wakelog.definition import Task
from wakelog.errors import (
    ConflictError,
    ExecutionError,
    HandlerTimeoutError,
    IdempotencyConflictError,
    InstanceNotFoundError,
    IntegrityError,
    InvalidIdError,
    InvalidStateError,
    LeaseLostError,
    QueueFullError,
    RetryExhaustedError,
    StoreUnavailableError,
    UnknownActionError,
    UnknownJobError,
    UnknownJobTypeError,
    UnreadableEventError,
    ValidationError,
    WaitTimeoutError,
    WakelogError,
)
from wakelog.history import HistoryEntry, PastState
from wakelog.ids import InstanceId
from wakelog.jobs import Jobs
from wakelog.operate import BulkResult, Hold, NotDone
from wakelog.results import (
    AddResult,
    ClearResult,
    FlushResult,
    InstanceRow,
    JobCount,
    PauseResult,
    ResumeResult,
    RetryResult,
    SendResult,
    StartResult,
    StopResult,
    TerminateResult,
    TriggerResult,
    Work,
    WorkerStatus,
)
from wakelog.standing import ContinuousStatus, DebounceStatus, LastError, TaskStatus

__all__ = [
    "AddResult",
    "App",
    "Backoff",
    "BlockingApp",
    "BlockingContinuousClient",
    "BlockingDebounceClient",
    "BlockingTaskClient",
    "BulkResult",
    "ClearResult",
    "ConflictError",
    "Continuous",
    "ContinuousClient",
    "ContinuousContext",
    "ContinuousStatus",
    "Debounce",
    "DebounceClient",
    "DebounceContext",
    "DebounceStatus",
    "ExecutionError",
    "FlushResult",
    "GiveUp",
    "HandlerTimeoutError",
    "HistoryEntry",
    "Hold",
    "IdempotencyConflictError",
    "InstanceId",
    "InstanceNotFoundError",
    "InstanceRow",
    "IntegrityError",
    "InvalidIdError",
    "InvalidStateError",
    "JobCount",
    "Jobs",
    "LastError",
    "LeaseLostError",
    "NotDone",
    "PastState",
    "PauseResult",
    "QueueFullError",
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
    "TriggerResult",
    "UnknownActionError",
    "UnknownJobError",
    "UnknownJobTypeError",
    "UnreadableEventError",
    "ValidationError",
    "WaitTimeoutError",
    "WakelogError",
    "Work",
    "WorkerStatus",
    "errors",
]
