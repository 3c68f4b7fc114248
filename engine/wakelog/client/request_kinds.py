"""Replies: the result of a request, made from its turn, kept as JSON under an idempotency key.

The replies of one type of job are beside its client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import msgspec

from wakelog.arguments import check_key
from wakelog.client.results import (
    ClearResult,
    PauseResult,
    Result,
    ResumeResult,
    RetryResult,
    TriggerResult,
)
from wakelog.core.events import (
    Cleared,
    Event,
    Paused,
    Resumed,
    RetryScheduled,
    ScheduleCancelled,
    Scheduled,
)
from wakelog.core.instance import Instance
from wakelog.core.time import moment
from wakelog.errors import StoreUnavailableError
from wakelog.runtime.unit_of_work import IdempotencyKey
from wakelog.turn import Turn

__all__ = [
    "CANCEL_CLEAR",
    "CLEAR",
    "PAUSE",
    "RESUME",
    "RETRY",
    "TRIGGER",
    "RequestKind",
    "first_event",
    "why_blocked",
    "why_held",
]

R = TypeVar("R", bound=Result)
E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class RequestKind(Generic[R]):
    """What can be requested, under which name, and how its reply is made."""

    action: str
    make_reply: Callable[[Turn, str], R]
    """The reply to a turn of the instance with this stream id."""
    reply_type: type[R]

    def key(self, key: str, options: tuple[object, ...]) -> IdempotencyKey:
        """The key of a request, with a digest of its options. Raises `ValidationError`."""
        fingerprint = hashlib.sha256(repr(options).encode()).hexdigest()
        return IdempotencyKey(check_key(key), self.action, fingerprint, encode)

    def repeated(self, body: str) -> R:
        """The reply to an earlier request with the same key. Raises `StoreUnavailableError`
        ("damaged") if what was kept is no such reply."""
        try:
            kept = msgspec.json.decode(body, type=self.reply_type)
        except (ValueError, RecursionError) as error:  # msgspec's errors are `ValueError`s
            raise StoreUnavailableError(
                "damaged", f"a kept reply cannot be read: {error}"
            ) from error
        return replace(kept, duplicate=True)


def encode(reply: Result) -> str:
    """JSON of a reply."""
    return msgspec.json.encode(reply).decode()


def why_blocked(instance: Instance) -> str | None:
    """Why nothing can be started now; None if something can."""
    if not instance.exists:
        return "not_found"
    if instance.run is not None:
        return "running"
    return why_held(instance)


def why_held(instance: Instance) -> str | None:
    """Why nothing is started until somebody acts; None if something can be."""
    held = next((what for what in ("paused", "stopped", "parked") if getattr(instance, what)), None)
    return held or ("waiting_for_code" if instance.waits_for_code else None)


def first_event(turn: Turn, kind: type[E]) -> E | None:
    """The first event of this type among those of a turn."""
    return next((event for event in turn.events if isinstance(event, kind)), None)


# -- all types of job ------------------------------------------------------------------------------


def _triggered(turn: Turn, stream: str) -> TriggerResult:
    reason = why_blocked(turn.before)
    version = turn.after.version
    triggered = reason is None
    return TriggerResult(instance_id=stream, version=version, triggered=triggered, reason=reason)


def _retried(turn: Turn, stream: str) -> RetryResult:
    retried = first_event(turn, RetryScheduled) is not None
    reason = None if retried else why_blocked(turn.before) or "not_failed"
    if not retried and first_event(turn, Scheduled) is not None:
        reason = "waiting_for_code"
    return RetryResult(
        instance_id=stream,
        version=turn.after.version,
        retried=retried or bool(turn.events),
        reason=reason,
    )


def _paused(turn: Turn, stream: str) -> PauseResult:
    event, version = first_event(turn, Paused), turn.after.version
    if event is not None:
        return PauseResult(instance_id=stream, version=version, paused=True, reason=event.reason)
    status = "stopped" if turn.before.stopped else "paused"
    reason = status if turn.before.exists else "not_found"
    return PauseResult(instance_id=stream, version=version, paused=False, reason=reason)


def _resumed(turn: Turn, stream: str) -> ResumeResult:
    event, version = first_event(turn, Resumed), turn.after.version
    if event is not None:
        return ResumeResult(instance_id=stream, version=version, resumed=True, reason=event.reason)
    reason = "not_paused" if turn.before.exists else "not_found"
    return ResumeResult(instance_id=stream, version=version, resumed=False, reason=reason)


def _cleared(turn: Turn, stream: str) -> ClearResult:
    event = first_event(turn, Cleared)
    return ClearResult(
        instance_id=stream,
        version=turn.after.version,
        cleared=event is not None,
        clear_at=moment(turn.after.clear_at_us),
        discarded=event.discarded if event else 0,
        cancelled=first_event(turn, ScheduleCancelled) is not None,
    )


TRIGGER = RequestKind("trigger", _triggered, TriggerResult)
RETRY = RequestKind("retry", _retried, RetryResult)
PAUSE = RequestKind("pause", _paused, PauseResult)
RESUME = RequestKind("resume", _resumed, ResumeResult)
CLEAR = RequestKind("clear", _cleared, ClearResult)
CANCEL_CLEAR = RequestKind("cancel_clear", _cleared, ClearResult)
