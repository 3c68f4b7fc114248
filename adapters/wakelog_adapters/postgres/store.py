"""The PostgreSQL store: one schema, any number of threads, processes and machines."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Literal

from eventsourcing import persistence

from wakelog.core.events import MessageSent
from wakelog.ports.messages import Message
from wakelog.ports.pools import Plan, PoolLook, PoolSeen, PoolWrites, Refold, SegmentRow
from wakelog.ports.rows import Due, JobPauseRow
from wakelog.ports.store import LOG
from wakelog.ports.units import Appended, ClaimRequest, Unit
from wakelog_adapters.inbox.postgres import PostgresInbox
from wakelog_adapters.postgres.append import Appender
from wakelog_adapters.postgres.append_started import AppendStarter, SentAppend
from wakelog_adapters.postgres.claims import Claimer, release
from wakelog_adapters.postgres.connections import (
    Connection,
    Datastore,
    Waits,
    connect,
    is_pooled,
    rows_of,
)
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.notifications import (
    POLL_WITH_LISTENER_US,
    POLL_WITHOUT_LISTENER_US,
    Listener,
    Notifier,
    Told,
)
from wakelog_adapters.postgres.pools import PoolCaller
from wakelog_adapters.postgres.schema import PostgresSchema
from wakelog_adapters.postgres.session.settings import check_settings
from wakelog_adapters.postgres.url import StoreLocation
from wakelog_adapters.sql.pool_tables import rebuild
from wakelog_adapters.sql.small_writes import SmallWrites
from wakelog_adapters.sql.subscription import LogListeners, LogSubscription

__all__ = ["PostgresStore"]

_LOG = logging.getLogger("wakelog.postgres")
_FOLLOW_S = 1.0
_NOTHING = Appended((), None)
_POOLER_FOUND = (
    "%s: there is a pooler between, so alarms of other processes are looked for 5 times a second;"
    " if it keeps a session for each client, add pooler=session to the URL: it allows notifications"
)


class PostgresStore(SmallWrites, PostgresInbox):
    """Events, views, leases and replies in one schema, each append in one transaction.

    A crash at any point leaves the transactions that were acknowledged, and no part of another. The
    server's clock judges leases: they are sent as durations.
    """

    def __init__(self, datastore: Datastore, location: StoreLocation) -> None:
        given = location
        location = datastore.retry_unreachable(lambda: _prepare(given, datastore.waits))
        datastore.open(location)
        super().__init__(datastore, location)
        self.appender = Appender(datastore, self.queries, location)
        self._starter = AppendStarter(datastore, self.queries, self.appender, self._on_appended)
        self._pools = PoolCaller(datastore, self.queries, location, self.appender)
        self._claimer = Claimer(datastore, self.queries, location)
        self.listeners = LogListeners()
        """What waits for the appends of this process."""
        self._own = secrets.token_hex(8)
        self.notifier = Notifier(location, datastore.waits, self._own)
        """Notifies other processes of alarms that this one sets."""
        self._alarm_listeners: set[Listener] = set()
        if datastore.server_clock:
            try:
                self.notifier.start()
            except BaseException:
                datastore.close()
                raise

    @property
    def blocking(self) -> Literal[True]:
        return True

    @property
    def poll_us(self) -> int | None:
        """Seldom while notifications of other processes arrive, else often.

        Asked for at every look of a worker, so this is where its threads are watched.
        """
        self.notifier.keep_running()
        for listener in tuple(self._alarm_listeners):
            listener.keep_running()
        listeners = tuple(self._alarm_listeners)
        if listeners and all(listener.is_listening for listener in listeners):
            return POLL_WITH_LISTENER_US
        return POLL_WITHOUT_LISTENER_US

    def watch_alarms(
        self, on_alarm: Callable[[int], None], on_pool: Callable[[str, int], None] | None = None
    ) -> Callable[[], None]:
        """Behind a transaction pooler there are no notifications: only `poll_us` remains.

        Raises `ThreadsExhaustedError`.
        """
        if self.location.pooled:
            return lambda: None
        listener = Listener(self.location, self.datastore.waits, self._own, on_alarm, on_pool)
        self._alarm_listeners.add(listener)

        def stop() -> None:
            self._alarm_listeners.discard(listener)
            listener.stop()

        return stop

    @property
    def counters(self) -> Mapping[str, int]:
        return self.datastore.counters

    # -- writing

    def append(self, units: Sequence[Unit]) -> Appended:
        """Killed here: the whole group was appended, or nothing of it."""
        if not units:
            return _NOTHING
        appended = self.appender.append(units)
        self._on_appended(appended)
        return appended

    def start_append(self, units: Sequence[Unit]) -> SentAppend | None:
        """`append` on an idle connection, for an event loop. Killed here: as there."""
        return self._starter.start(units) if units else None

    def pool_call(self, look: PoolLook, plan: Plan) -> Sequence[tuple[SegmentRow, bytes]]:
        """All other writers wait for the plan, `pools.PLAN_TIMEOUT` at most. Killed here: all of it
        was written, or nothing.

        Other processes hear of work to come at once, so that they wait for the lock of the log
        behind this call; and once more after the commit, if they came too early."""
        number = 0
        if look.brings_work:
            self._notify_of_pool(look.pool, 0, 0)

        def planned(seen: PoolSeen) -> PoolWrites:
            nonlocal number
            writes = plan(seen)
            number = seen.number + 1
            return writes

        writes, slices = self._pools.call(look, planned)
        if writes is None:
            return ()
        self.listeners.notify()
        if writes.due_us is not None:
            self._notify_of_pool(look.pool, number, writes.due_us)
        if any(event.topic == MessageSent.TOPIC for event in writes.events):
            self._notify_of_pool(LOG, 0, 0)
        return slices

    def pool_rebuild(self, pool: str, after: int, refold: Refold) -> None:
        """All other writers wait for it. Killed here: all of it was written, or nothing."""

        def run(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(self.queries.set_lock_timeout, (self._pools.lock_wait,))
                connection.execute(self.queries.lock_log)
                rebuild(self.asker(connection), pool, after, refold)

        self._twice(run)

    def _notify_of_pool(self, pool: str, number: int, due_us: int) -> None:
        """Never raises."""
        if self.datastore.server_clock:
            self.notifier.notify(Told(due_us, pool, number))

    def _on_appended(self, appended: Appended) -> None:
        self.listeners.notify()
        if appended.emits:
            self._notify_of_pool(LOG, 0, 0)
        if appended.next_due_us is not None:
            self._notify_processes(appended.next_due_us)

    def _notify_processes(self, due_us: int = 0) -> None:
        """Of an alarm, or (0) of work that can be claimed from now on; not in a simulation.

        Never raises: it follows a commit.
        """
        if self.datastore.server_clock:
            self.notifier.notify(Told(due_us))

    # -- claims and leases

    def claim(self, request: ClaimRequest) -> Sequence[Due]:
        if request.limit <= 0 or not request.jobs:
            return ()
        return self._claimer.claim(request)

    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Leases that have ended are prolonged too, unless they are being taken over."""
        params = (owner, until_us, now_us, self._clock_us(now_us))
        return [(stream, token) for stream, token in self._rows(self.queries.renew, params)]

    def release(self, owner: str, leases: Sequence[tuple[str, int]]) -> None:
        self._twice(lambda connection: release(connection, self.queries, owner, leases))
        self._notify_processes()

    # -- small writes

    def _run(self, sql: bytes, *params: object) -> int:
        """One writing statement, and how many rows it changed."""
        return self._twice(lambda connection: connection.execute(sql, params).rowcount)

    def forget_messages(self, messages: Sequence[Message]) -> None:
        keys = [(each.sender, each.target, each.version) for each in messages]
        self._run(self.queries.forget_messages, *map(list, zip(*keys, strict=True)))

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        """Waits for claims and appends that are under way: see `Queries.lock_job_pauses`."""

        def ask(connection: Connection) -> JobPauseRow:
            with connection.transaction():
                connection.execute(self.queries.lock_job_pauses)
                return JobPauseRow(*rows_of(connection, self.queries.pause_job, row)[0])

        return self._twice(ask)

    def resume_job(self, job: str) -> JobPauseRow | None:
        """None also if the connection broke and the first try had ended the pause."""
        ended = self._rows(self.queries.resume_job, (job,))
        self._notify_processes()
        return JobPauseRow(*ended[0]) if ended else None

    # -- the library's interface

    def insert_events(
        self, stored_events: Sequence[persistence.StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Bare events of other aggregates, which share the log; jobs go through `append`.

        Raises the library's errors. Unlike the library's own it never sends twice by itself: after
        a lost answer it would meet its own events, and take them for those of another process.
        """
        params = (
            [str(event.originator_id) for event in stored_events],
            [event.originator_version for event in stored_events],
            [event.topic for event in stored_events],
            [event.state for event in stored_events],
        )
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self.queries.insert, params).fetchall()
        self.listeners.notify()
        return [row["insert_1"] for row in rows]

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> persistence.Subscription[persistence.ApplicationRecorder]:
        """Follows the log: this process's events at once, those of others by polling."""
        return LogSubscription(self, gt, topics, listeners=self.listeners, poll_s=_FOLLOW_S)

    def hurry(self) -> None:
        self.appender.close()
        self.datastore.hurry()

    def close(self) -> None:
        """What is under way ends by itself, soon. Safe to call twice, and in a forked process, in
        which nothing happens."""
        if self.datastore.is_inherited:
            return
        self.hurry()
        for listener in tuple(self._alarm_listeners):
            listener.stop()
        self.notifier.close()
        self.datastore.close()
        self.listeners.close()


def _prepare(location: StoreLocation, waits: Waits) -> StoreLocation:
    """Bring the schema up to date; return the location, with whether there is a pooler.

    If it is interrupted it has done all or nothing, and may be repeated.
    """
    given = location.pooled
    with closing(connect(location, waits)) as connection, translated(location.label):
        if given is None:
            location = waits.location = replace(location, pooled=is_pooled(connection))
        if location.pooled:
            check_settings(connection, location)
        PostgresSchema(location).prepare(connection)
    if location.pooled and given is None:
        _LOG.info(_POOLER_FOUND, location.label)
    return location
