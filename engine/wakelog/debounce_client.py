"""The client of a Debounce: add, flush, clear, and how an instance stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from wakelog.client import EventClient, timeout_us
from wakelog.core.commands import Receive, TriggerRun
from wakelog.core.events import (
    Cleared,
    DeadLettered,
    EventReceived,
    ExecutionFailed,
    Flushed,
    RetryExhausted,
    RetryScheduled,
)
from wakelog.core.instance import Instance
from wakelog.core.schedule import Duration
from wakelog.core.windows import Window
from wakelog.debounce import Debounce
from wakelog.door import Body, Door, Question, origin_of
from wakelog.ids import InstanceId
from wakelog.log import Recorded
from wakelog.results import AddResult, Failed, FlushResult, TriggerResult
from wakelog.standing import DebounceStatus, debounce_status, moment
from wakelog.turn import Turn
from wakelog.waiting import end_of_unit, warn_if_alone

__all__ = ["DebounceClient", "debounce_standing"]

S = TypeVar("S")
E = TypeVar("E")


class DebounceClient(EventClient[S], Generic[S, E]):
    """What can be asked of the instances of one Debounce."""

    def __init__(self, door: Door, definition: Debounce[S, E]) -> None:
        super().__init__(door, definition)

    async def add(
        self,
        id: str,
        event: E,
        *,
        event_id: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> AddResult:
        """Add `event` to the open window of instance `id`, or open one with it.

        Never fails because of a flush: that is a unit of work of its own. `event_id` makes the
        call repeatable: the same key again is answered as before. Raises `ValidationError` for an
        event that does not fit, `ExecutionError` where the reducer refused it (it was not
        accepted), and `QueueFullError`.
        """
        instance = self._id(id)
        payload = self._definition.event.dump(event, self._definition.name)[0]
        request = Receive(payload, event_id, defer=not self._door.handlers)
        question, origin = Question("add", _added, (payload,)), origin_of(actor, correlation_id)
        said = await self._door.ask(self._definition, instance, request, question, event_id, origin)
        return AddResult(will_flush_at=moment(said.pop("flush_us")), **said)

    async def flush(
        self,
        id: str,
        *,
        wait: bool = True,
        timeout: Duration | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
    ) -> FlushResult:
        """Have all that was added flushed now, by a worker; `wait` for it, at most `timeout`.

        The answer is about the newest window; those before it are flushed before it. One that is
        being flushed already is joined; one that has failed, or waits for its next attempt, is
        started again. Without `wait` it only asks, and `flushed` says nothing. Raises
        `WaitTimeoutError`: the flush is asked for, and still to come.
        """
        instance = self._id(id)
        longest_us = timeout_us(timeout)
        if held := await self._held_as_a_whole(instance):
            return FlushResult(flushed=False, **held)
        question, origin = Question("flush", _asked), origin_of(actor, correlation_id)
        said = await self._door.ask(
            self._definition, instance, TriggerRun(), question, idempotency_key, origin
        )
        window = said.pop("window")
        result = FlushResult(flushed=False, **said)
        if window is None or not wait:
            return result
        app = self._door.app
        await warn_if_alone(app, instance)
        finder = _Finder(result, *window)
        result = await app.watching.watch(str(instance), result.version, finder, longest_us)
        version = await end_of_unit(app, instance, result.version)
        return dataclasses.replace(result, version=version)

    async def trigger(
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
        """A `flush`, answered as the trigger of any job is; it always consumes the schedule."""
        flush = await self.flush(
            id,
            wait=wait,
            timeout=timeout,
            idempotency_key=idempotency_key,
            actor=actor,
            correlation_id=correlation_id,
        )
        is_refused = flush.reason in ("empty", "paused", "parked")
        return TriggerResult(
            instance_id=flush.instance_id,
            version=flush.version,
            triggered=not is_refused,
            reason=flush.reason if is_refused else None,
            cleared=flush.reason == "cleared",
            failed=flush.failed,
            error=flush.error,
            retry_at=flush.retry_at,
            duplicate=flush.duplicate,
        )

    async def status(self, id: str, *, stale_ok: bool = False) -> DebounceStatus:
        """How the instance stands, as recorded now; `stale_ok` may answer out of memory."""
        return await debounce_standing(self._door, self._id(id), stale_ok=stale_ok)


async def debounce_standing(
    door: Door, id: InstanceId, *, stale_ok: bool = False
) -> DebounceStatus:
    """How a Debounce instance stands; no definition is needed."""
    door.check()
    app = door.app
    head = await app.load(id, stale_ok=stale_ok)
    row = app.store.row(head.instance, head.hash) if head.instance.version else None
    [shown] = await app.holds.shown([row], stale_ok=stale_ok)
    return debounce_status(head.instance, shown)


# -- answers ---------------------------------------------------------------------------------------


def _added(turn: Turn) -> Body:
    before, after = turn.before, turn.after
    received = next(each for each in turn.events if isinstance(each, EventReceived))
    window = _window(after, received.window)
    count = len(window.events) if window else _count(before, received.window) + 1
    return {
        "version": after.version,
        "created": _window(before, received.window) is None,
        "event_count": count,
        "flush_us": window.due_us if window else None,
        "flush_started": window is not None and window.reason == "max_events",
        "deferred": received.deferred,
    }


def _window(instance: Instance, number: int | None) -> Window | None:
    return next((each for each in instance.windows if each.number == number), None)


def _count(instance: Instance, number: int | None) -> int:
    window = _window(instance, number)
    return len(window.events) if window else 0


def _asked(turn: Turn) -> Body:
    """What was asked for: `window` is the first and last version of the window that is meant."""
    after = turn.after
    held = next((what for what in ("paused", "stopped", "parked") if getattr(after, what)), None)
    window = after.windows[-1] if after.windows else None
    is_held = held is not None and after.exists
    return {
        "version": after.version,
        "window": _meant(window) if window and not is_held else None,
        "event_count": len(window.events) if window else 0,
        "reason": held if is_held else window.reason if window else "empty",
    }


def _meant(window: Window) -> tuple[int, int]:
    return window.events[0], window.events[-1]


# -- waiting for a flush ---------------------------------------------------------------------------


class _Finder:
    """Reads what is recorded after a flush was asked for, until it tells what became of it."""

    def __init__(self, asked: FlushResult, first: int, newest: int) -> None:
        self._asked = asked
        self._range = range(first, newest + 1)
        """Versions between which only this window has events."""
        self._lost = 0
        """How many events of it could not be reduced."""
        self._failed = ""
        """The commit of the newest flush that did not end well."""
        self._error: Failed | None = None

    def __call__(self, recorded: Recorded) -> FlushResult | None:
        event, commit = recorded.event, recorded.commit
        match event:
            case ExecutionFailed(handler="execute", recovered=False):
                self._failed = commit
                self._error = Failed(type=event.error_type, message=event.message)
            case RetryScheduled(event_version=None, by="policy"):
                if commit == self._failed:
                    return self._failure(recorded, retry_at=moment(event.due_us))
            case RetryExhausted(then="fail"):
                return self._failure(recorded)
            case DeadLettered():
                return self._dead(recorded, event)
            case Flushed(events=events) if self._has(events):
                said = {"event_count": len(events), "reason": event.reason}
                if commit == self._failed:
                    return self._failure(recorded, **said)
                return self._end(recorded, flushed=True, **said)
            case Cleared():
                return self._end(recorded, reason="cleared")
            case _:
                pass
        return None

    def _dead(self, recorded: Recorded, event: DeadLettered) -> FlushResult | None:
        """The whole batch; or one event of it, perhaps the last that it had."""
        if self._has(event.events):
            self._error = Failed(type=event.error_type, message=event.message)
            return self._failure(recorded, event_count=len(event.events))
        if not event.events and event.event_version in self._range:
            self._lost += 1
            if self._lost == self._asked.event_count:
                return self._end(recorded, event_count=0, reason="empty")
        return None

    def _has(self, events: Sequence[int]) -> bool:
        return bool(events) and events[0] in self._range

    def _failure(self, recorded: Recorded, **said: Any) -> FlushResult:
        return self._end(recorded, failed=True, error=self._error, **said)

    def _end(self, recorded: Recorded, **said: Any) -> FlushResult:
        return dataclasses.replace(self._asked, version=recorded.version, **said)
