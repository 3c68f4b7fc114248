"""The SQLite store: one file, any number of threads and processes."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from eventsourcing import persistence
from eventsourcing import sqlite as library

from wakelog.errors import StoreUnavailableError
from wakelog.ports.rows import Due, JobPauseRow, WorkerRow
from wakelog.ports.units import Appended, Lease, Unit
from wakelog_adapters.sqlite.append import AppendStatement, dumps
from wakelog_adapters.sqlite.conflicts import append_carefully
from wakelog_adapters.sqlite.connections import FairLock, check_file, connect
from wakelog_adapters.sqlite.errors import REFUSALS, translated
from wakelog_adapters.sqlite.reads import SQLiteReading, jobs_with
from wakelog_adapters.sqlite.schema import SQLiteSchema
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["SQLiteStore"]

_POLL_US = 100_000
_FORGET_WORKERS_US = 86_400_000_000
_NOTHING = Appended((), None)


class SQLiteStore(SQLiteReading):
    """Events, views, leases and answers in one file, each append in one transaction.

    A crash at any point leaves the transactions that were answered, and no part of another.
    Several processes may have the file open: one writes at a time, for as long as a commit takes.
    """

    def __init__(self, datastore: library.SQLiteDatastore, place: StoreLocation) -> None:
        check_file(place.path)
        self._writer = connect(place)
        try:
            with translated(place.path):
                SQLiteSchema(place).prepare(self._writer)
                self._append_statement = AppendStatement(self._writer, place.prefix)
        except BaseException:
            self._writer.close()
            raise
        super().__init__(datastore, place)
        self._write_lock = FairLock()
        self._closed = False
        self._listeners: set[threading.Event] = set()

    @property
    def blocking(self) -> bool:
        return True

    @property
    def poll_us(self) -> int | None:
        return _POLL_US

    @property
    def counters(self) -> Mapping[str, int]:
        return {}  # a call answers or fails: nothing is asked twice

    def watch_alarms(self, heard: Callable[[int], None]) -> Callable[[], None]:
        """Nothing is told here: who waits for others' alarms looks every `poll_us`."""
        return lambda: None

    # -- writing

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection, None, None]:
        """The connection that writes, for this thread alone."""
        with self._write_lock:
            if self._closed:
                raise StoreUnavailableError(
                    "unreachable", f"{self._place.path}: the store is closed"
                )
            yield self._writer

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """A transaction that has the write lock from its begin, and commits at its end.

        Any exception undoes it. SQLite may have done that already, after a full disk for one.
        """
        with self._writing() as connection:
            try:
                with translated(self._place.path):
                    connection.execute("BEGIN IMMEDIATE")
                yield connection
                if connection.in_transaction:
                    with translated(self._place.path):
                        connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    def append(self, units: Sequence[Unit]) -> Appended:
        """One statement if all is as expected, else the careful way.

        Killed here: the whole group was appended, or nothing of it.
        """
        if not units:
            return _NOTHING
        with self._writing(), translated(self._place.path), suppress(*REFUSALS):
            appended = Appended([None] * len(units), self._append_statement.write(units))
            self._notify_listeners()
            return appended
        with self._transaction() as connection, translated(self._place.path):
            appended = append_carefully(
                connection, self._append_statement, units, self._place.prefix
            )
        self._notify_listeners()
        return appended

    def claim(
        self,
        *,
        now_us: int,
        jobs: Sequence[str],
        limit: int,
        begin: Callable[[Sequence[Due]], Sequence[Unit]],
        limits: Mapping[str, int] = {},
    ) -> Appended:
        """Looks first without the write lock. Killed here: nothing was claimed.

        `begin` is called in the transaction, under the lock: it may read, and must not write.
        """
        if limit <= 0:
            return _NOTHING
        due_us = self.next_due_us(jobs, now_us, limits)
        if due_us is None or due_us > now_us:
            return _NOTHING
        with self._transaction() as connection:
            with translated(self._place.path):
                dues = self._due(connection, now_us, limit, jobs_with(limits, jobs))
            units = begin(dues) if dues else ()
            with translated(self._place.path):
                appended = self._append_within(connection, units)
        self._notify_listeners()
        return appended

    def _append_within(self, connection: sqlite3.Connection, units: Sequence[Unit]) -> Appended:
        if not units:
            return _NOTHING
        try:
            return Appended([None] * len(units), self._append_statement.write(units))
        except REFUSALS:
            return append_carefully(connection, self._append_statement, units, self._place.prefix)

    def _due(
        self, connection: sqlite3.Connection, now_us: int, limit: int, jobs: str
    ) -> Sequence[Due]:
        """What may be claimed, oldest first, each instance once."""
        packed = connection.execute(self._queries.due(), (jobs, now_us, limit))
        oldest: dict[str, int] = {}
        begun: Counter[str] = Counter()
        for stream, due_us, job, free in sorted(json.loads(packed.fetchone()[0]), key=_by_due):
            if free is None or begun[job] < free:
                begun[job] += free is not None
                oldest.setdefault(stream, due_us)
        streams = sorted(oldest, key=lambda stream: (oldest[stream], stream))[:limit]
        packed = connection.execute(self._queries.claimed(), (dumps(streams), now_us))
        dues: dict[str, Due] = {}
        for stream, version, owner, until_us, token, run in json.loads(packed.fetchone()[0]):
            expired = None if owner is None else Lease(owner, until_us, token, bool(run))
            dues[stream] = Due(stream, oldest[stream], version, expired)
        return [dues[stream] for stream in streams]

    def _run(self, sql: str, *params: object) -> int:
        """One writing statement, and how many rows it changed."""
        with self._writing() as connection, translated(self._place.path):
            return connection.execute(sql, params).rowcount

    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Leases that have ended are prolonged too, as long as nobody has taken them."""
        leases = f"{self._place.prefix}leases"
        with self._writing() as connection, translated(self._place.path):
            connection.execute(
                f"UPDATE {leases} SET until_us = ? WHERE owner = ?", (until_us, owner)
            )
            held = connection.execute(
                f"SELECT json_group_array(json_array(stream, token)) FROM {leases} WHERE owner = ?",
                (owner,),
            ).fetchone()[0]
        return [(stream, token) for stream, token in json.loads(held)]

    def release(self, owner: str, held: Sequence[tuple[str, int]]) -> None:
        if not held:
            return
        self._run(
            f"DELETE FROM {self._place.prefix}leases WHERE owner = ? AND (stream, token) IN "
            "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))",
            *(owner, dumps(held)),
        )

    def forget_key(self, stream: str, key: str) -> bool:
        answers = f"{self._place.prefix}kept_replies"
        return self._run(f"DELETE FROM {answers} WHERE stream = ? AND key = ?", stream, key) > 0

    def purge_kept_replies(self, now_us: int, limit: int) -> int:
        answers = f"{self._place.prefix}kept_replies"
        return self._run(
            f"DELETE FROM {answers} WHERE rowid IN "
            f"(SELECT rowid FROM {answers} WHERE expires_us <= ? ORDER BY expires_us LIMIT ?)",
            *(now_us, limit),
        )

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        """A claim that is under way ends first: it has the write lock."""
        table = f"{self._place.prefix}job_pauses"
        with self._transaction() as connection, translated(self._place.path):
            connection.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?)", row)
            return self._hold_of(connection, row.job) or row

    def resume_job(self, job: str) -> JobPauseRow | None:
        with self._transaction() as connection, translated(self._place.path):
            ended = self._hold_of(connection, job)
            connection.execute(f"DELETE FROM {self._place.prefix}job_pauses WHERE job = ?", (job,))
            return ended

    def _hold_of(self, connection: sqlite3.Connection, job: str) -> JobPauseRow | None:
        found = connection.execute(self._queries.pause_job(), (job,)).fetchone()
        return None if found is None else JobPauseRow(*found)

    def put_worker(self, row: WorkerRow) -> None:
        """Forgets those that have been dead for a day, too: a killed worker removes no row."""
        workers = f"{self._place.prefix}workers"
        self._run(
            f"INSERT OR REPLACE INTO {workers} ({', '.join(WorkerRow._fields)}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(dumps(value) if isinstance(value, tuple) else value for value in row),
        )
        self._run(f"DELETE FROM {workers} WHERE until_us < ?", row.until_us - _FORGET_WORKERS_US)

    def remove_worker(self, worker: str) -> None:
        self._run(f"DELETE FROM {self._place.prefix}workers WHERE worker = ?", worker)

    # -- the library's side

    def insert_events(
        self, stored_events: Sequence[persistence.StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Bare events of other aggregates, which share the log; jobs go through `append`.

        Raises the library's errors.
        """
        with self._writing():
            ids = super().insert_events(stored_events, **kwargs)
        self._notify_listeners()
        return ids

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> persistence.Subscription[persistence.ApplicationRecorder]:
        """Follows the log: this process's events at once, those of others by a poll."""
        return SQLiteSubscription(self, gt, topics)

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
        """Waits for the write that is under way. Reads under way end by themselves."""
        with self._write_lock:
            self._closed = True
            self._writer.close()
        self._readers.close()
        self.datastore.close()


def _by_due(row: Sequence[Any]) -> tuple[int, str]:
    return row[1], row[0]


class SQLiteSubscription(persistence.ListenNotifySubscription[SQLiteStore]):
    """Notifications in the order of the log, from a thread of its own."""

    def __init__(self, recorder: SQLiteStore, gt: int | None, topics: Sequence[str]) -> None:
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
                self._has_been_notified.wait(_POLL_US / 1e6)
        except BaseException as error:
            self._thread_error = error
            self.stop()
