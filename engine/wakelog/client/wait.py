"""Waiting for an outcome that a worker will record, perhaps in another process."""

from __future__ import annotations

import dataclasses
import logging
from typing import TypeVar

from wakelog.application import Application
from wakelog.client.results import ErrorInfo, RetryResult, StartResult, TriggerResult
from wakelog.core.events import (
    Cleared,
    DeadLettered,
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

__all__ = ["end_of_unit", "handled", "ran", "warn_if_alone"]

R = TypeVar("R", TriggerResult, RetryResult, StartResult)

_LOG = logging.getLogger("wakelog.client")


async def handled(app: Application, id: InstanceId, version: int, timeout_us: int | None) -> None:
    """Wait until the event accepted as `version` was handled.

    Raises `ExecutionError` where its handler failed or its life was ended first, and
    `WaitTimeoutError`.
    """
    await warn_if_alone(app, id)

    def find(recorded: Recorded) -> DeadLettered | EventHandled | Cleared | None:
        event = recorded.event
        if isinstance(event, EventHandled | DeadLettered) and event.event_version == version:
            return event
        return event if isinstance(event, Cleared) and event.by != "handler" else None

    found = await app.watching.watch(str(id), version, find, timeout_us)
    if isinstance(found, DeadLettered):
        raise ExecutionError(str(id), "on_event", found.error_type, found.message)
    if isinstance(found, Cleared):
        reason = found.reason or "the instance was cleared before the event was handled"
        raise ExecutionError(str(id), "on_event", "Cleared", reason)


async def ran(
    app: Application,
    id: InstanceId,
    asked: R,
    timeout_us: int | None,
    *,
    trigger: Trigger | None = "manual",
) -> R:
    """Wait for the outcome of the run that was asked for: the next one with that trigger, or with
    any. A stop before it begins ends the wait. Raises `WaitTimeoutError`."""
    await warn_if_alone(app, id)
    run: int | None = None

    def find(recorded: Recorded) -> R | None:
        nonlocal run
        event = recorded.event
        if run is None:
            if isinstance(event, RunStarted) and trigger in (None, event.trigger):
                run = event.run
            elif isinstance(event, Stopped):
                return dataclasses.replace(asked, version=recorded.version)
            elif isinstance(event, Cleared):
                return dataclasses.replace(asked, version=recorded.version, cleared=True)
            return None
        match event:
            case Executed(run=number) if number == run:
                return dataclasses.replace(asked, version=recorded.version)
            case ExecutionFailed(handler="execute", run=number) if number == run:
                error = ErrorInfo(type=event.error_type, message=event.message)
                failed = not event.recovered
                return dataclasses.replace(
                    asked,
                    version=recorded.version,
                    failed=failed,
                    error=error if failed else None,
                )
            case RetryExhausted(run=number) if number == run:
                error = ErrorInfo(type="RetryExhausted", message=event.reason)
                return dataclasses.replace(
                    asked, version=recorded.version, failed=True, error=error
                )
            case Cleared():
                return dataclasses.replace(asked, version=recorded.version, cleared=True)
            case _:
                return None

    result = await app.watching.watch(str(id), asked.version, find, timeout_us)
    return await _completed(app, id, result)


async def end_of_unit(app: Application, id: InstanceId, version: int) -> int:
    """The last version of the unit of work that `version` belongs to."""
    first, *rest = await app.read(app.store.events, str(id), after=version - 1)
    commit = decode(first).commit
    for stored in rest:
        if decode(stored).commit != commit:
            break
        version = stored.version
    return version


async def _completed(app: Application, id: InstanceId, result: R) -> R:
    """With what else was recorded in the outcome's own commit: a retry, a clear."""
    stored = await app.read(app.store.events, str(id), after=result.version - 1)
    commit = decode(stored[0]).commit
    for each in stored[1:]:
        recorded = decode(each)
        if recorded.commit != commit:
            break
        version = recorded.version
        match recorded.event:
            case RetryScheduled(due_us=due_us):
                result = dataclasses.replace(result, version=version, retry_at=moment(due_us))
            case Cleared():
                result = dataclasses.replace(result, version=version, cleared=True)
            case _:
                result = dataclasses.replace(result, version=version)
    return result


async def warn_if_alone(app: Application, id: InstanceId) -> None:
    """Say in the log that nobody lives who could bring the outcome that is waited for."""
    workers = await app.read(app.store.workers, app.clock.now_us())
    if app.watching.drive is None and all(id.job not in worker.jobs for worker in workers):
        _LOG.warning(
            "waiting for %s, but no living worker knows %s: start one (wakelog worker "
            "MODULE:jobs, or jobs.open(url, worker=True))",
            id,
            id.job,
            extra={"instance": str(id)},
        )
