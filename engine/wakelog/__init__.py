"""wakelog: durable jobs whose every move is in the log."""

from __future__ import annotations

from wakelog import errors
from wakelog.app import App
from wakelog.blocking import BlockingApp, BlockingTaskClient
from wakelog.client import TaskClient
from wakelog.context import TaskContext
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
    ClearResult,
    InstanceRow,
    JobCount,
    LastError,
    SendResult,
    TaskStatus,
    TriggerResult,
    Work,
    WorkerStatus,
)

__all__ = [
    "App",
    "BlockingApp",
    "BlockingTaskClient",
    "ClearResult",
    "ConflictError",
    "ExecutionError",
    "HandlerTimeoutError",
    "HistoryEntry",
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
    "PastState",
    "QueueFullError",
    "RetryExhaustedError",
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
    "Work",
    "WorkerStatus",
    "errors",
]
