"""One append: the quick way, the careful way, and what to do when its answer is lost.

A connection that breaks says nothing about what was sent on it: the commit may have happened, may
be happening, or the server may not even have read the call. So each call carries an id of its own,
and `settle_1` finds out: it waits for a call that is going on, sees whether its events are in the
log, and if not, has the server refuse that id from then on. Only then is it sent again or given up.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from wakelog.errors import StoreUnavailableError
from wakelog.ports.units import Appended, Unit
from wakelog_adapters.postgres.append_call import AppendOptions, AppendRows, TooLargeError
from wakelog_adapters.postgres.conflicts import Way, append_carefully
from wakelog_adapters.postgres.connections import Connection, Datastore, rows_of
from wakelog_adapters.postgres.errors import is_refusal, is_worth_repeating, translated
from wakelog_adapters.postgres.queries import Queries
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["Appender", "Attempt"]

_LOG = logging.getLogger("wakelog.postgres")
TRIES = 3
"""How often an append is sent that was not recorded through no fault of its own."""
SETTLE_S = 30.0
"""How long to look for a server that can say what became of an append."""
_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_NOTHING = Appended((), None)


@dataclass(slots=True)
class Attempt:
    """One sending of a group of units."""

    id: str
    units: Sequence[Unit]
    now_us: int | None
    """When the leases begin; None: as each unit says."""
    expected: Appended = _NOTHING
    """What is to be answered if it is committed; empty while nothing was sent."""

    def evidence(self) -> Unit | None:
        """A unit whose events are in the log if, and only if, the whole was committed."""
        paired = zip(self.units, self.expected.errors, strict=False)
        return next((unit for unit, error in paired if error is None and unit.events), None)


class Appender:
    """Sends groups of units to the server, each under an id of its own."""

    def __init__(self, datastore: Datastore, queries: Queries, place: StoreLocation) -> None:
        self._datastore = datastore
        self._queries = queries
        self._place = place
        self._lock_timeout = f"{round(place.timeout_s * 1000)}ms"
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._closed = threading.Event()

    def attempt(self, units: Sequence[Unit], now_us: int | None = None) -> Attempt:
        """A sending that has not begun."""
        return Attempt(f"{self._prefix}{next(self._numbers):x}", units, now_us)

    def call(self, attempt: Attempt) -> AppendOptions:
        """How to send it."""
        server_clock = self._datastore.server_clock
        return AppendOptions(attempt.id, self._lock_timeout, attempt.now_us, server_clock)

    def append(self, units: Sequence[Unit]) -> Appended:
        """Append, in a transaction of its own, and be certain of it.

        Sends again what was not recorded through no fault of its own: the connection broke, or
        others' locks were in each other's way. Raises `StoreUnavailableError`; where the server
        stayed away for `SETTLE_S` its detail says that it is not known what became of the units.
        """
        try:
            return self._append(units)
        except TooLargeError as error:
            if len(units) == 1:
                detail = f"{units[0].stream}: {error}"
                return Appended([StoreUnavailableError("refused", detail)], None)
        # In two, one after the other. What builds on a refused unit has a gap before it, and falls.
        half = len(units) // 2
        both = self.append(units[:half]), self.append(units[half:])
        dues = [each.next_due_us for each in both if each.next_due_us is not None]
        return Appended([*both[0].errors, *both[1].errors], min(dues, default=None))

    def settle(
        self, attempt: Attempt, lost: psycopg.Error | None, error: psycopg.Error | None
    ) -> Appended:
        """What became of an attempt that was not answered with yes, once that is certain.

        `lost`: what the connection broke with. If it did not, `error` is what the server said: so
        nothing was recorded. Raises as `append` does.
        """
        if lost is not None:
            if self.was_recorded(attempt, lost):
                return attempt.expected
            self._datastore.count("store_retries")
        elif error is not None and is_worth_repeating(error):
            self._datastore.count("store_retries")
        elif error is not None and not is_refusal(error):  # a wait, perhaps: it is not done twice
            with translated(self._place.label):
                raise error
        elif error is not None:
            return self._append(attempt.units, refused=True)
        return self.append(attempt.units)

    def _append(self, units: Sequence[Unit], *, refused: bool = False) -> Appended:
        for tries_left in reversed(range(TRIES)):
            attempt = self.attempt(units)
            with translated(self._place.label):
                with self._datastore.lend(alive=tries_left < TRIES - 1) as connection:
                    try:
                        return self.run(attempt, connection, refused=refused)
                    except psycopg.Error as error:
                        if not connection.closed and not is_worth_repeating(error):
                            raise
                        broken, failed = connection.closed, error
                if broken and self.was_recorded(attempt, failed):
                    return attempt.expected
                if tries_left == 0:
                    raise failed
            self._datastore.count("store_retries")
        raise AssertionError("the last try returns or raises")

    def run(
        self,
        attempt: Attempt,
        connection: Connection,
        *,
        within: bool = False,
        refused: bool = False,
    ) -> Appended:
        """One call if all is as expected, else the careful way. Raises psycopg's errors.

        `within` a transaction of the caller's nothing is certain before that has ended. `refused`:
        the one call has been made, and a unit is to blame.
        """

        def send(parcel: AppendRows) -> None:
            rows_of(connection, self._queries.append, parcel.arguments(self.call(attempt)))

        def write(units: Sequence[Unit], errors: Sequence[Exception | None]) -> None:
            parcel = AppendRows(units)
            attempt.expected = Appended(errors, parcel.next_due_us)
            with connection.transaction() if within else contextlib.nullcontext():
                if units:
                    send(parcel)

        def try_out(units: Sequence[Unit]) -> None:
            with connection.transaction(force_rollback=True):
                send(AppendRows(units))

        try:
            if not refused:
                write(attempt.units, [None] * len(attempt.units))
        except Exception as error:
            if not is_refusal(error) or (isinstance(error, TooLargeError) and not within):
                raise
            refused = True
        if refused:
            way = Way(connection, self._queries.facts, write, try_out)
            append_carefully(way, attempt.units)
        return attempt.expected

    def was_recorded(self, attempt: Attempt, lost: Exception) -> bool:
        """After the connection broke: whether the server has committed it. If not, it never will.

        Without a unit that has events there is nothing to see it by, and the answer is False.
        Raises `StoreUnavailableError` if no server says so within `SETTLE_S`.
        """
        _LOG.warning("%s: an answer was lost, looking for it: %s", self._place.label, lost)
        self._datastore.count("store_lost_answers")
        self._datastore.drop_broken()
        if not attempt.expected.errors:
            return False
        unit = attempt.evidence()
        first = (unit.stream, unit.base_version + 1, unit.commit) if unit else (None, None, None)
        deadline_s = time.monotonic() + SETTLE_S
        pause_s = _PAUSE_S
        while True:
            try:
                with translated(self._place.label), self._datastore.lend() as connection:
                    asked = (attempt.id, self._lock_timeout, *first)
                    return bool(rows_of(connection, self._queries.settle, asked)[0][0])
            except StoreUnavailableError as error:
                if time.monotonic() >= deadline_s or self._closed.wait(pause_s):
                    count = len(attempt.units)
                    detail = f"whether {count} units were recorded is not known: {error.detail}"
                    raise StoreUnavailableError("unreachable", detail) from lost
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def close(self) -> None:
        """Wait for no server any more."""
        self._closed.set()
