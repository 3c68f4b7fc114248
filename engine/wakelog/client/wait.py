"""Waiting for an outcome that a worker will record, perhaps in another process."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Generic, TypeVar

from wakelog.application import Application
from wakelog.client.results import ErrorInfo, RunResult
from wakelog.core.events import (
    Cleared,
    DeadLettered,
    Discarded,
    Event,
    EventHandled,
    Executed,
    ExecutionFailed,
    RetryExhausted,
    RetryScheduled,
    RunStarted,
    Stopped,
    Trigger,
)
from wakelog.core.time import moment
from wakelog.errors import ExecutionError
from wakelog.ids import InstanceId
from wakelog.log.records import Recorded, decode

__all__ = ["end_of_unit", "wait_for_run", "wait_until_handled", "warn_without_worker"]

R = TypeVar("R", bound=RunResult)

_LOG = logging.getLogger("wakelog.client")


async def wait_until_handled(
    app: Application, id: InstanceId, version: int, timeout_us: int | None
) -> None:
    """Wait until the event accepted as `version` was handled.

    Raises `ExecutionError` if its handler failed or its life was ended first, and
    `WaitTimeoutError`.
    """
    await warn_without_worker(app, str(id), id.job)

    def find(recorded: Recorded) -> DeadLettered | Discarded | EventHandled | Cleared | None:
        event = recorded.event
        if (
            isinstance(event, EventHandled | DeadLettered | Discarded)
            and event.event_version == version
        ):
            return event
        return event if isinstance(event, Cleared) and event.by != "handler" else None

    stream = str(id)
    end = await app.stream_watch.watch(stream, version, find, timeout_us)
    if isinstance(end, DeadLettered):
        raise ExecutionError(stream, "on_event", end.error_type, end.message)
    if isinstance(end, Discarded):
        reason = end.reason or "the event was discarded before it was handled"
        raise ExecutionError(stream, "on_event", "Discarded", reason)
    if isinstance(end, Cleared):
        reason = end.reason or "the instance was cleared before the event was handled"
        raise ExecutionError(stream, "on_event", "Cleared", reason)


async def wait_for_run(
    app: Application,
    id: InstanceId,
    requested: R,
    timeout_us: int | None,
    *,
    trigger: Trigger | None = "manual",
) -> R:
    """Wait for the outcome of the run that was requested: the next one with that trigger, or with
    any. A stop before it begins ends the wait. Raises `WaitTimeoutError`."""
    await warn_without_worker(app, str(id), id.job)
    stream, watcher = str(id), _RunWatcher(requested, trigger)
    result = await app.stream_watch.watch(stream, requested.version, watcher, timeout_us)
    stored = await app.threads.read(app.store.events, stream, after=result.version - 1)
    commit = decode(stored[0]).commit
    for each in stored[1:]:
        recorded = decode(each)
        if recorded.commit != commit:
            break
        result = _with_rest_of_unit(result, recorded)
    return result


class _RunWatcher(Generic[R]):
    """Reads what is recorded after a run was requested, until that tells the outcome."""

    def __init__(self, requested: R, trigger: Trigger | None) -> None:
        self._requested = requested
        self._trigger = trigger
        self._run: int | None = None
        """The number of the run that is waited for, once it has begun."""

    def __call__(self, recorded: Recorded) -> R | None:
        event, version = recorded.event, recorded.version
        if self._run is None and isinstance(event, RunStarted):
            if self._trigger in (None, event.trigger):
                self._run = event.run
            return None
        if isinstance(event, Cleared):
            return replace(self._requested, version=version, cleared=True)
        if self._run is None:
            stopped = isinstance(event, Stopped)
            return replace(self._requested, version=version) if stopped else None
        return self._outcome(event, version)

    def _outcome(self, event: Event, version: int) -> R | None:
        match event:
            case Executed(run=run) if run == self._run:
                return replace(self._requested, version=version)
            case ExecutionFailed(handler="execute", run=run) if run == self._run:
                if event.recovered:
                    return replace(self._requested, version=version)
                error = ErrorInfo(type=event.error_type, message=event.message)
            case RetryExhausted(run=run) if run == self._run:
                error = ErrorInfo(type="RetryExhausted", message=event.reason)
            case _:
                return None
        return replace(self._requested, version=version, failed=True, error=error)


def _with_rest_of_unit(result: R, recorded: Recorded) -> R:
    """With what else was recorded in the outcome's own commit: a retry, a clear."""
    version = recorded.version
    match recorded.event:
        case RetryScheduled(due_us=due_us):
            return replace(result, version=version, retry_at=moment(due_us))
        case Cleared():
            return replace(result, version=version, cleared=True)
        case _:
            return replace(result, version=version)


async def end_of_unit(app: Application, id: InstanceId, version: int) -> int:
    """The last version of the unit of work that `version` belongs to."""
    first, *rest = await app.threads.read(app.store.events, str(id), after=version - 1)
    commit = decode(first).commit
    for stored in rest:
        if decode(stored).commit != commit:
            break
        version = stored.version
    return version


async def warn_without_worker(app: Application, what: str, job: str) -> None:
    """Log a warning if no worker of `job` is running that could bring the outcome of `what`."""
    workers = await app.threads.read(app.store.workers, app.clock.now_us())
    if app.stream_watch.drive is None and all(job not in worker.jobs for worker in workers):
        _LOG.warning(
            "waiting for %s, but no living worker knows %s: start one (wakelog worker "
            "MODULE:jobs, or jobs.open(url, worker=True))",
            what,
            job,
            extra={"instance": what},
        )
