"""The blocking client of a Continuous.

Made from wakelog.client.continuous by `make blocking`: change that one.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from wakelog.blocking.instances import BlockingJobClient
from wakelog.blocking.portal import Portal
from wakelog.client.continuous import (
    ContinuousClient,
    ContinuousStatus,
    StartResult,
    StopResult,
    TerminateResult,
)
from wakelog.core.time import Duration

__all__ = ["BlockingContinuousClient"]

S = TypeVar("S")


class BlockingContinuousClient(BlockingJobClient[S, ContinuousStatus], Generic[S]):
    """What can be requested of the instances of one Continuous job."""

    def __init__(self, client: ContinuousClient[S], portal: Portal) -> None:
        super().__init__(client, portal)
        self._continuous_client = client

    def start(
        self,
        id: str,
        input: S,
        *,
        replace: bool = False,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> StartResult:
        """Begin recurring work, with `input` as its first state; `wait` for its first run, at
        most `timeout`.

        Nothing happens if it is running already (`created=False`). One that was stopped is resumed
        with the state that it has; with `replace` that becomes `input`. A first run that fails
        does not raise: the result says so. Raises `ValidationError` for an input that does not
        fit, and `WaitTimeoutError`.
        """
        return self._portal.call(
            lambda: self._continuous_client.start(
                id,
                input,
                replace=replace,
                wait=wait,
                timeout=timeout,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def stop(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> StopResult:
        """Start no further run; the state is kept, and `start` goes on with it. An open run may
        end."""
        return self._portal.call(
            lambda: self._continuous_client.stop(
                id,
                reason=reason,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )

    def terminate(
        self,
        id: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> TerminateResult:
        """End this life at once; its history stays. An open run is cancelled if it can be, and
        its outcome is not recorded."""
        return self._portal.call(
            lambda: self._continuous_client.terminate(
                id,
                reason=reason,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
            )
        )
