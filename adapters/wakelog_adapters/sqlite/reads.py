"""The reading half of the SQLite store: nothing here takes a lock or writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eventsourcing import sqlite as library
from msgspec.structs import replace

from wakelog.ports.messages import Message
from wakelog.ports.records import Loaded, Newest, StoredEvent, StoredSnapshot
from wakelog.ports.rows import HeldLease, JobPauseRow, Listing, StatusCount, StatusRow, WorkerRow
from wakelog.ports.units import KeptReply
from wakelog_adapters.sql.listing import listing_condition
from wakelog_adapters.sql.rows import lease, message, readable, worker_row
from wakelog_adapters.sqlite.append import dumps
from wakelog_adapters.sqlite.connections import Readers
from wakelog_adapters.sqlite.errors import translated
from wakelog_adapters.sqlite.open_file import OpenFile
from wakelog_adapters.sqlite.parameters import executed
from wakelog_adapters.sqlite.queries import DIALECT, FEW, PAGE, Queries
from wakelog_adapters.sqlite.url import StoreLocation

__all__ = ["SQLiteReads", "jobs_with"]

_MAX_VERSION = (1 << 63) - 1
_EXECUTING = StatusRow.__struct_fields__.index("executing")


class SQLiteReads(library.SQLiteApplicationRecorder):
    """Reads the newest committed state. Raises `StoreUnavailableError`."""

    def __init__(
        self, datastore: library.SQLiteDatastore, location: StoreLocation, file: OpenFile
    ) -> None:
        super().__init__(datastore, f"{location.prefix}stored_events")
        self.location = location
        self.file = file
        """The file as it was opened."""
        self.readers = Readers(location, file)
        """The connections for reading."""
        self.queries = Queries.of(location.prefix)

    def _row(self, sql: str, *params: object) -> Any:
        """The one row that `sql` returns."""
        with self.readers.lend() as connection, translated(self.location.path):
            return executed(connection, sql, *params).fetchone()

    @readable
    def load(self, stream: str, after_version: int | None = None) -> Loaded:
        if after_version is not None:
            return Loaded(None, self.events(stream, after=after_version))
        version, state, newest, hash, packed = self._row(self.queries.load, stream)
        snapshot = None if version is None else StoredSnapshot(version, state)
        tail = self._unpacked(stream, json.loads(packed))
        if len(tail) == PAGE:  # up to the same moment: what was appended since is left out
            tail = [*tail, *self.events(stream, after=tail[-1].version, upto=newest)]
        return Loaded(snapshot, tail, None if newest is None else Newest(newest, hash))

    @readable
    def load_all(self, streams: Sequence[str]) -> Sequence[Loaded]:
        """In one statement: see `connections`."""
        if len(streams) < 2:
            return [self.load(stream) for stream in streams]
        found = {
            stream: self._loaded(stream, *row)
            for stream, *row in json.loads(self._row(self.queries.load_many, dumps(streams))[0])
        }
        return [found[stream] for stream in streams]

    def _loaded(
        self,
        stream: str,
        version: int | None,
        state: str | None,
        size: int | None,
        newest: int | None,
        hash: str,
        packed: Sequence[tuple[int, str, str | None]],
    ) -> Loaded:
        if size is not None and state is None:  # large, it is read by itself
            return self.load(stream)
        snapshot = None
        if version is not None:
            snapshot = StoredSnapshot(version, bytes.fromhex(state or ""))
        tail = self._unpacked(stream, packed)
        if len(tail) == FEW:
            tail = [*tail, *self.events(stream, after=tail[-1].version, upto=newest)]
        return Loaded(snapshot, tail, None if newest is None else Newest(newest, hash))

    @readable
    def events(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Sequence[StoredEvent]:
        """Page by page: events are only ever added, so that the pages fit together."""
        found: list[StoredEvent] = []
        last = _MAX_VERSION if upto is None else upto
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            packed = self._row(self.queries.events, stream, after, last, size)[0]
            page = self._unpacked(stream, json.loads(packed))
            found += page
            if len(page) < size:
                break
            after = page[-1].version
        return found

    def _unpacked(
        self, stream: str, packed: Sequence[tuple[int, str, str | None]]
    ) -> Sequence[StoredEvent]:
        return [
            StoredEvent(
                stream,
                version,
                topic,
                self._row(self.queries.event_state, stream, version)[0]
                if state is None
                else bytes.fromhex(state),
            )
            for version, topic, state in packed
        ]

    @readable
    def snapshot_before(self, stream: str, version: int) -> StoredSnapshot | None:
        row = self._row(self.queries.snapshot_before, stream, version)
        return None if row is None else StoredSnapshot(*row)

    @readable
    def status(self, streams: Sequence[str]) -> Sequence[StatusRow | None]:
        rows = self._status_rows(self._row(self.queries.status, dumps(streams))[0])
        found = {row.stream: row for row in rows}
        return [found.get(stream) for stream in streams]

    @readable
    def kept_replies(self, keys: Sequence[tuple[str, str]]) -> Sequence[KeptReply | None]:
        rows = json.loads(self._row(self.queries.kept_replies, dumps(keys))[0])
        found = {(stream, reply[0]): KeptReply(*reply) for stream, *reply in rows}
        return [found.get(key) for key in keys]

    @readable
    def messages_due(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[str]:
        params = dumps([*jobs]), now_us, limit
        senders: Sequence[str] = json.loads(self._row(self.queries.messages_due, *params)[0])
        return senders

    @readable
    def messages_of(self, senders: Sequence[str], limit: int) -> Sequence[Message]:
        packed = self._row(self.queries.messages_of, dumps([*senders]), limit)[0]
        return [
            message([*row, StoredEvent(row[0], row[1], topic, bytes.fromhex(state))])
            for *row, topic, state in json.loads(packed)
        ]

    @readable
    def positions(self) -> Mapping[str, int]:
        found: dict[str, int] = dict(json.loads(self._row(self.queries.positions)[0]))
        return found

    @readable
    def list(self, listing: Listing) -> Sequence[StatusRow]:
        where, params = listing_condition(listing, DIALECT)
        sql = self.queries.list_where.replace("{where}", where)
        return self._status_rows(self._row(sql, *params, listing.limit)[0])

    @readable
    def count(self, listing: Listing, now_us: int) -> Sequence[StatusCount]:
        where, params = listing_condition(replace(listing, after=None), DIALECT)
        sql = self.queries.count_where.replace("{where}", where)
        return [
            StatusCount(kind, name, status, bool(executing), bool(overdue), number, dead)
            for kind, name, status, executing, overdue, number, dead in json.loads(
                self._row(sql, now_us, *params)[0]
            )
        ]

    @readable
    def leases(self, now_us: int, limit: int) -> Sequence[HeldLease]:
        rows = json.loads(self._row(self.queries.leases, limit)[0])
        return [
            HeldLease(
                stream,
                lease(owner, until_us, token, run),
                topic and StoredEvent(stream, token, topic, bytes.fromhex(state)),
            )
            for stream, owner, until_us, token, run, topic, state in rows
        ]

    def _status_rows(self, packed: str) -> Sequence[StatusRow]:
        rows = json.loads(packed)
        for index, row in enumerate(rows):
            if row[-1] == 1:  # read the whole row again, so that state and version match
                row = rows[index] = [*self._row(self.queries.status_row, row[0])]
            row[_EXECUTING] = bool(row[_EXECUTING])
        return [StatusRow(*row) for row in rows]

    @readable
    def lease_tokens(self, streams: Sequence[str]) -> Sequence[int | None]:
        packed = self._row(self.queries.lease_tokens, dumps(list(streams)))[0]
        tokens: dict[str, int] = dict(json.loads(packed))
        return [tokens.get(stream) for stream in streams]

    @readable
    def next_due_us(
        self, jobs: Sequence[str], now_us: int, limits: Mapping[str, int] = {}
    ) -> int | None:
        due_us: int | None = self._row(self.queries.next_due, jobs_with(limits, jobs), now_us)[0]
        return due_us

    @readable
    def stranded(self, before_us: int, limit: int) -> Sequence[str]:
        runs, alarms_agree = self._row(self.queries.stranded_runs, before_us, limit)
        found: list[str] = json.loads(runs)
        if not alarms_agree and len(found) < limit:
            rest = limit - len(found)
            found += json.loads(self._row(self.queries.stranded_alarms, before_us, rest)[0])
        return found

    @readable
    def job_pauses(self) -> Sequence[JobPauseRow]:
        return [JobPauseRow(*row) for row in json.loads(self._row(self.queries.job_pauses)[0])]

    @readable
    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        rows = json.loads(self._row(self.queries.workers, now_us)[0])
        return [worker_row(row) for row in rows]


def jobs_with(limits: Mapping[str, int], jobs: Sequence[str]) -> str:
    """The jobs as the queries take them, each with the limit on its runs."""
    return dumps([[job, limits.get(job)] for job in jobs])
