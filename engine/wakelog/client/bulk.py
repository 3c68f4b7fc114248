"""Bulk actions: all instances that match are paused, resumed, retried or cleared, or their dead
letters are requeued or discarded (A6, A9)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from wakelog.arguments import check_type, reason_of
from wakelog.bounds import at_least
from wakelog.client.dead_letters import request_about
from wakelog.client.gateway import RequestGateway
from wakelog.client.listing import Filters, InstanceRow, check_filters, list_instances
from wakelog.client.request_kinds import RequestKind, why_blocked
from wakelog.client.results import Result
from wakelog.core.requests import Clear, PauseWork, Request, ResumeWork, RetryRun
from wakelog.errors import Issue, StoreUnavailableError, ValidationError, WakelogError, quoted
from wakelog.ids import InstanceId
from wakelog.runtime.unit_records import Origin
from wakelog.turn import Turn

__all__ = ["MAX_NAMED", "BulkAction", "BulkResult", "NotDone", "bulk"]

BulkAction = Literal["pause", "resume", "retry", "clear", "requeue", "discard"]
"""What can be done to many instances at once."""

PAGE = 100
"""How many instances are looked up, and then changed, at a time."""
MAX_NAMED = 1_000
"""How many instances a result names, of those that match and of those that could not be done."""

ABOUT_DEAD_LETTERS: tuple[BulkAction, ...] = ("requeue", "discard")
"""Actions on the dead letters of instances, also of those whose life has ended."""

NOTHING_TO_DO: dict[BulkAction, str] = {
    "pause": "paused",
    "resume": "not_paused",
    "retry": "not_failed",
    "clear": "not_found",
    "requeue": "no_dead_letters",
    "discard": "no_dead_letters",
}
"""Why an action did nothing to an instance that could have been changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDone:
    """An instance that a bulk action did not change."""

    instance_id: str
    reason: str
    """One word, such as `running`, or the message of an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """The result of a bulk action."""

    action: str
    dry_run: bool
    """Nothing was done: this is what would have been tried."""
    matched: int
    done: int
    instance_ids: tuple[str, ...]
    """Those that matched, by id: the first 1,000."""
    not_done: tuple[NotDone, ...]
    """Those that could not be done, and why: the first 1,000 of `matched - done`."""


@dataclass(slots=True)
class _Tally:
    """What has become of the instances that matched so far."""

    named: list[str] = field(default_factory=list[str])
    matched: int = 0
    failed: int = 0
    not_done: list[NotDone] = field(default_factory=list[NotDone])

    def add(self, rows: Sequence[InstanceRow]) -> None:
        self.matched += len(rows)
        self.named += [row.instance_id for row in rows][: MAX_NAMED - len(self.named)]

    def refuse(self, row: InstanceRow, reason: str) -> None:
        self.failed += 1
        if len(self.not_done) < MAX_NAMED:
            self.not_done.append(NotDone(instance_id=row.instance_id, reason=reason))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is done to each instance."""

    action: BulkAction
    request: Request | None
    """The same for all instances; None if it is about the dead letters of each."""
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply(Result):
    reason: str | None
    """Why nothing was done; None if it was."""


async def bulk(
    gateway: RequestGateway,
    action: BulkAction,
    *,
    limit: int | None,
    dry_run: bool,
    reason: str | None,
    origin: Origin,
    filters: Filters,
) -> BulkResult:
    """Do it to each instance that matches: page by page, each a unit of its own.

    Raises `ValidationError` before anything is done, and `StoreUnavailableError`: then what was
    done before stays done, and asking again does the rest.
    """
    check_type(bool, "dry_run", dry_run)
    kind = _request_kind(action)
    asked = _Asked(action, _request(action, reason), reason_of(reason))
    check_filters(filters)
    if action in ABOUT_DEAD_LETTERS:
        filters["dead_letters"] = True
    if limit is not None:
        at_least(1, "limit", limit)
    left = limit
    tally = _Tally()
    after: str | None = None
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        rows = await list_instances(gateway, limit=size, after=after, **filters)
        tally.add(rows)
        if not dry_run:
            await _change(gateway, asked, kind, origin, rows, tally)
        if len(rows) < size:
            break
        after = rows[-1].instance_id
        left = None if left is None else left - size
    return BulkResult(
        action=action,
        dry_run=dry_run,
        matched=tally.matched,
        done=0 if dry_run else tally.matched - tally.failed,
        instance_ids=tuple(tally.named),
        not_done=tuple(tally.not_done),
    )


async def _change(
    gateway: RequestGateway,
    asked: _Asked,
    kind: RequestKind[_Reply],
    origin: Origin,
    rows: Sequence[InstanceRow],
    tally: _Tally,
) -> None:
    """Change one page. Raises `StoreUnavailableError` once all of it has been tried."""
    changes = (_why_not(gateway, asked, kind, origin, row) for row in rows)
    reasons = await asyncio.gather(*changes, return_exceptions=True)
    for row, reason in zip(rows, reasons, strict=True):
        if isinstance(reason, BaseException):
            raise reason
        if reason is not None:
            tally.refuse(row, reason)


async def _why_not(
    gateway: RequestGateway,
    asked: _Asked,
    kind: RequestKind[_Reply],
    origin: Origin,
    row: InstanceRow,
) -> str | None:
    """Do it to one instance; why it could not be done, None if it was."""
    id = InstanceId.parse(row.instance_id)
    try:
        definition = gateway.app.registry.of(id)
        request = asked.request or await request_about(
            gateway, asked.action, id, None, asked.reason
        )
        reply = await gateway.request(definition, id, request, kind, None, origin)
    except StoreUnavailableError as error:
        if error.reason != "refused":
            raise
        return str(error)
    except WakelogError as error:
        return str(error)
    return reply.reason


def _request_kind(action: BulkAction) -> RequestKind[_Reply]:
    def make_reply(turn: Turn, stream: str) -> _Reply:
        reason = None
        if not turn.events:
            blocked = why_blocked(turn.before) if action == "retry" else None
            is_there = turn.before.exists or action in ABOUT_DEAD_LETTERS
            reason = blocked or (NOTHING_TO_DO[action] if is_there else "not_found")
        return _Reply(instance_id=stream, version=turn.after.version, reason=reason)

    return RequestKind(action, make_reply, _Reply)


def _request(action: BulkAction, reason: str | None) -> Request | None:
    given = reason_of(reason)
    match action:
        case "pause":
            return PauseWork(given)
        case "resume":
            return ResumeWork(given)
        case "retry":
            return RetryRun()
        case "clear":
            return Clear(given)
        case "requeue" | "discard":
            return None
        case _:
            issue = Issue(
                loc="", msg=f"give one of {', '.join(get_args(BulkAction))}", type="action"
            )
            raise ValidationError(f"action {quoted(action)}", [issue])
