"""One append: a single call, the search for refused units, and what to do if the answer is lost.

A connection that breaks says nothing about what was sent on it: the commit may have happened, may
be happening, or the server may not even have read the call. So each call carries an id of its own,
and `settle_1` finds out: it waits for a call that is going on, looks whether its events are in the
log, and if not, makes the server refuse that id from then on. Only then is it sent again or given
up.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Sequence

import psycopg

from wakelog.errors import StoreUnavailableError
from wakelog.ports.units import Appended, Unit
from wakelog_adapters.postgres.append_call import AppendOptions, TooLargeError
from wakelog_adapters.postgres.append_run import AppendRun, Attempt, LockWaits
from wakelog_adapters.postgres.conflicts import append_without_refused
from wakelog_adapters.postgres.connections import Connection, Datastore, rows_of
from wakelog_adapters.postgres.errors import (
    is_refusal,
    is_silence,
    is_worth_repeating,
    translated,
)
from wakelog_adapters.postgres.queries import Queries
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["Appender"]

_LOG = logging.getLogger("wakelog.postgres")
TRIES = 3
"""How often an append is sent whose failure was not caused by its units."""
SETTLE_S = 30.0
"""How long to look for a server that can say whether an append was committed."""
_PAUSE_S = 0.1
"""The first pause between two looks; it doubles each time, up to:"""
_MAX_PAUSE_S = 2.0
Evidence = tuple[str, int, str] | tuple[None, None, None]
"""Stream, version and commit of an event."""
_NO_EVIDENCE: Evidence = (None, None, None)


class Appender:
    """Sends groups of units to the server, each under an id of its own."""

    def __init__(self, datastore: Datastore, queries: Queries, location: StoreLocation) -> None:
        self._datastore = datastore
        self._queries = queries
        self._location = location
        self._waits = LockWaits(location.timeout_s)
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._closed = threading.Event()

    def attempt(self, units: Sequence[Unit]) -> Attempt:
        """An attempt that has not been sent."""
        return Attempt(self.new_id(), units)

    def new_id(self) -> str:
        """An append id that was never used."""
        return f"{self._prefix}{next(self._numbers):x}"

    def options(self, attempt: Attempt) -> AppendOptions:
        """How to call `append_1` for it."""
        return AppendOptions(
            attempt.id, self._waits.for_rows, self._waits.full, self._datastore.server_clock
        )

    def append(self, units: Sequence[Unit]) -> Appended:
        """Append, in a transaction of its own, and know for certain whether it was committed.

        Sends again if the connection broke, or if the server undid it because of other
        transactions' locks. Raises `StoreUnavailableError`; if the server was away for `SETTLE_S`
        its detail says that it is not known whether the units were recorded.
        """
        try:
            return self._append(units)
        except TooLargeError as error:
            if len(units) == 1:
                detail = f"{units[0].stream}: {error}"
                return Appended([StoreUnavailableError("refused", detail)], None)
        # In two halves, one after the other. A unit that builds on a refused one is refused too:
        # its stream is not at its base version.
        half = len(units) // 2
        first, second = self.append(units[:half]), self.append(units[half:])
        dues = [each.next_due_us for each in (first, second) if each.next_due_us is not None]
        emits = first.emits or second.emits
        return Appended([*first.errors, *second.errors], min(dues, default=None), emits)

    def settle(
        self, attempt: Attempt, lost: psycopg.Error | None, error: psycopg.Error | None
    ) -> Appended:
        """Finish an attempt that did not succeed, with what `append` would return or raise.

        `lost`: the error with which the connection broke. If it did not break, `error` is what the
        server returned, and nothing was recorded.
        """
        if lost is not None:
            if self.was_recorded(attempt, lost):
                return attempt.expected
            if is_silence(lost):
                with translated(self._location.label):
                    raise lost
            self._datastore.count("store_retries")
        elif error is not None and is_worth_repeating(error):
            self._datastore.count("store_retries")
        elif error is not None and self._can_be_divided(attempt, error):
            return self._append(attempt.units, refused_by=error)
        elif error is not None:  # perhaps a timeout: not waited for twice
            with translated(self._location.label):
                raise error
        return self.append(attempt.units)

    def _can_be_divided(self, attempt: Attempt, error: Exception) -> bool:
        """Whether `error` concerns some of the units, and the others can be written."""
        return is_refusal(error) or attempt.met_a_locked_row(error, self._waits)

    def _append(self, units: Sequence[Unit], *, refused_by: Exception | None = None) -> Appended:
        failed: psycopg.Error | OSError | None = None
        for tries_left in reversed(range(TRIES)):
            attempt = self.attempt(units)
            with translated(self._location.label):
                with self._datastore.lend(after=failed) as connection:
                    try:
                        return self.run(attempt, connection, refused_by=refused_by)
                    except (psycopg.Error, OSError) as error:
                        if isinstance(error, OSError):  # while it waited: the answer is lost
                            connection.close()
                        if not connection.closed and not is_worth_repeating(error):
                            raise
                        broken, failed = connection.closed, error
                if broken and self.was_recorded(attempt, failed):
                    return attempt.expected
                if tries_left == 0 or is_silence(failed):
                    raise failed
            self._datastore.count("store_retries")
        raise AssertionError("the last try returns or raises")

    def run(
        self,
        attempt: Attempt,
        connection: Connection,
        *,
        refused_by: Exception | None = None,
    ) -> Appended:
        """One call if no unit is refused, else as `conflicts` does it. Raises psycopg's errors.

        `refused_by`: the one call has been made, and this was the error.
        """
        options = self.options(attempt)
        run = AppendRun(connection, self._queries, attempt, options, self._waits)
        try:
            if refused_by is None:
                run.write(attempt.units, [None] * len(attempt.units))
        except Exception as error:
            is_divided_first = isinstance(error, TooLargeError)
            if is_divided_first or not self._can_be_divided(attempt, error):
                raise
            refused_by = error
        if refused_by is not None:
            append_without_refused(run, attempt.units, refused_by)
        return attempt.expected

    def was_recorded(self, attempt: Attempt, lost: Exception) -> bool:
        """After the connection broke: whether the server has committed it; see `look_up`. False if
        no unit has events: there is nothing to see it by."""
        where: Evidence | None = None
        if attempt.expected.errors:
            unit = attempt.evidence()
            where = (unit.stream, unit.base_version + 1, unit.commit) if unit else _NO_EVIDENCE
        return self.look_up(attempt.id, where, lost, f"{len(attempt.units)} units were recorded")

    def look_up(self, append_id: str, where: Evidence | None, lost: Exception, what: str) -> bool:
        """After an answer was lost: whether the server has committed what has this id. If not, it
        never will.

        `where`: stream, version and commit of one of its events; None: it had not been sent. Raises
        `StoreUnavailableError` if no server can be asked within `SETTLE_S`, or at once after it was
        silent for too long: then it is not known whether `what`.
        """
        _LOG.warning("%s: an answer was lost, looking it up: %s", self._location.label, lost)
        self._datastore.count("store_lost_answers")
        self._datastore.drop_idle()
        if where is None:
            return False
        deadline_s = time.monotonic() + SETTLE_S
        pause_s = _PAUSE_S
        is_silent = is_silence(lost)
        while True:
            try:
                with (
                    translated(self._location.label),
                    self._datastore.lend(after=lost) as connection,
                ):
                    wait = self._waits.after_silence if is_silent else self._waits.full
                    params = (append_id, wait, *where)
                    return bool(rows_of(connection, self._queries.settle, params)[0][0])
            except StoreUnavailableError as error:
                is_silent = is_silent or is_silence(error.__cause__)
                is_over = is_silent or time.monotonic() >= deadline_s
                if is_over or self._closed.wait(pause_s):
                    detail = f"it is not known whether {what}: {error.detail}"
                    raise StoreUnavailableError("unreachable", detail) from lost
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def close(self) -> None:
        """Look for no server from now on."""
        self._closed.set()
