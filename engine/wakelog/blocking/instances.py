"""What can be requested of the instances of any job, blocking.

Made from wakelog.client.base by `make blocking`: change that one.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from wakelog.blocking.portal import Portal
from wakelog.client.base import EventClient, JobClient
from wakelog.client.dead_letters import DeadLetter, DeadLetterResult
from wakelog.client.results import (
    ClearResult,
    PauseResult,
    ResumeResult,
    RetryResult,
    TriggerResult,
)
from wakelog.client.status import InstanceStatus
from wakelog.core.time import Duration

__all__ = ["BlockingEventClient", "BlockingJobClient"]

S = TypeVar("S")
Status = TypeVar("Status", bound=InstanceStatus)


class BlockingJobClient(Generic[S, Status]):
    """What can be requested of the instances of any job. All times are aware datetimes in UTC.

    Every call may raise `InvalidIdError`, `StoreUnavailableError` and `ConflictError`; those with
    a key `IdempotencyConflictError`. A crash before a call returns leaves all of it or nothing.
    """

    def __init__(self, client: JobClient[S, Status], portal: Portal) -> None:
        self._job_client = client
        self._portal = portal

    @property
    def name(self) -> str:
        """The name under which the definition is registered."""
        return self._job_client.name

    def trigger(
        self,
        id: str,
        *,
        consume_alarm: bool = False,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> TriggerResult:
        """Have a worker call `execute` now; `wait` for its outcome, at most `timeout`.

        The schedule stays unless `consume_alarm`. A trigger that is already waiting for a worker
        is joined; a run that has failed, or waits for its next attempt, is started again. Raises
        `WaitTimeoutError`.
        """
        return self._portal.call(
            lambda: self._job_client.trigger(
                id,
                consume_alarm=consume_alarm,
                wait=wait,
                timeout=timeout,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def retry(
        self,
        id: str,
        *,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> RetryResult:
        """Start the run that has failed, or that waits for its next attempt, again: from attempt
        1, as the same run, so that steps it has recorded are not done again.

        `wait` for the outcome of that attempt, at most `timeout`. Nothing happens if no run has
        failed; an instance that was parked as unreadable is read again. Raises
        `WaitTimeoutError`.
        """
        return self._portal.call(
            lambda: self._job_client.retry(
                id,
                wait=wait,
                timeout=timeout,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def pause(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> PauseResult:
        """Pause the instance: its alarms wait and its events are deferred, until `resume`.

        An open run may end, but nothing is started.
        """
        return self._portal.call(
            lambda: self._job_client.pause(
                id,
                reason=reason,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def resume(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ResumeResult:
        """Let a paused instance go on: what is due by now is due at once."""
        return self._portal.call(
            lambda: self._job_client.resume(
                id,
                reason=reason,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def dead_letters(self, id: str) -> list[DeadLetter]:
        """The events and batches of the instance that were given up, and why, the oldest first.

        Those of an ended life stay, unless it was ended from outside; of more than 10,000 the
        newest.
        """
        return self._portal.call(lambda: self._job_client.dead_letters(id))

    def requeue(
        self,
        id: str,
        event: int | None = None,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> DeadLetterResult:
        """Let a dead letter wait again, named by `DeadLetter.event`, or all of the instance: behind
        what waits already, from attempt 1.

        A batch gets a window of its own, which is due at once. Raises `QueueFullError`.
        """
        return self._portal.call(
            lambda: self._job_client.requeue(
                id,
                event,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def discard(
        self,
        id: str,
        event: int | None = None,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> DeadLetterResult:
        """Drop a dead letter for good, named by `DeadLetter.event`, or all of the instance. Also
        drops an event or a batch that waits for code, by its `waits_for_code.event_version`."""
        return self._portal.call(
            lambda: self._job_client.discard(
                id,
                event,
                reason=reason,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def dead_letter(
        self,
        id: str,
        event: int | None = None,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> DeadLetterResult:
        """Make a dead letter of the event or batch that waits for code, so that what is behind it
        goes on; `event` says which it must be. Nothing happens if the state is what waits."""
        return self._portal.call(
            lambda: self._job_client.dead_letter(
                id,
                event,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def status(self, id: str, *, stale_ok: bool = False) -> Status:
        """The status of the instance, as recorded now; `stale_ok` may answer from memory."""
        return self._portal.call(lambda: self._job_client.status(id, stale_ok=stale_ok))

    def get_state(self, id: str, *, stale_ok: bool = False) -> S | None:
        """The state as `on_client_get_state` shows it, None if there is none.

        Raises `ExecutionError` if that handler fails, or if the recorded state does not fit the
        definition's type any longer.
        """
        return self._portal.call(lambda: self._job_client.get_state(id, stale_ok=stale_ok))

    def forget_key(self, id: str, key: str) -> bool:
        """Free an idempotency key before its time; answers whether it was there."""
        return self._portal.call(lambda: self._job_client.forget_key(id, key))


class BlockingEventClient(BlockingJobClient[S, Status]):
    """What can be requested of the instances of jobs that take events: the first event begins a
    life, a clear ends it."""

    def __init__(self, client: EventClient[S, Status], portal: Portal) -> None:
        super().__init__(client, portal)
        self._event_client = client

    def clear(
        self,
        id: str,
        *,
        after: Duration | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ClearResult:
        """End the life of instance `id`, now or `after` a while; its history stays.

        A clear now ends an open run too: its outcome is not recorded. One that is due while a
        run is open waits for that run's end.
        """
        return self._portal.call(
            lambda: self._event_client.clear(
                id,
                after=after,
                reason=reason,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def cancel_clear(
        self,
        id: str,
        *,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> ClearResult:
        """Cancel a delayed clear; nothing happens if none is pending."""
        return self._portal.call(
            lambda: self._event_client.cancel_clear(
                id, idempotency_key=idempotency_key, actor=actor, correlation_id=correlation_id
            )
        )
