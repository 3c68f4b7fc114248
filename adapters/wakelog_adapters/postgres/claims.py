"""One claim: lock what is due, call `begin`, append what it returns; all in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import psycopg

from wakelog.errors import StoreUnavailableError
from wakelog.ports.rows import Due
from wakelog.ports.units import Appended, Lease, Takeover, Unit
from wakelog_adapters.postgres.append import Appender
from wakelog_adapters.postgres.append_run import Attempt
from wakelog_adapters.postgres.connections import IDLE_TIMEOUT, Connection, Datastore, rows_of
from wakelog_adapters.postgres.errors import translated
from wakelog_adapters.postgres.queries import Queries
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["Begin", "ClaimRequest", "Claimer", "release"]

Begin = Callable[[Sequence[Due]], Sequence[Unit]]

_NOTHING = Appended((), None)


class ClaimRequest(NamedTuple):
    """What to claim; see `ClaimQueue.claim`."""

    now_us: int
    jobs: Sequence[str]
    limit: int
    limits: Mapping[str, int]
    takeover: Takeover


class Claimer:
    """Claims what is due. Any number of processes may claim at the same time."""

    def __init__(
        self, datastore: Datastore, queries: Queries, location: StoreLocation, appender: Appender
    ) -> None:
        self._datastore = datastore
        self._queries = queries
        self._location = location
        self._appender = appender

    def claim(self, request: ClaimRequest, begin: Begin) -> Appended:
        """See `ClaimQueue.claim`. Killed here: nothing was claimed."""
        attempts: list[Attempt] = []

        def begun(dues: Sequence[Due]) -> Attempt:
            attempts.append(self._appender.attempt(begin(dues), request.now_us))
            return attempts[0]

        for again in (False, True):
            with translated(self._location.label):
                with self._datastore.lend(alive=again) as connection:
                    try:
                        return self._claim_on(connection, request, begun)
                    except psycopg.Error as error:
                        if not connection.closed or (again and not attempts):
                            raise
                        lost = error
                if attempts:
                    return self._settled(attempts[0], lost)
                self._datastore.drop_broken()
                self._datastore.count("store_retries")
        raise AssertionError("the second time it returns or raises")

    def _claim_on(
        self,
        connection: Connection,
        request: ClaimRequest,
        begun: Callable[[Sequence[Due]], Attempt],
    ) -> Appended:
        now_us = request.now_us
        clock_us = None if self._datastore.server_clock else now_us
        with connection.transaction():
            paused = {job for (job,) in rows_of(connection, self._queries.paused_jobs, ())}
            jobs = [job for job in request.jobs if job not in paused]
            limits = [request.limits.get(job) for job in jobs]
            params = (
                IDLE_TIMEOUT,
                jobs,
                limits,
                now_us,
                clock_us,
                request.limit,
                *request.takeover,
            )
            found = rows_of(connection, self._queries.claim, params)[0][0]
            if not found:
                return _NOTHING
            attempt = begun([_due(*row) for row in found])
            if attempt.units:
                self._appender.run(attempt, connection, within=True)
        return attempt.expected

    def _settled(self, attempt: Attempt, lost: psycopg.Error) -> Appended:
        """The answer to the commit was lost: keep what was claimed or, if that cannot be known,
        release it; then `lost` is raised."""
        if self._appender.was_recorded(attempt, lost):
            return attempt.expected
        taken = [(unit.stream, unit.take) for unit in attempt.units if unit.take is not None]
        with (
            suppress(StoreUnavailableError),
            translated(self._location.label),
            self._datastore.lend() as connection,
        ):
            for owner in {lease.owner for _, lease in taken}:
                mine = [(stream, lease.token) for stream, lease in taken if lease.owner == owner]
                release(connection, self._queries, owner, mine)
        raise lost


def release(
    connection: Connection, queries: Queries, owner: str, leases: Sequence[tuple[str, int]]
) -> None:
    """Drop leases (streams and tokens) of `owner`."""
    streams, tokens = [stream for stream, _ in leases], [token for _, token in leases]
    connection.execute(queries.release, (streams, tokens, owner))


def _due(
    stream: str,
    due_us: int,
    version: int,
    hash: str,
    owner: str | None,
    until_us: int,
    token: int,
    run: bool,
) -> Due:
    expired = None if owner is None else Lease(owner, until_us, token, run)
    return Due(stream, due_us, version, hash, expired)
