"""One claim: lock what is due, have the caller begin it, append that, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import psycopg

from wakelog.errors import StoreUnavailableError
from wakelog.ports.rows import Due
from wakelog.ports.units import Appended, Lease, Unit
from wakelog_adapters.postgres.append import Appender, Attempt
from wakelog_adapters.postgres.connections import IDLE_TIMEOUT, Connection, Datastore, rows_of
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.queries import Queries
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["Begin", "Claimer", "Wanted", "release"]

Begin = Callable[[Sequence[Due]], Sequence[Unit]]

_NOTHING = Appended((), None)


class Wanted(NamedTuple):
    """What is to be claimed; see `Store.claim`."""

    now_us: int
    jobs: Sequence[str]
    limit: int
    limits: Mapping[str, int]


class Claimer:
    """Takes what is due. Any number of processes may claim at the same time."""

    def __init__(
        self, datastore: Datastore, queries: Queries, place: StoreLocation, appender: Appender
    ) -> None:
        self._datastore = datastore
        self._queries = queries
        self._place = place
        self._appender = appender

    def claim(self, wanted: Wanted, begin: Begin) -> Appended:
        """See `Store.claim`. Killed here: nothing was claimed."""
        attempts: list[Attempt] = []

        def begun(dues: Sequence[Due]) -> Attempt:
            attempts.append(self._appender.attempt(begin(dues), wanted.now_us))
            return attempts[0]

        for again in (False, True):
            with translated(self._place.label):
                with self._datastore.lend(alive=again) as connection:
                    try:
                        return self._claim_on(connection, wanted, begun)
                    except psycopg.Error as error:
                        if not connection.closed or (again and not attempts):
                            raise
                        lost = error
                if attempts:
                    return self._recovered(attempts[0], lost)
                self._datastore.drop_broken()
                self._datastore.count("store_retries")
        raise AssertionError("the second time it returns or raises")

    def _claim_on(
        self,
        connection: Connection,
        wanted: Wanted,
        begun: Callable[[Sequence[Due]], Attempt],
    ) -> Appended:
        now_us = wanted.now_us
        clock_us = None if self._datastore.server_clock else now_us
        with connection.transaction():
            held = {job for (job,) in rows_of(connection, self._queries.paused_jobs, ())}
            jobs = [job for job in wanted.jobs if job not in held]
            limits = [wanted.limits.get(job) for job in jobs]
            asked = (IDLE_TIMEOUT, jobs, limits, now_us, clock_us, wanted.limit)
            found = rows_of(connection, self._queries.claim, asked)[0][0]
            if not found:
                return _NOTHING
            attempt = begun([_due(*row) for row in found])
            if attempt.units:
                self._appender.run(attempt, connection, within=True)
        return attempt.expected

    def _recovered(self, attempt: Attempt, lost: psycopg.Error) -> Appended:
        """The commit's answer was lost: hold what was claimed, or be certain to hold nothing."""
        if self._appender.was_recorded(attempt, lost):
            return attempt.expected
        taken = [(unit.stream, unit.take) for unit in attempt.units if unit.take is not None]
        label = self._place.label
        with (
            suppress(StoreUnavailableError),
            translated(label),
            self._datastore.lend() as connection,
        ):
            for owner in {lease.owner for _, lease in taken}:
                mine = [(stream, lease.token) for stream, lease in taken if lease.owner == owner]
                release(connection, self._queries, owner, mine)
        raise lost


def release(
    connection: Connection, queries: Queries, owner: str, held: Sequence[tuple[str, int]]
) -> None:
    """Give up leases (streams and tokens) of `owner`."""
    streams, tokens = [stream for stream, _ in held], [token for _, token in held]
    connection.execute(queries.release, (streams, tokens, owner))


def _due(
    stream: str,
    due_us: int,
    version: int,
    owner: str | None,
    until_us: int,
    token: int,
    run: bool,
) -> Due:
    expired = None if owner is None else Lease(owner, until_us, token, run)
    return Due(stream, due_us, version, expired)
