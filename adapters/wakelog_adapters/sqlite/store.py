"""The SQLite store: one file, any number of threads and processes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from eventsourcing import persistence
from eventsourcing import sqlite as library

from wakelog.affinity import forks
from wakelog.errors import StoreUnavailableError
from wakelog.ports.messages import Message
from wakelog.ports.pools import Plan, PoolLook, Refold, SegmentRow
from wakelog.ports.rows import Due, JobPauseRow
from wakelog.ports.units import Appended, ClaimRequest, NothingDue, Unit
from wakelog_adapters.inbox.sqlite import SQLiteInbox
from wakelog_adapters.sql.pool_tables import rebuild
from wakelog_adapters.sql.rows import readable
from wakelog_adapters.sql.small_writes import SmallWrites
from wakelog_adapters.sql.subscription import LogListeners, LogSubscription
from wakelog_adapters.sqlite.append import AppendStatement, dumps
from wakelog_adapters.sqlite.claims import look, take_over, take_params, taken_of
from wakelog_adapters.sqlite.conflicts import append_without_refused
from wakelog_adapters.sqlite.connections import FairLock, LibraryPool, check_file, connect
from wakelog_adapters.sqlite.errors import REFUSALS, translated
from wakelog_adapters.sqlite.inherited import drop_inherited, register
from wakelog_adapters.sqlite.open_file import OpenFile
from wakelog_adapters.sqlite.parameters import executed
from wakelog_adapters.sqlite.pools import PoolStatement
from wakelog_adapters.sqlite.schema import SQLiteSchema
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["SQLiteStore"]

HURRY_S = 1.0
"""How long a write waits for one of another process while the store is being closed."""
_POLL_US = 100_000
_NOTHING = Appended((), None)
_UNKNOWN = "; it is not known whether the last write was recorded"


class SQLiteStore(SmallWrites, SQLiteInbox):
    """Events, views, leases and replies in one file, each append in one transaction.

    A crash at any point leaves the transactions that were acknowledged, and no part of another.
    Several processes may have the file open: one writes at a time, for as long as a commit takes.
    """

    def __init__(
        self, datastore: library.SQLiteDatastore, location: StoreLocation, pool: LibraryPool
    ) -> None:
        """`pool`: that of `datastore`. Raises `InvalidStateError` in a forked process that cannot
        open the file: see `inherited`."""
        self.forks = forks()
        check_file(location.path)
        drop_inherited(location.path)
        self._writer = connect(location)
        try:
            with translated(location.path):
                SQLiteSchema(location).prepare(self._writer)
                self._statement = AppendStatement(self._writer, location.prefix)
                self._pools = PoolStatement(self._writer, location.path, location.prefix)
                file = OpenFile(location.path)
        except BaseException:
            self._writer.close()
            raise
        super().__init__(datastore, location, file)
        self._library_pool = pool
        self._write_lock = FairLock()
        self._hurry_s: float | None = None
        """How long a write waits for another process's, if that is less than usual."""
        self._listeners = LogListeners()
        register(self)

    @property
    def blocking(self) -> bool:
        return True

    @property
    def poll_us(self) -> int | None:
        return _POLL_US

    @property
    def counters(self) -> Mapping[str, int]:
        return {}  # a call returns or fails: none is repeated

    def watch_alarms(
        self, on_alarm: Callable[[int], None], on_pool: Callable[[str, int], None] | None = None
    ) -> Callable[[], None]:
        """There are no notifications: alarms of other processes are found every `poll_us`."""
        return lambda: None

    # -- writing

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection, None, None]:
        """The connection that writes, for this thread alone until the block ends.

        Raises `StoreUnavailableError` ("moved") before and after the block if the path does not
        name the file: what was committed to a file that no other process finds is never
        acknowledged.
        """
        with self._write_lock:
            self.file.check()
            if self._hurry_s is None:
                yield self._writer
            else:
                yield from self._hurried(self._hurry_s)
            self.file.check(_UNKNOWN)

    def _hurried(self, wait_s: float) -> Generator[sqlite3.Connection, None, None]:
        """The connection that writes; if it waits in vain, no other write waits."""
        self._writer.execute(f"PRAGMA busy_timeout = {round(wait_s * 1_000)}")
        try:
            yield self._writer
        except StoreUnavailableError as error:
            if error.reason == "locked":
                self._hurry_s = 0
            raise

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """A transaction that has the write lock from its begin, and commits at its end.

        Any exception undoes it. SQLite may have done that already, for example after a full disk.
        """
        with self.writing() as connection:
            try:
                with translated(self.location.path):
                    connection.execute("BEGIN IMMEDIATE")
                yield connection
                if connection.in_transaction:
                    with translated(self.location.path):
                        connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    def append(self, units: Sequence[Unit]) -> Appended:
        """One statement if no unit is refused, else as `conflicts` does it.

        Killed here: the whole group was appended, or nothing of it.
        """
        if not units:
            return _NOTHING
        with self.writing(), translated(self.location.path), suppress(*REFUSALS):
            appended = Appended([None] * len(units), self._statement.write(units))
            self._listeners.notify()
            return appended
        with self._transaction() as connection, translated(self.location.path):
            appended = append_without_refused(connection, self.queries, self._statement, units)
        self._listeners.notify()
        return appended

    def pool_call(self, look: PoolLook, plan: Plan) -> Sequence[tuple[SegmentRow, bytes]]:
        """Other writers wait for the plan. Killed here: all of it was written, or nothing."""
        with self._transaction():
            writes = self._pools.call(look, plan)
        if writes.events:
            self._listeners.notify()
        with suppress(StoreUnavailableError):  # it is committed
            return self.pool_slices(look.pool, writes.read) if writes.read else ()
        return ()

    def pool_rebuild(self, pool: str, after: int, refold: Refold) -> None:
        """Other writers wait for it. Killed here: all of it was written, or nothing."""
        with self._transaction() as connection, translated(self.location.path):
            rebuild(self.asker(connection), pool, after, refold)

    def _run(self, sql: str, *params: object) -> int:
        """One writing statement, and how many rows it changed."""
        with self.writing() as connection, translated(self.location.path):
            return executed(connection, sql, *params).rowcount

    # -- claims and leases

    def claim(self, request: ClaimRequest) -> Sequence[Due] | NothingDue:
        """Looks first, without the write lock. Killed here: the leases end by themselves."""
        if request.limit <= 0:
            return ()
        found = look(self._row, self.queries, request)
        if isinstance(found, NothingDue):
            return found
        if found.has_ended_leases:
            with self._transaction() as connection, translated(self.location.path):
                return take_over(connection, self.queries, request)
        count = self._run(self.queries.take, *take_params(found, request))
        if count == len(found.dues):
            return found.dues
        return taken_of(self._row, self.queries, found, request.token) if count else ()

    @readable
    def renew(self, owner: str, until_us: int, now_us: int) -> Sequence[tuple[str, int]]:
        """Leases that have ended are prolonged too, unless they have been taken over; those of
        others that a clock that was ahead has taken are cut to the length of a lease (U9)."""
        with self.writing() as connection, translated(self.location.path):
            executed(connection, self.queries.renew, until_us, owner)
            executed(connection, self.queries.cut_workers, now_us)
            executed(connection, self.queries.cut_leases, now_us, until_us - now_us)
            leases = executed(connection, self.queries.leases_of, owner).fetchone()[0]
        return [(stream, token) for stream, token in json.loads(leases)]

    def release(self, owner: str, leases: Sequence[tuple[str, int]]) -> None:
        if leases:
            self._run(self.queries.release, owner, dumps(leases))

    # -- small writes

    def forget_messages(self, messages: Sequence[Message]) -> None:
        keys = [(each.sender, each.target, each.version) for each in messages]
        self._run(self.queries.forget_messages, dumps(keys))

    def pause_job(self, row: JobPauseRow) -> JobPauseRow:
        """Waits for a claim that is under way: that has the write lock."""
        with self._transaction() as connection, translated(self.location.path):
            executed(connection, self.queries.pause_job, *row)
            return self._pause_of(connection, row.job) or row

    def resume_job(self, job: str) -> JobPauseRow | None:
        with self._transaction() as connection, translated(self.location.path):
            ended = self._pause_of(connection, job)
            executed(connection, self.queries.resume_job, job)
            return ended

    @readable
    def _pause_of(self, connection: sqlite3.Connection, job: str) -> JobPauseRow | None:
        row = executed(connection, self.queries.job_pause, job).fetchone()
        return None if row is None else JobPauseRow(*row)

    # -- the library's interface

    def insert_events(
        self, stored_events: Sequence[persistence.StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Bare events of other aggregates, which share the log; jobs go through `append`.

        Raises the library's errors.
        """
        with self.writing():
            ids = super().insert_events(stored_events, **kwargs)
        self._listeners.notify()
        return ids

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[persistence.Notification]:
        self.file.check()
        return super().select_notifications(
            start, limit, stop, topics, inclusive_of_start=inclusive_of_start
        )

    def max_notification_id(self) -> int:
        self.file.check()
        return super().max_notification_id()

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> persistence.Subscription[persistence.ApplicationRecorder]:
        """Follows the log: this process's events at once, those of others by polling."""
        poll_s = _POLL_US / 1_000_000
        return LogSubscription(self, gt, topics, listeners=self._listeners, poll_s=poll_s)

    def drop_connections(self) -> bool:
        """Close those that are idle, in a process that has inherited them; whether all were."""
        pools = (self.readers, self._library_pool)
        for each in pools:
            each.close_idle()
        if self._write_lock.is_free:
            self._writer.close()
        return self._write_lock.is_free and all(each.are_idle for each in pools)

    def hurry(self) -> None:
        """Only a write that is waiting for another process's goes on, `timeout` at most."""
        if self._hurry_s is None:
            self._hurry_s = HURRY_S

    def close(self) -> None:
        """Waits for the write that is under way. Reads under way end by themselves.

        A file that was removed or moved while it was open is written back if nothing is at its
        path. Nothing happens in a forked process: the files beside it are the other one's.
        """
        if self.forks != forks():
            return
        with self._write_lock:
            self.file.close(self._writer)
            self._writer.close()
        self.readers.close_idle()
        self.datastore.close()
        self._listeners.close()
