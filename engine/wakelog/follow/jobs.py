"""Jobs that follow a log: that of another application (E2), or the messages of their own (I3).

Each is a Task with one instance, whose state is the position up to which it has followed. A run
reads what is new and calls the user's function with each; what that sends, and the position, go
into one append. One that fails holds back what comes behind it: what was followed before it in the
same run is recorded, and the next run begins with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from wakelog.application import Application
from wakelog.core.retry import Backoff, Retry
from wakelog.definitions.task import Task, TaskContext
from wakelog.errors import Issue, ValidationError
from wakelog.follow.feed import read_page
from wakelog.functions import is_async, plain_result, why_unfit
from wakelog.log.cloud_event import CloudEvent, Topics

__all__ = ["OnMessage", "Policy", "Source", "following_application", "following_own"]

PAGE = 100
"""What one run follows, at most: what it sends is one append."""
RETRY = Retry(max_attempts=1_000_000, delay=Backoff.exponential("1s", max="1m"))
"""Without end: what is followed is followed in its order."""

Policy = Callable[[TaskContext[int], Any], object]
"""Called with a context and a domain event: a `def`, whose result is ignored."""
OnMessage = Callable[[TaskContext[int], CloudEvent], Awaitable[object] | object]
"""Called with a context and a message: a `def` or an `async def`, whose result is ignored."""


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


class News(NamedTuple):
    """Whether there is something to follow."""

    newest: int | None
    """The position of the newest; None: there is nothing."""
    upto: int
    """The position up to which that was looked for."""


class FollowedLog(ABC):
    """What a job follows. Its calls block."""

    @abstractmethod
    def news(self, app: Application, after: int) -> News:
        """Whether there is something after a position."""

    @abstractmethod
    def page(self, app: Application, after: int) -> list[tuple[int, Any]]:
        """What there is after a position, each with its own, up to `PAGE`."""

    def first(self, app: Application, after: int) -> int | None:
        """The position of the first after another one; None: there is none."""
        found = self.page(app, after)
        return found[0][0] if found else None

    def pending(self, app: Application, after: int) -> int:
        """How many there are after a position."""
        count = 0
        while page := self.page(app, after):
            count, after = count + len(page), page[-1][0]
        return count


class FollowedApplication(FollowedLog):
    """The log of another application."""

    def __init__(self, source: Source) -> None:
        self._log: _Recorder = source.recorder
        self._mapper = source.mapper

    def news(self, app: Application, after: int) -> News:
        newest = self._log.max_notification_id() or 0
        return News(newest, newest) if newest > after else News(None, after)

    def page(self, app: Application, after: int) -> list[tuple[int, Any]]:
        """The domain events after a position, each with its own, up to `PAGE`."""
        found = self._log.select_notifications(after + 1, PAGE)
        return [(int(each.id), self._mapper.to_domain_event(each)) for each in found]


class FollowedMessages(FollowedLog):
    """The messages for the outside in our own log."""

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = Topics(topics)

    def news(self, app: Application, after: int) -> News:
        page = read_page(app, after, self._topics)
        return News(page.events[-1].position.at if page.events else None, page.upto)

    def page(self, app: Application, after: int) -> list[tuple[int, Any]]:
        """The messages after a position, each with its own, up to `PAGE`."""
        found = read_page(app, after, self._topics)
        while not found.events and found.upto > after:
            after = found.upto
            found = read_page(app, after, self._topics)
        return [(each.position.at, each) for each in found.events[:PAGE]]


def following_application(
    application: Source, policy: Policy, retry: Retry | None = None
) -> Task[int, int]:
    """The definition of a job that follows `application`. Raises `ValidationError` for what is no
    such application, and for a policy that cannot be called."""
    parts = ("recorder", "mapper")
    if missing := [each for each in parts if not hasattr(application, each)]:
        message = f"expected an application of the eventsourcing library: it has no {missing[0]}"
        raise ValidationError("follow", [Issue(loc="application", msg=message, type="type")])
    if unfit := why_unfit(policy, 2):
        raise ValidationError("follow", [Issue(loc="policy", msg=unfit, type="callable")])
    return _following(FollowedApplication(application), policy, retry)


def following_own(
    topics: Sequence[str], on_message: OnMessage, retry: Retry | None = None
) -> Task[int, int]:
    """The definition of a job that is called with the messages on these topics. Raises
    `ValidationError`."""
    if not is_async(on_message) and (unfit := why_unfit(on_message, 2)):
        raise ValidationError("follower", [Issue(loc="handler", msg=unfit, type="callable")])
    return _following(FollowedMessages(topics), on_message, retry)


def _following(
    followed: FollowedLog,
    call: Callable[[TaskContext[int], Any], Any],
    retry: Retry | None,
) -> Task[int, int]:
    job: Task[int, int] = Task(state=int, event=int, retry=retry or RETRY)
    job.followed = followed

    @job.on_event
    async def noticed(ctx: TaskContext[int], newest: int) -> None:
        ctx.schedule(0)

    if is_async(call):

        @job.execute
        async def follow(ctx: TaskContext[int]) -> None:
            app: Application = ctx.application
            page = await app.threads.browse(followed.page, app, ctx.state or 0)
            for number, (position, each) in enumerate(page):
                mark = len(ctx.commands)
                try:
                    await call(ctx, each)
                except Exception:
                    _leave(ctx, number, mark)
                    return
                ctx.set_state(position)
            _go_on(ctx, page)

    else:

        @job.execute
        def follow_in_thread(ctx: TaskContext[int]) -> None:
            page = followed.page(ctx.application, ctx.state or 0)
            for number, (position, each) in enumerate(page):
                mark = len(ctx.commands)
                try:
                    plain_result(call(ctx, each))
                except Exception:
                    _leave(ctx, number, mark)
                    return
                ctx.set_state(position)
            _go_on(ctx, page)

    return job


def _leave(ctx: TaskContext[int], number: int, mark: int) -> None:
    """The user's function has failed with this one of a page: the first one fails the run; another
    one is the first of the next run, and what the function had asked for is dropped."""
    if not number:
        raise
    ctx.log.warning("what is followed could not be handled: it comes again at once", exc_info=True)
    del ctx.commands[mark:]
    ctx.schedule(0)


def _go_on(ctx: TaskContext[int], page: Sequence[object]) -> None:
    if len(page) == PAGE:
        ctx.schedule(0)
