"""One attempt to append, on one connection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from wakelog.ports.units import Appended, StreamLocked, Unit
from wakelog_adapters.postgres.append_call import AppendCall, AppendOptions
from wakelog_adapters.postgres.connections import AFTER_SILENCE_S, Connection, rows_of
from wakelog_adapters.postgres.errors import is_locked
from wakelog_adapters.postgres.queries import Queries

__all__ = ["AppendRun", "Attempt", "LockWaits"]

MAX_ROW_WAIT_S = 0.1
"""How long a group waits for a row that another session has locked, at most: all other units of the
process wait behind it. Longer than any append or claim keeps a row, if all is well."""
_ROW_SHARE = 0.1
"""The same, as a share of the time that a call may wait for a lock."""
_ALONE_S = 0.01
"""How long to wait for the rows of each unit when it is tried alone."""
_NOTHING = Appended((), None)


class LockWaits:
    """How long an append waits for locks; text as the server takes it."""

    def __init__(self, timeout_s: float) -> None:
        self.full_s = timeout_s
        """For what is everybody's: the log."""
        self.full = _ms(timeout_s)
        self.after_silence = _ms(min(AFTER_SILENCE_S, timeout_s))
        """For an append whose server was silent, by the call that looks it up."""
        self.for_rows = _ms(min(MAX_ROW_WAIT_S, timeout_s * _ROW_SHARE))
        self.for_one = _ms(min(_ALONE_S, timeout_s * _ROW_SHARE))


@dataclass(slots=True)
class Attempt:
    """One attempt to append a group of units."""

    id: str
    units: Sequence[Unit]
    expected: Appended = _NOTHING
    """The result if it is committed; empty while nothing was sent."""
    sent_s: float = field(default_factory=time.monotonic)
    """When it was sent, or sent again."""

    def evidence(self) -> Unit | None:
        """A unit whose events are in the log if, and only if, the attempt was committed."""
        paired = zip(self.units, self.expected.errors, strict=False)
        return next((unit for unit, error in paired if error is None and unit.events), None)

    def met_a_locked_row(self, error: BaseException, waits: LockWaits) -> bool:
        """Whether `error` says that a lock was waited for only a moment: that of a row. One that
        was waited for in full is nobody's of the group."""
        return is_locked(error) and time.monotonic() - self.sent_s < waits.full_s


class AppendRun:
    """Writes units of an attempt, all or none. Its methods raise psycopg's errors."""

    def __init__(
        self,
        connection: Connection,
        queries: Queries,
        attempt: Attempt,
        options: AppendOptions,
        waits: LockWaits,
    ) -> None:
        self.connection = connection
        self.queries = queries
        self.attempt = attempt
        self.waits = waits
        self._options = options

    def write(
        self,
        units: Sequence[Unit],
        errors: Sequence[Exception | None],
        *,
        is_patient: bool = False,
    ) -> None:
        """Write `units`. `errors`: then the outcome of each unit of the group. `is_patient`: wait
        for rows as long as for the log."""
        call = AppendCall(units)
        self.attempt.expected = Appended(errors, call.next_due_us, call.emits)
        self.attempt.sent_s = time.monotonic()
        options = self._options
        if is_patient:
            options = options._replace(row_timeout=options.lock_timeout)
        if units:
            self._send(call, options)

    def try_out(self, units: Sequence[Unit], *, only_rows: bool = False) -> None:
        """Write `units` and undo that. `only_rows`: without the log."""
        self.attempt.sent_s = time.monotonic()
        options = self._options._replace(row_timeout=self.waits.for_one, only_rows=only_rows)
        with self.connection.transaction(force_rollback=True):
            self._send(AppendCall(units), options)

    def locked_streams(self, units: Sequence[Unit]) -> set[str]:
        """The streams of which another session has locked a row that exists."""
        streams = sorted({unit.stream for unit in units})
        found = rows_of(self.connection, self.queries.locked, (streams, self.waits.for_rows))
        return set(found[0][0])

    def locked(self, unit: Unit) -> StreamLocked:
        """The error of a unit that another session has locked."""
        return StreamLocked(unit.stream, self.waits.full_s)

    def met_a_locked_row(self, error: BaseException) -> bool:
        """See `Attempt.met_a_locked_row`."""
        return self.attempt.met_a_locked_row(error, self.waits)

    def _send(self, call: AppendCall, options: AppendOptions) -> None:
        rows_of(self.connection, self.queries.append, call.arguments(options))


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
