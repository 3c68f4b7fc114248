"""The operator's actions on many instances: a whole job is held, or all that match are changed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from wakelog.arguments import at_least
from wakelog.client.gateway import Body, Question, RequestGateway
from wakelog.client.listing import Filters
from wakelog.client.replies import blocked_reason_of
from wakelog.client.results import InstanceRow
from wakelog.core.requests import Clear, PauseWork, Request, ResumeWork, RetryRun
from wakelog.errors import Issue, StoreUnavailableError, ValidationError, WakelogError
from wakelog.ids import InstanceId, check_text
from wakelog.runtime.unit_of_work import Origin
from wakelog.turn import Turn

__all__ = ["MAX_NAMED", "BulkAction", "BulkResult", "NotDone", "bulk"]

BulkAction = Literal["pause", "resume", "retry", "clear"]
"""What can be done to many instances at once."""

PAGE = 100
"""How many instances are looked up, and then changed, at a time."""
MAX_NAMED = 1_000
"""How many instances an answer names, of those that match and of those that could not be done."""

NOTHING_TO_DO: dict[str, str] = {
    "pause": "paused",
    "resume": "not_paused",
    "retry": "not_failed",
    "clear": "not_found",
}
"""Why nothing came of an action on an instance that could have been changed."""


Lists = Callable[..., Awaitable[Sequence[InstanceRow]]]
"""`app.list`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDone:
    """An instance that a bulk action left as it was."""

    instance_id: str
    reason: str
    """One word, such as `running`, or the message of an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """What became of a bulk action."""

    action: str
    dry_run: bool
    """Nothing was done: this is what would have been tried."""
    matched: int
    done: int
    instance_ids: tuple[str, ...]
    """Those that matched, by id: the first 1,000."""
    not_done: tuple[NotDone, ...]
    """Those that could not be done, and why: the first 1,000 of `matched - done`."""


# -- a whole job -----------------------------------------------------------------------------------


# -- all that match --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """What has become of those that were found so far."""

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


async def bulk(
    gateway: RequestGateway,
    lists: Lists,
    action: BulkAction,
    *,
    limit: int | None,
    dry_run: bool,
    reason: str | None,
    origin: Origin,
    filters: Filters,
) -> BulkResult:
    """Do it to each that matches: page by page, each instance a unit of its own.

    Raises `ValidationError` before anything is done, and `StoreUnavailableError`: then what was
    done before stays done, and asking again does the rest.
    """
    request = _request(action, reason)
    if limit is not None:
        at_least(1, "limit", limit)
    left = limit
    tally = _Tally()
    after: str | None = None
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        rows = await lists(limit=size, after=after, **filters)
        tally.add(rows)
        if not dry_run:
            await _change(gateway, action, request, origin, rows, tally)
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
    action: BulkAction,
    request: Request,
    origin: Origin,
    rows: Sequence[InstanceRow],
    tally: _Tally,
) -> None:
    """Change one page. Raises `StoreUnavailableError` once all of it has been tried."""
    asked = (_why_not(gateway, action, request, origin, row) for row in rows)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            tally.refuse(row, answer)


async def _why_not(
    gateway: RequestGateway, action: BulkAction, request: Request, origin: Origin, row: InstanceRow
) -> str | None:
    """Do it to one instance; answers why it could not be done, None where it was."""
    id = InstanceId.parse(row.instance_id)
    question = Question(action, functools.partial(_answer, action))
    try:
        definition = gateway.app.registry.of(id)
        said = await gateway.ask(definition, id, request, question, None, origin)
    except StoreUnavailableError as error:
        if error.reason != "refused":
            raise
        return str(error)
    except WakelogError as error:
        return str(error)
    reason: str | None = said["reason"]
    return reason


def _answer(action: BulkAction, turn: Turn) -> Body:
    if turn.events:
        return {"reason": None}
    nothing = NOTHING_TO_DO[action]
    held = blocked_reason_of(turn.before) if action == "retry" else None
    return {"reason": held or (nothing if turn.before.exists else "not_found")}


def _request(action: BulkAction, reason: str | None) -> Request:
    said = None if reason is None else check_text(reason, "reason")
    requests: dict[str, Any] = {
        "pause": PauseWork(said),
        "resume": ResumeWork(said),
        "retry": RetryRun(),
        "clear": Clear(said),
    }
    if action not in requests:
        issue = Issue(loc="", msg=f"give one of {', '.join(requests)}", type="action")
        raise ValidationError(f"action {action!r}", [issue])
    request: Request = requests[action]
    return request
