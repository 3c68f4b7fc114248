"""Blocking: the calls of an app for code that does not run on its event loop."""

from wakelog.blocking.app import BlockingApp, BlockingCalls
from wakelog.blocking.continuous import BlockingContinuousClient
from wakelog.blocking.debounce import BlockingDebounceClient
from wakelog.blocking.following import BlockingFollowing
from wakelog.blocking.task import BlockingTaskClient
from wakelog.blocking.worker_pool import BlockingWorkerPoolClient

__all__ = [
    "BlockingApp",
    "BlockingCalls",
    "BlockingContinuousClient",
    "BlockingDebounceClient",
    "BlockingFollowing",
    "BlockingTaskClient",
    "BlockingWorkerPoolClient",
]
