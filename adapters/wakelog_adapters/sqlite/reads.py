"""The reading half of the SQLite store: nothing here takes a lock or writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eventsourcing import sqlite as library
from msgspec.structs import replace

from wakelog.core.instance import Instance
from wakelog.ports.records import Loaded, StoredEvent, StoredSnapshot
from wakelog.ports.rows import HeldLease, JobPauseRow, Listing, StatusCount, StatusRow, WorkerRow
from wakelog.ports.units import KeptReply, Lease
from wakelog_adapters.sqlite.append import dumps
from wakelog_adapters.sqlite.connections import Readers
from wakelog_adapters.sqlite.errors import translated
from wakelog_adapters.sqlite.queries import PAGE, Queries, listing_where
from wakelog_adapters.sqlite.url import StoreLocation
from wakelog_projections.inline import status

__all__ = ["SQLiteReading", "jobs_with"]

_MAX_VERSION = (1 << 63) - 1
_EXECUTING = StatusRow.__struct_fields__.index("executing")


class SQLiteReading(library.SQLiteApplicationRecorder):
    """Answers from the newest committed state. Raises `StoreUnavailableError`."""

    def __init__(self, datastore: library.SQLiteDatastore, place: StoreLocation) -> None:
        super().__init__(datastore, f"{place.prefix}stored_events")
        self._place = place
        self._queries = Queries(place.prefix)
        self._readers = Readers(place)

    def _row(self, sql: str, *params: object) -> Any:
        """The one row that `sql` answers."""
        with self._readers.lend() as connection, translated(self._place.path):
            return connection.execute(sql, params).fetchone()

    def load(self, stream: str, after_version: int | None = None) -> Loaded:
        if after_version is not None:
            return Loaded(None, self.events(stream, after=after_version))
        version, state, packed = self._row(self._queries.load(), stream)
        snapshot = None if version is None else StoredSnapshot(version, state)
        tail = self._unpacked(stream, packed)
        if len(tail) == PAGE:
            return Loaded(snapshot, [*tail, *self.events(stream, after=tail[-1].version)])
        return Loaded(snapshot, tail)

    def load_all(self, streams: Sequence[str]) -> Sequence[Loaded]:
        return [self.load(stream) for stream in streams]

    def events(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Sequence[StoredEvent]:
        """Page by page: events are only ever added, so the pages fit together."""
        found: list[StoredEvent] = []
        last = _MAX_VERSION if upto is None else upto
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            packed = self._row(self._queries.events(), stream, after, last, size)[0]
            page = self._unpacked(stream, packed)
            found += page
            if len(page) < size:
                break
            after = page[-1].version
        return found

    def _unpacked(self, stream: str, packed: str) -> Sequence[StoredEvent]:
        return [
            StoredEvent(
                stream,
                version,
                topic,
                self._row(self._queries.event_state(), stream, version)[0]
                if state is None
                else bytes.fromhex(state),
            )
            for version, topic, state in json.loads(packed)
        ]

    def snapshot_before(self, stream: str, version: int) -> StoredSnapshot | None:
        row = self._row(
            f"SELECT version, state FROM {self._place.prefix}snapshots "
            "WHERE stream = ? AND version <= ? ORDER BY version DESC LIMIT 1",
            *(stream, version),
        )
        return None if row is None else StoredSnapshot(*row)

    def status(self, streams: Sequence[str]) -> Sequence[StatusRow | None]:
        rows = self._status_rows(self._row(self._queries.status(), dumps(streams))[0])
        found = {row.stream: row for row in rows}
        return [found.get(stream) for stream in streams]

    def kept_replies(self, keys: Sequence[tuple[str, str]]) -> Sequence[KeptReply | None]:
        rows = json.loads(self._row(self._queries.kept_replies(), dumps(keys))[0])
        found = {(stream, answer[0]): KeptReply(*answer) for stream, *answer in rows}
        return [found.get(key) for key in keys]

    def row(self, instance: Instance, hash: str) -> StatusRow:
        return status.row(instance, hash)

    def list(self, listing: Listing) -> Sequence[StatusRow]:
        where, params = listing_where(listing)
        sql = self._queries.list(where)
        return self._status_rows(self._row(sql, *params, listing.limit)[0])

    def count(self, listing: Listing, now_us: int) -> Sequence[StatusCount]:
        where, params = listing_where(replace(listing, after=None))
        rows = json.loads(self._row(self._queries.count(where), now_us, *params)[0])
        return [
            StatusCount(kind, name, status, bool(executing), bool(overdue), number)
            for kind, name, status, executing, overdue, number in rows
        ]

    def leases(self, now_us: int, limit: int) -> Sequence[HeldLease]:
        rows = json.loads(self._row(self._queries.leases(), limit)[0])
        return [
            HeldLease(
                stream,
                Lease(owner, until_us, token, bool(run)),
                topic and StoredEvent(stream, token, topic, bytes.fromhex(state)),
            )
            for stream, owner, until_us, token, run, topic, state in rows
        ]

    def _status_rows(self, packed: str) -> Sequence[StatusRow]:
        rows = json.loads(packed)
        for index, row in enumerate(rows):
            if row[-1] == 1:  # the whole row again, so that state and version belong together
                row = rows[index] = [*self._row(self._queries.status_row(), row[0])]
            row[_EXECUTING] = bool(row[_EXECUTING])
        return [StatusRow(*row) for row in rows]

    def next_due_us(
        self, jobs: Sequence[str], now_us: int, limits: Mapping[str, int] = {}
    ) -> int | None:
        asked = jobs_with(limits, jobs)
        due_us: int | None = self._row(self._queries.next_due(), asked, now_us)[0]
        return due_us

    def stranded(self, before_us: int, limit: int) -> Sequence[str]:
        runs, agree = self._row(self._queries.stranded_runs(), before_us, limit)
        found: list[str] = json.loads(runs)
        if not agree and len(found) < limit:
            rest = limit - len(found)
            found += json.loads(self._row(self._queries.stranded_alarms(), before_us, rest)[0])
        return found

    def job_pauses(self) -> Sequence[JobPauseRow]:
        return [JobPauseRow(*row) for row in json.loads(self._row(self._queries.job_pauses())[0])]

    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        columns = ", ".join(WorkerRow._fields)
        rows = json.loads(
            self._row(
                f"SELECT json_group_array(json_array({columns})) FROM (SELECT * "
                f"FROM {self._place.prefix}workers WHERE until_us > ? ORDER BY worker)",
                now_us,
            )[0]
        )
        return [WorkerRow(*row)._replace(jobs=tuple(json.loads(row[1]))) for row in rows]


def jobs_with(limits: Mapping[str, int], jobs: Sequence[str]) -> str:
    """The jobs as queries take them, each with the limit on its runs."""
    return dumps([[job, limits.get(job)] for job in jobs])
