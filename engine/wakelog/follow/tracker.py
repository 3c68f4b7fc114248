"""A follower that tells a tracker what happens to jobs (A8): `jobs.track(publisher)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from wakelog.application import Application
from wakelog.core.retry import Backoff, Retry
from wakelog.definitions.task import Task, TaskContext
from wakelog.errors import Issue, ValidationError, quoted
from wakelog.follow.feed import FOLLOWER, newest
from wakelog.follow.jobs import News
from wakelog.follow.telemetry import TOPICS, TrackedEvent, tracked
from wakelog.log.records import decode
from wakelog.ports.records import StoredEvent

__all__ = ["Publisher", "tracking"]

PAGE = 200
"""Events of the log that are looked at for one batch. Of a pool each may be hundreds of events."""
RETRY = Retry(max_attempts=1_000_000, delay=Backoff.exponential("1s", max="1m"))


class Publisher(Protocol):
    """Where tracked events go: an HTTP endpoint, a message broker."""

    def publish(self, batch: Sequence[TrackedEvent]) -> None:
        """Hand over a batch, in order; called in a thread, one batch at a time. What it raises is
        logged, and the same batch, or a longer one that begins with it, is handed over again."""
        ...


class _Batch(NamedTuple):
    events: list[TrackedEvent]
    upto: int
    is_full: bool


class _TrackedLog:
    """The log but for the followers' own events, which would go round and round."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self._extra = extra

    def batch(self, app: Application, after: int) -> _Batch:
        """What is to be published after a position. Blocks."""
        end = newest(app)
        found = app.recorder.select_notifications(
            after, PAGE, topics=TOPICS, inclusive_of_start=False
        )
        followers = {f"{d.job}:{FOLLOWER}" for d in app.registry if d.followed is not None}
        events: list[TrackedEvent] = []
        for each in found:
            stream, version = str(each.originator_id), each.originator_version
            if stream not in followers:
                recorded = decode(StoredEvent(stream, version, each.topic, each.state))
                events += [{**event, **self._extra} for event in tracked(recorded)]
        last = found[-1].id if found else 0
        is_full = len(found) == PAGE
        return _Batch(events, last if is_full else max(end, last, after), is_full)

    def news(self, app: Application, after: int) -> News:
        """See `FollowedLog.news`."""
        batch = self.batch(app, after)
        return News(batch.upto if batch.events else None, batch.upto)

    def first(self, app: Application, after: int) -> int | None:
        """See `FollowedLog.first`."""
        batch = self.batch(app, after)
        while batch.is_full and not batch.events:
            after = batch.upto
            batch = self.batch(app, after)
        return after + 1 if batch.events else None

    def pending(self, app: Application, after: int) -> int:
        """See `FollowedLog.pending`."""
        count, is_full = 0, True
        while is_full:
            batch = self.batch(app, after)
            count, after, is_full = count + len(batch.events), batch.upto, batch.is_full
        return count


def tracking(publisher: Publisher, env: str | None, service_key: str | None) -> Task[int, int]:
    """The definition of a job that hands batches to `publisher`. Raises `ValidationError`."""
    if not callable(getattr(publisher, "publish", None)):
        issue = Issue(loc="publisher", msg="expected an object with a publish(batch)", type="type")
        raise ValidationError(f"track {quoted(publisher)}", [issue])
    extra = {"env": env, "serviceKey": service_key}
    log = _TrackedLog({key: value for key, value in extra.items() if value is not None})
    job: Task[int, int] = Task(state=int, event=int, retry=RETRY)
    job.followed = log

    @job.on_event
    async def noticed(ctx: TaskContext[int], newest: int) -> None:
        ctx.schedule(0)

    @job.execute
    def publish(ctx: TaskContext[int]) -> None:
        batch = log.batch(ctx.application, ctx.state or 0)
        if batch.events:
            publisher.publish(batch.events)
        ctx.set_state(batch.upto)
        if batch.is_full:
            ctx.schedule(0)

    return job
