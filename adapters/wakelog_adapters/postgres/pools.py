"""A call of a pool: one transaction that looks, plans and writes.

One statement takes the locks of an append and looks, another one writes. Between them the plan is
made here, while all other writers wait. So the server ends the session of a process that is stopped
there; and the transaction is begun together with the look, the commit is sent together with what it
commits, so that nobody waits for a round trip more, and no process can die between the two.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import Plan, PoolLook, PoolSeen, PoolWrites, SegmentRow
from wakelog_adapters.postgres.append import TRIES, Appender, Evidence
from wakelog_adapters.postgres.append_call import MAX_BLOB, dumps
from wakelog_adapters.postgres.append_run import LockWaits
from wakelog_adapters.postgres.connections import Connection, Datastore
from wakelog_adapters.postgres.errors import (
    is_locked,
    is_silence,
    is_worth_repeating,
    translated,
)
from wakelog_adapters.postgres.pool_reads import (
    document_of,
    look_params,
    seen_in,
    slice_params,
    slices_in,
)
from wakelog_adapters.postgres.queries import Queries
from wakelog_adapters.postgres.url import StoreLocation
from wakelog_adapters.sql.blob import Blob
from wakelog_projections.inline.append_rows import outbox_row

__all__ = ["PLAN_TIMEOUT", "PoolCaller"]

_LOG = logging.getLogger("wakelog.postgres")
PLAN_TIMEOUT = "5s"
"""How long a plan may take before the server undoes its transaction and releases its locks: its
process has stalled, or its connection was cut without the server noticing."""

_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


@dataclass(slots=True)
class _Attempt:
    """One attempt to make a call."""

    id: str
    sent: PoolWrites | None = None
    """What was sent to be written and committed."""
    raised: BaseException | None = None
    """What the plan has raised."""
    commit: psycopg.Cursor[Any] | None = None
    """By which it was committed."""
    read: psycopg.Cursor[Any] | None = None
    """By which the slices were read after it."""
    may_be_recorded: bool = False
    """Its answer was lost, and nothing in the log would tell whether it was recorded."""

    @property
    def is_committed(self) -> bool:
        """Whether the server has said so: then what failed is the reading after it."""
        return self.commit is not None and self.commit.statusmessage == "COMMIT"

    def slices(self) -> Sequence[tuple[SegmentRow, bytes]]:
        """What was to be read."""
        return () if self.read is None else slices_in(self.read.fetchall())

    def evidence(self) -> Evidence | None:
        """An event that is in the log if, and only if, the attempt was committed."""
        if self.sent is None or not self.sent.events:
            return None
        event = self.sent.events[0]
        return event.stream, event.version, self.sent.commit

    def is_worth_repeating(self, error: Exception) -> bool:
        """Whether the server rolled back only because of another transaction. A lease that another
        session has locked is waited for only a moment, without the log between two attempts."""
        return is_worth_repeating(error) or (self.sent is not None and is_locked(error))


class PoolCaller:
    """Makes the calls of pools, each under an append id of its own."""

    def __init__(
        self, datastore: Datastore, queries: Queries, location: StoreLocation, appender: Appender
    ) -> None:
        self._datastore = datastore
        self._queries = queries
        self._location = location
        self._appender = appender
        self._waits = LockWaits(location.timeout_s)

    @property
    def lock_wait(self) -> str:
        """How long to wait for the lock of the log, as the server takes it."""
        return self._waits.full

    def call(
        self, look: PoolLook, plan: Plan
    ) -> tuple[PoolWrites | None, Sequence[tuple[SegmentRow, bytes]]]:
        """Return what was written, None if that is nothing, and what was read after it.

        Looks and plans again if the connection broke and nothing was recorded, or if the server
        undid it because of other transactions' locks. Raises what `plan` raises, and
        `StoreUnavailableError`, which says so if it is not known whether it was recorded.
        """
        attempts: list[_Attempt] = []
        try:
            return self._tried(attempts, look, plan)
        except StoreUnavailableError as error:
            if not any(each.may_be_recorded for each in attempts):
                raise
            detail = f"it is not known whether {_what(look)}: {error.detail}"
            raise StoreUnavailableError(error.reason, detail) from error

    def _tried(
        self, attempts: list[_Attempt], look: PoolLook, plan: Plan
    ) -> tuple[PoolWrites | None, Sequence[tuple[SegmentRow, bytes]]]:
        failed: psycopg.Error | OSError | None = None
        for tries_left in reversed(range(TRIES)):
            attempt = _Attempt(self._appender.new_id())
            attempts.append(attempt)
            with self._datastore.lend(after=failed) as connection:
                try:
                    self._run(attempt, connection, look, plan)
                    return attempt.sent, attempt.slices()
                except (psycopg.Error, OSError) as error:
                    if attempt.is_committed:
                        return attempt.sent, ()
                    if error is attempt.raised:
                        raise
                    if isinstance(error, OSError):  # while it waited: the answer is lost
                        connection.close()
                    broken, failed = connection.closed, error
            if broken and self._was_recorded(attempt, look, failed):
                return attempt.sent, ()
            is_repeated = broken or attempt.is_worth_repeating(failed)
            if tries_left == 0 or is_silence(failed) or not is_repeated:
                with translated(self._location.label):
                    raise failed
            self._datastore.count("store_retries")
        raise AssertionError("the last try returns or raises")

    def _was_recorded(self, attempt: _Attempt, look: PoolLook, lost: Exception) -> bool:
        """After the connection broke. What has no events is not looked for: the next attempt waits
        for the lock that this one may still hold, and its plan sees what this one has written."""
        attempt.may_be_recorded = attempt.sent is not None and attempt.evidence() is None
        return self._appender.look_up(attempt.id, attempt.evidence(), lost, _what(look))

    def _run(self, attempt: _Attempt, connection: Connection, look: PoolLook, plan: Plan) -> None:
        """Raises psycopg's errors, and what the plan raises: then it is undone."""
        try:
            with _pipelined(connection) as pipeline:
                seen = self._begin(attempt, connection, pipeline, look)
                try:
                    writes = plan(seen)
                except BaseException as error:
                    attempt.raised = error
                    raise
                if writes.is_empty:
                    connection.execute(b"ROLLBACK")
                else:
                    self._write(attempt, connection, look, seen.number, writes)
        except BaseException:
            if connection.pgconn.transaction_status in _OPEN:
                with suppress(psycopg.Error, OSError):
                    connection.execute(b"ROLLBACK")
            raise

    def _write(
        self,
        attempt: _Attempt,
        connection: Connection,
        look: PoolLook,
        number: int,
        writes: PoolWrites,
    ) -> None:
        """Also raises `StoreUnavailableError` ("refused") for what cannot be sent."""
        try:
            arguments = self._arguments(look, number, writes)
            attempt.sent = writes
            connection.execute(self._queries.pool_write, arguments)
            # if the write fails this is not executed, nor would it be prepared
            attempt.commit = connection.execute(b"COMMIT", prepare=False)
            if writes.read:
                params = slice_params(look.pool, writes.read)
                attempt.read = connection.cursor(binary=True, row_factory=tuple_row)
                attempt.read.execute(self._queries.pool_slices, params)
        except ValueError as error:
            message = f"{self._location.label}: a call of {look.pool}: {error}"
            raise StoreUnavailableError("refused", message) from error

    def _begin(
        self, attempt: _Attempt, connection: Connection, pipeline: psycopg.Pipeline, look: PoolLook
    ) -> PoolSeen:
        params = look_params(look, server_clock=self._datastore.server_clock)
        locks = attempt.id, self._waits.full, PLAN_TIMEOUT
        connection.execute(self._queries.begin)
        with (
            document_of(look.pool),
            connection.cursor(binary=True, row_factory=tuple_row) as looked,
        ):
            looked.execute(self._queries.pool_look, (*locks, *params))
            # the last message before the plan: one after it would stop the clock of `PLAN_TIMEOUT`
            pipeline.sync()
            [row] = looked.fetchall()
            return seen_in(row)

    def _arguments(self, look: PoolLook, number: int, writes: PoolWrites) -> tuple[object, ...]:
        """What `pool_write_1` takes, in its order. Raises `ValueError`."""
        blob = Blob()
        events = [
            {"stream": e.stream, "version": e.version, "topic": e.topic, "at": at, "length": length}
            for e in writes.events
            for at, length in [blob.put(e.state)]
        ]
        leases = [
            {"stream": stream, "owner": owner, "token": token, "lasts_us": lasts_us}
            for stream, owner, token, lasts_us in writes.leases
        ]
        sent = [outbox_row(sender, each, look.now_us) for sender, each in writes.sent]
        if blob.size > MAX_BLOB:
            raise ValueError(f"more than {MAX_BLOB >> 20} MiB in one call")
        return (
            self._waits.for_rows,
            look.pool,
            None if self._datastore.server_clock else look.now_us,
            number,
            writes.state,
            _json([row._asdict() for row in writes.segments]),
            _json([row._asdict() for row in writes.taken]),
            _json([row._asdict() for row in writes.ids]),
            _json([{"lane": lane, "off": off} for lane, off in writes.gone]),
            _json([row._asdict() for row in writes.put]),
            _json([{"lane": lane, "off": off} for lane, off in writes.skips]),
            _json([row._asdict() for row in writes.trail]),
            _json(leases),
            [*writes.dropped] or None,
            _json([row._asdict() for row in sent]),
            [*writes.inbox] or None,
            _json(events),
            blob.joined(),
        )


@contextmanager
def _pipelined(connection: Connection) -> Generator[psycopg.Pipeline]:
    """What is executed is sent, and answered, when the pipeline is synced or ends.

    What was raised first says why: what its end raises after that is neither raised nor logged.
    """
    with ExitStack() as stack:
        pipeline = stack.enter_context(connection.pipeline())
        try:
            yield pipeline
        except BaseException:
            with suppress(psycopg.Error, OSError):
                stack.close()
            raise


def _what(look: PoolLook) -> str:
    return f"a call of {look.pool} was recorded"


def _json(rows: Sequence[Mapping[str, object]]) -> str | None:
    return dumps(rows) if rows else None
