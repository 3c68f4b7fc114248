"""The PostgreSQL store: one schema, any number of threads, processes and machines."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from eventsourcing import persistence

from wakelog.ports.rows import Due, JobPauseRow, WorkerRow
from wakelog.ports.units import Appended, Unit
from wakelog_adapters.postgres.append import Appender
from wakelog_adapters.postgres.append_call import dumps
from wakelog_adapters.postgres.append_started import SentAppend, Starter
from wakelog_adapters.postgres.claims import Claimer, Wanted, release
from wakelog_adapters.postgres.connections import Connection, Datastore, connect, is_pooled, rows_of
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.notifications import (
    POLL_WITH_LISTENER_US,
    POLL_WITHOUT_LISTENER_US,
    Listener,
    Notifier,
)
from wakelog_adapters.postgres.reads import PostgresReading
from wakelog_adapters.postgres.schema import PostgresSchema
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["PostgresStore"]

_LOG = logging.getLogger("wakelog.postgres")
_FOLLOW_S = 1.0
_FORGET_WORKERS_US = 86_400_000_000
_NOTHING = Appended((), None)
_POOLER_FOUND = (
    "%s: a pooler stands between, so alarms of other processes are looked for 5 times a second;"
    " if it keeps a session for each client, say pooler=session in the URL: they are heard of then"
)


class PostgresStore(PostgresReading):
    """Events, views, leases and answers in one schema, each append in one transaction.

    A crash at any point leaves the transactions that were answered, and no part of another. The
    server's clock judges leases: what is given with them are durations.
    """

    def __init__(self, datastore: Datastore, place: StoreLocation) -> None:
        asked = place
        place = datastore.retry_unreachable(lambda: _prepare(asked))
        datastore.open(place)
        super().__init__(datastore, place)
        self._appender = Appender(datastore, self._queries, place)
        self._starter = Starter(datastore, self._queries, self._appender, self._ended)
        self._claimer = Claimer(datastore, self._queries, place, self._appender)
        self._listeners: set[threading.Event] = set()
        self._own = secrets.token_hex(8)
        self.notifier = Notifier(place, self._own)
        """Notifies other processes of alarms that this one sets."""
        self._alarm_listeners: set[Listener] = set()

    @property
    def blocking(self) -> Literal[True]:
        return True

    @property
    def poll_us(self) -> int | None:
        """Seldom while notifications of other processes arrive, else often."""
        listeners = tuple(self._alarm_listeners)
        if listeners and all(listener.is_listening for listener in listeners):
            return POLL_WITH_LISTENER_US
        return POLL_WITHOUT_LISTENER_US

    def watch_alarms(self, heard: Callable[[int], None]) -> Callable[[], None]:
        """Through a transaction pooler no notification arrives: there only polling finds them."""
        if self._place.pooled:
            return lambda: None
        listener = Listener(self._place, self._own, heard)
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
        appended = self._appender.append(units)
        self._ended(appended)
        return appended

    def start_append(self, units: Sequence[Unit]) -> SentAppend | None:
        """`append` on a connection that lies ready, for an event loop. Killed here: as there."""
        return self._starter.start(units) if units else None

    def _ended(self, appended: Appended) -> None:
        self._notify_listeners()
        if appended.next_due_us is not None:
            self._tell_others(appended.next_due_us)

    def _tell_others(self, due_us: int = 0) -> None:
        """Of an alarm, or (0) of work that can be had from now on; not in a simulation."""
        if self.datastore.server_clock:
            self.notifier.notify(due_us)

    def claim(
        self,
        *,
        now_us: int,
        jobs: Sequence[str],
        limit: int,
        begin: Callable[[Sequence[Due]], Sequence[Unit]],
        limits: Mapping[str, int] = {},
    ) -> Appended:
        if limit <= 0 or not jobs:
            return _NOTHING
        appended = self._claimer.claim(Wanted(now_us, jobs, limit, limits), begin)
        if appended.errors:
            self._notify_listeners()
        return appended

    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Leases that have ended are prolonged too, as long as nobody is taking them."""
        asked = (owner, until_us, now_us, self._clock_us(now_us))
        return [(stream, token) for stream, token in self._rows(self._queries.renew, asked)]

    def release(self, owner: str, held: Sequence[tuple[str, int]]) -> None:
        self._twice(lambda connection: release(connection, self._queries, owner, held))
        self._tell_others()

    def _run(self, sql: bytes, *params: object) -> int:
        """One writing statement, and how many rows it changed."""
        return self._twice(lambda connection: connection.execute(sql, params).rowcount)

    def forget_key(self, stream: str, key: str) -> bool:
        """If the connection breaks it is asked again: then it may say of its own work False."""
        return self._run(self._queries.forget_key, stream, key) > 0

    def purge_kept_replies(self, now_us: int, limit: int) -> int:
        return self._run(self._queries.purge_kept_replies, now_us, limit)

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        """A claim that is under way ends first: see `Queries.lock_job_pauses`."""

        def ask(connection: Connection) -> JobPauseRow:
            with connection.transaction():
                connection.execute(self._queries.lock_job_pauses)
                return JobPauseRow(*rows_of(connection, self._queries.pause_job, row)[0])

        return self._twice(ask)

    def resume_job(self, job: str) -> JobPauseRow | None:
        """If the connection breaks it is asked again: then it may say of its own work None."""
        found = self._twice(
            lambda connection: rows_of(connection, self._queries.resume_job, (job,))
        )
        self._tell_others()
        return JobPauseRow(*found[0]) if found else None

    def put_worker(self, row: WorkerRow) -> None:
        """Forgets those that have been dead for a day, too: a killed worker removes no row."""
        values = (dumps(value) if isinstance(value, tuple) else value for value in row)
        self._run(self._queries.put_worker, *values)
        self._run(self._queries.forget_workers, row.until_us - _FORGET_WORKERS_US)

    def remove_worker(self, worker: str) -> None:
        self._run(self._queries.remove_worker, worker)

    # -- the library's side

    def insert_events(
        self, stored_events: Sequence[persistence.StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Bare events of other aggregates, which share the log; jobs go through `append`.

        Raises the library's errors. Unlike the library's own it never sends twice by itself: after
        a lost answer that would meet its own events and look like another's.
        """
        asked = (
            [str(event.originator_id) for event in stored_events],
            [event.originator_version for event in stored_events],
            [event.topic for event in stored_events],
            [event.state for event in stored_events],
        )
        with self.datastore.get_connection() as connection:
            rows = connection.execute(self._queries.insert, asked).fetchall()
        self._notify_listeners()
        return [row["insert_1"] for row in rows]

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> persistence.Subscription[persistence.ApplicationRecorder]:
        """Follows the log: this process's events at once, those of others by a poll."""
        return PostgresSubscription(self, gt, topics)

    def listen(self, event: threading.Event) -> None:
        """Set `event` after each append of this process."""
        self._listeners.add(event)

    def unlisten(self, event: threading.Event) -> None:
        """Leave `event` alone from now on."""
        self._listeners.discard(event)

    def _notify_listeners(self) -> None:
        for event in tuple(self._listeners):
            event.set()

    def close(self) -> None:
        """What is under way ends by itself. Safe to call twice."""
        self._appender.close()
        for listener in tuple(self._alarm_listeners):
            listener.stop()
        self.notifier.close()
        self.datastore.close()


def _prepare(place: StoreLocation) -> StoreLocation:
    """Have the schema up to date; the place, with what can be known of what stands between.

    Broken off it has done all or nothing, and may be repeated.
    """
    connection = connect(place)
    try:
        with translated(place.label):
            PostgresSchema(place).prepare(connection)
            if place.pooled is not None:
                return place
            place = replace(place, pooled=is_pooled(connection))
    finally:
        connection.close()
    if place.pooled:
        _LOG.info(_POOLER_FOUND, place.label)
    return place


class PostgresSubscription(persistence.ListenNotifySubscription[PostgresStore]):
    """Notifications in the order of the log, from a thread of its own."""

    def __init__(self, recorder: PostgresStore, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder, gt, topics)
        self._recorder.listen(self._has_been_notified)

    def stop(self) -> None:
        super().stop()
        self._recorder.unlisten(self._has_been_notified)

    def _loop_on_pull(self) -> None:
        """As the library's loop, but looking without a notification too."""
        try:
            while not self._has_been_stopped:
                self._pull()
                self._has_been_notified.wait(_FOLLOW_S)
        except BaseException as error:
            self._thread_error = error
            self.stop()
