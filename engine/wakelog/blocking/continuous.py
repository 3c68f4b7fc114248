"""The blocking client of a Continuous.

Made from wakelog.client.continuous by `make blocking`: change that one.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar, overload

from wakelog.blocking.instances import BlockingJobClient
from wakelog.blocking.portal import Portal
from wakelog.client.continuous import (
    ContinuousClient,
    ContinuousStatus,
    StartResult,
    StopResult,
    TerminateResult,
)
from wakelog.client.inbox.sending import InboxResult
from wakelog.core.time import Duration

__all__ = ["BlockingContinuousClient"]

S = TypeVar("S")


class BlockingContinuousClient(BlockingJobClient[S, ContinuousStatus], Generic[S]):
    """What can be requested of the instances of one Continuous job."""

    def __init__(self, client: ContinuousClient[S], portal: Portal) -> None:
        super().__init__(client, portal)
        self._continuous_client = client

    @overload
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
        connection: None = None,
    ) -> StartResult: ...
    @overload
    def start(
        self,
        id: str,
        input: S,
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        connection: object,
    ) -> InboxResult: ...
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
        connection: object | None = None,
    ) -> StartResult | InboxResult:
        """Begin recurring work, with `input` as its first state; `wait` for its first run, at
        most `timeout`.

        Nothing happens if it is running already (`created=False`). One that was stopped is resumed
        with the state that it has; with `replace` that becomes `input`. A first run that fails
        does not raise: the result says so. Raises `ValidationError` for an input that does not
        fit, and `WaitTimeoutError`.

        With a `connection` to the store's own database it is a part of the transaction that is
        open there: started after its commit, and never if it is rolled back. Nothing is waited
        for. Raises `InboxConnectionError` then.
        """
        call: Any = self._continuous_client.start

        def make() -> Coroutine[Any, Any, StartResult | InboxResult]:
            sending: Coroutine[Any, Any, StartResult | InboxResult] = call(
                id,
                input,
                replace=replace,
                wait=wait,
                timeout=timeout,
                idempotency_key=idempotency_key,
                actor=actor,
                correlation_id=correlation_id,
                connection=connection,
            )
            return sending

        portal = self._portal
        return portal.call(make) if connection is None else portal.at_once(make)

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
