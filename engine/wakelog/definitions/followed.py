"""A job that follows another `eventsourcing` application: its domain events drive other jobs (E2).

It is a Task with one instance, whose state is the position up to which it has followed. A run reads
the events that are new and calls the policy with each; what the policy sends, and the position, go
into one append.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from wakelog.core.retry import Backoff, Retry
from wakelog.definitions.task import Task, TaskContext
from wakelog.errors import Issue, ValidationError
from wakelog.functions import plain_result, why_unfit

__all__ = ["FOLLOWER", "Followed", "Policy", "Source", "following"]

FOLLOWER = "follower"
"""The id of the one instance."""
PAGE = 100
"""Domain events that one run follows, at most: what it sends for them is one append."""
RETRY = Retry(max_attempts=1_000_000, delay=Backoff.exponential("1s", max="1m"))
"""Events are followed in their order: one that fails holds back those behind it until it does not.
"""

Policy = Callable[[TaskContext[int], Any], object]
"""Called with a context and a domain event: a `def`, whose result is ignored."""


class _Recorder(Protocol):
    def max_notification_id(self) -> int | None: ...

    def select_notifications(self, start: int | None, limit: int) -> Iterable[Any]: ...


class Source(Protocol):
    """What is asked of an application of the `eventsourcing` library."""

    @property
    def recorder(self) -> Any:
        """Its log: events in order, each with its position."""
        ...

    @property
    def mapper(self) -> Any:
        """Makes domain events of them."""
        ...


class Followed:
    """The log of another application. Its calls block."""

    def __init__(self, source: Source) -> None:
        self._log: _Recorder = source.recorder
        self._mapper = source.mapper

    def newest(self) -> int:
        """The position of its newest event; 0: there is none."""
        return self._log.max_notification_id() or 0

    def page(self, after: int) -> list[tuple[int, Any]]:
        """The domain events after a position, each with its own, up to `PAGE`."""
        found = self._log.select_notifications(after + 1, PAGE)
        return [(int(each.id), self._mapper.to_domain_event(each)) for each in found]


def following(application: Source, policy: Policy, retry: Retry | None = None) -> Task[int, int]:
    """The definition of a job that follows `application`. Raises `ValidationError` for what is no
    such application, and for a policy that cannot be called."""
    parts = ("recorder", "mapper")
    if missing := [each for each in parts if not hasattr(application, each)]:
        message = f"expected an application of the eventsourcing library: it has no {missing[0]}"
        raise ValidationError("follow", [Issue(loc="application", msg=message, type="type")])
    if unfit := why_unfit(policy, 2):
        raise ValidationError("follow", [Issue(loc="policy", msg=unfit, type="callable")])
    job: Task[int, int] = Task(state=int, event=int, retry=retry or RETRY)
    job.followed = followed = Followed(application)

    @job.on_event
    async def noticed(ctx: TaskContext[int], newest: int) -> None:
        ctx.schedule(0)

    @job.execute
    def follow(ctx: TaskContext[int]) -> None:
        page = followed.page(ctx.state or 0)
        for position, event in page:
            plain_result(policy(ctx, event))
            ctx.set_state(position)
        if len(page) == PAGE:
            ctx.schedule(0)

    return job
