"""wakelog: durable jobs whose every move is in the log."""

from __future__ import annotations

from wakelog import errors
from wakelog.app import App
from wakelog.blocking import BlockingApp, BlockingDebounceClient, BlockingTaskClient
from wakelog.client import TaskClient
from wakelog.context import TaskContext
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
from wakelog.results import (
    AddResult,
    ClearResult,
    DebounceStatus,
    FlushResult,
    InstanceRow,
    LastError,
    PauseResult,
    ResumeResult,
    RetryResult,
    SendResult,
    TaskStatus,
    TriggerResult,
)

__all__ = [
    "AddResult",
    "App",
    "Backoff",
    "BlockingApp",
    "BlockingDebounceClient",
    "BlockingTaskClient",
    "ClearResult",
    "ConflictError",
    "Debounce",
    "DebounceClient",
    "DebounceContext",
    "DebounceStatus",
    "ExecutionError",
    "FlushResult",
    "GiveUp",
    "HandlerTimeoutError",
    "HistoryEntry",
    "IdempotencyConflictError",
    "InstanceId",
    "InstanceNotFoundError",
    "InstanceRow",
    "IntegrityError",
    "InvalidIdError",
    "InvalidStateError",
    "Jobs",
    "LastError",
    "LeaseLostError",
    "PastState",
    "PauseResult",
    "QueueFullError",
    "ResumeResult",
    "Retry",
    "RetryAfter",
    "RetryExhaustedError",
    "RetryResult",
    "SendResult",
    "StoreUnavailableError",
    "Task",
    "TaskClient",
    "TaskContext",
    "TaskStatus",
    "TriggerResult",
    "UnknownActionError",
    "UnknownJobError",
    "UnknownJobTypeError",
    "UnreadableEventError",
    "ValidationError",
    "WaitTimeoutError",
    "WakelogError",
    "errors",
]
