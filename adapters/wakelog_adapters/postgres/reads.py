"""The reading half of the PostgreSQL store: nothing here takes a lock or writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from eventsourcing import postgres as library
from msgspec.structs import replace

from wakelog.ports.messages import Message
from wakelog.ports.records import Loaded, Newest, StoredEvent, StoredSnapshot
from wakelog.ports.rows import HeldLease, JobPauseRow, Listing, StatusCount, StatusRow, WorkerRow
from wakelog.ports.units import KeptReply
from wakelog_adapters.postgres.connections import Connection, Datastore, rows_of
from wakelog_adapters.postgres.errors import is_silence, translated
from wakelog_adapters.postgres.queries import DIALECT, NO_LIMIT, PAGE, Queries
from wakelog_adapters.postgres.url import StoreLocation
from wakelog_adapters.sql.listing import listing_condition
from wakelog_adapters.sql.rows import can_be_stored, lease, message, readable, worker_row

__all__ = ["PostgresReads"]

R = TypeVar("R")

_MAX_VERSION = (1 << 63) - 1


class PostgresReads(library.PostgresApplicationRecorder):
    """Reads the newest committed state. Raises `StoreUnavailableError`."""

    datastore: Datastore

    def __init__(self, datastore: Datastore, location: StoreLocation) -> None:
        super().__init__(datastore, events_table_name="stored_events")
        self.location = location
        self.queries = Queries.of(location.schema)

    def _rows(self, sql: bytes, params: Any = ()) -> list[tuple[Any, ...]]:
        """The rows that `sql` returns. It may be executed twice; see `_twice`."""
        return self._twice(lambda connection: rows_of(connection, sql, params))

    def _many_rows(self, sql: bytes, params: Any) -> list[tuple[Any, ...]]:
        """As `_rows`, of a statement that may take long."""

        def ask(connection: Connection) -> list[tuple[Any, ...]]:
            with connection.taking_long():
                return rows_of(connection, sql, params)

        return self._twice(ask)

    def _twice(self, ask: Callable[[Connection], R]) -> R:
        """What `ask` returns; it is called again if the connection was lost.

        So only for what may be done twice.
        """
        with translated(self.location.label):
            with self.datastore.lend() as connection:
                try:
                    return ask(connection)
                except Exception as error:
                    if not connection.is_lost:
                        raise
                    lost = error
            self.datastore.drop_idle()
            if is_silence(lost):  # that was all the time that the call has
                raise lost
            self.datastore.count("store_retries")
            with self.datastore.lend(after=lost) as connection:
                return ask(connection)

    def load(self, stream: str, after_version: int | None = None) -> Loaded:
        if after_version is not None:
            return Loaded(None, self.events(stream, after=after_version))
        return self.load_all([stream])[0]

    def load_all(self, streams: Sequence[str]) -> Sequence[Loaded]:
        known = [stream for stream in set(streams) if can_be_stored(stream)]
        if not known:
            return [Loaded(None, [])] * len(streams)
        snapshots: dict[str, StoredSnapshot] = {}
        newest: dict[str, Newest] = {}
        tails: dict[str, list[StoredEvent]] = {stream: [] for stream in streams}
        for stream, version, topic, state in self._rows(self.queries.load, (known,)):
            if topic is None:
                snapshots[stream] = StoredSnapshot(version, state)
            elif not topic:
                newest[stream] = Newest(version, state.decode())
            else:
                tails[stream].append(StoredEvent(stream, version, topic, state))
        for stream, tail in tails.items():
            if len(tail) == PAGE:  # up to the same moment: what was appended since is left out
                upto = newest[stream].version if stream in newest else None
                tail += self.events(stream, after=tail[-1].version, upto=upto)
        return [Loaded(snapshots.get(each), tails[each], newest.get(each)) for each in streams]

    def events(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> Sequence[StoredEvent]:
        """Page by page: events are only ever added, so that the pages fit together."""
        found: list[StoredEvent] = []
        last = _MAX_VERSION if upto is None else upto
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = self._rows(self.queries.events, (stream, after, last, size))
            found += [StoredEvent(stream, *row) for row in page]
            if len(page) < size:
                break
            after = found[-1].version
        return found

    def snapshot_before(self, stream: str, version: int) -> StoredSnapshot | None:
        rows = self._rows(self.queries.snapshot_before, (stream, version))
        return StoredSnapshot(*rows[0]) if rows else None

    def status(self, streams: Sequence[str]) -> Sequence[StatusRow | None]:
        known = [stream for stream in streams if can_be_stored(stream)]
        if not known:
            return [None] * len(streams)
        found = {row[0]: StatusRow(*row) for row in self._rows(self.queries.status, (known,))}
        return [found.get(stream) for stream in streams]

    def kept_replies(self, keys: Sequence[tuple[str, str]]) -> Sequence[KeptReply | None]:
        known = [key for key in keys if all(map(can_be_stored, key))]
        if not known:
            return [None] * len(keys)
        streams, names = map(list, zip(*known, strict=True))
        rows = self._rows(self.queries.kept_replies, (streams, names))
        found = {(stream, reply[0]): KeptReply(*reply) for stream, *reply in rows}
        return [found.get(key) for key in keys]

    def job_pauses(self) -> Sequence[JobPauseRow]:
        return [JobPauseRow(*row) for row in self._rows(self.queries.job_pauses, ())]

    def positions(self) -> Mapping[str, int]:
        return {name: position for name, position in self._rows(self.queries.positions)}

    def messages_due(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[str]:
        rows = self._rows(self.queries.messages_due, ([*jobs], now_us, limit, limit))
        return [sender for (sender,) in rows]

    @readable
    def messages_of(self, senders: Sequence[str], limit: int) -> Sequence[Message]:
        rows = self._rows(self.queries.messages_of, ([*{*senders}], limit))
        return [
            message([*row, StoredEvent(row[0], row[1], topic, state)])
            for *row, topic, state in rows
        ]

    def list(self, listing: Listing) -> Sequence[StatusRow]:
        if not _can_match(listing):
            return []
        where, params = listing_condition(listing, DIALECT)
        sql = self.queries.list_where.replace(b"{where}", where.encode())
        return [StatusRow(*row) for row in self._many_rows(sql, (*params, listing.limit))]

    def count(self, listing: Listing, now_us: int) -> Sequence[StatusCount]:
        if not _can_match(listing):
            return []
        where, params = listing_condition(replace(listing, after=None), DIALECT)
        sql = self.queries.count_where.replace(b"{where}", where.encode())
        return [StatusCount(*row) for row in self._many_rows(sql, (now_us, *params))]

    @readable
    def leases(self, now_us: int, limit: int) -> Sequence[HeldLease]:
        params = {"clock_us": self._clock_us(now_us), "now_us": now_us, "limit": limit}
        return [
            HeldLease(
                stream,
                lease(owner, until_us, token, run),
                None if topic is None else StoredEvent(stream, token, topic, state),
            )
            for stream, owner, until_us, token, run, topic, state in self._many_rows(
                self.queries.leases, params
            )
        ]

    def lease_tokens(self, streams: Sequence[str]) -> Sequence[int | None]:
        known = [stream for stream in streams if can_be_stored(stream)]
        tokens: dict[str, int] = dict(self._rows(self.queries.lease_tokens, (known,)))
        return [tokens.get(stream) for stream in streams]

    def next_due_us(
        self, jobs: Sequence[str], now_us: int, limits: Mapping[str, int] = {}
    ) -> int | None:
        params = {
            "clock_us": self._clock_us(now_us),
            "jobs": list(jobs),
            "limits": [limits.get(job, NO_LIMIT) for job in jobs],
            "now_us": now_us,
        }
        due_us: int | None = self._rows(self.queries.next_due, params)[0][0]
        return due_us

    def _clock_us(self, now_us: int) -> int | None:
        """The time that leases are judged by; None: the server's clock."""
        return None if self.datastore.server_clock else now_us

    def stranded(self, before_us: int, limit: int) -> Sequence[str]:
        runs, alarms_agree = self._many_rows(self.queries.stranded_runs, (before_us, limit))[0]
        found = [str(stream) for stream in runs]
        if not alarms_agree and len(found) < limit:
            rows = self._many_rows(self.queries.stranded_alarms, (before_us, limit - len(found)))
            found += [stream for (stream,) in rows]
        return found

    @readable
    def workers(self, now_us: int) -> Sequence[WorkerRow]:
        return [worker_row(row) for row in self._rows(self.queries.workers, (now_us,))]


def _can_match(listing: Listing) -> bool:
    texts = (listing.name, listing.id_prefix, listing.error_type)
    return all(text is None or can_be_stored(text) for text in texts)
