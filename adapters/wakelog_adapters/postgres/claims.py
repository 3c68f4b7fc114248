"""Claims: leases on what is due, taken by one statement in one round trip.

Leases that have ended are taken over by a second statement, and seldom: the server may have stalled
with it, and judge them by its clock before their owners can renew. So it is committed only if the
claimant may still take over when it has seen the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter

import msgspec
import psycopg
from msgspec import Struct

from wakelog.errors import StoreUnavailableError
from wakelog.ports.rows import Due
from wakelog.ports.units import ClaimRequest
from wakelog_adapters.postgres.connections import Connection, Datastore, rows_of
from wakelog_adapters.postgres.errors import is_silence, translated
from wakelog_adapters.postgres.queries import NO_LIMIT, Queries
from wakelog_adapters.postgres.session.settings import IDLE_TIMEOUT
from wakelog_adapters.postgres.url import StoreLocation

__all__ = ["Claimer", "release"]

_oldest_first = attrgetter("due_us", "stream")


class _Claimed(Struct, frozen=True):
    """What `claim_1` answers."""

    has_ended: bool
    """Whether there are leases that have ended, and that it could have taken over."""
    dues: list[Due]


_DECODER = msgspec.json.Decoder(_Claimed)


class Claimer:
    """Claims what is due. Any number of processes may claim at the same time."""

    def __init__(self, datastore: Datastore, queries: Queries, location: StoreLocation) -> None:
        self._datastore = datastore
        self._queries = queries
        self._location = location
        self._is_crowded = False
        """Whether ended leases had to wait, since the last claim was full without them."""

    def claim(self, request: ClaimRequest) -> Sequence[Due]:
        """See `ClaimQueue.claim`.

        If the connection breaks the leases are released, and all is tried once more. A statement
        that the server had not executed by then may still be: the leases of a claim that is not
        known end, or the next beat of the claimant finds them.
        """
        lost: psycopg.Error | None = None
        for again in (False, True):
            with translated(self._location.label):
                with self._datastore.lend(after=lost) as connection:
                    try:
                        return self._claim_on(connection, request)
                    except psycopg.Error as error:
                        failed, is_broken = error, connection.is_lost
                if is_broken:
                    self._datastore.drop_idle()
                    lost = failed
                self._release_all(request, lost)
                if again or not is_broken or is_silence(failed):
                    raise failed
            self._datastore.count("store_retries")
        raise AssertionError("the second time it returns or raises")

    def _claim_on(self, connection: Connection, request: ClaimRequest) -> Sequence[Due]:
        """What is free first, then ended leases, unless they have waited already."""
        dues: list[Due] = []
        if self._is_crowded:
            self._is_crowded = False
            dues = self._take_over(connection, request)
            request = request._replace(limit=request.limit - len(dues))
        if request.limit > 0 and not dues:
            claimed = self._call(connection, request, takes_over=False)
            dues = claimed.dues
            if claimed.has_ended and request.takeover.allowed:
                request = request._replace(limit=request.limit - len(dues))
                self._is_crowded = request.limit <= 0
                if not self._is_crowded:
                    dues = sorted(dues + self._take_over(connection, request), key=_oldest_first)
        return dues

    def _take_over(self, connection: Connection, request: ClaimRequest) -> list[Due]:
        """What is due, and ended leases with it; nothing if those must be left alone after all."""
        if not request.takeover.allowed:
            return []
        with connection.transaction() as transaction:
            connection.execute(self._queries.set_idle_timeout, (IDLE_TIMEOUT,))
            dues = self._call(connection, request, takes_over=True).dues
            if any(due.expired is not None for due in dues) and not request.may_take_over():
                raise psycopg.Rollback(transaction)
            return dues
        return []

    def _call(self, connection: Connection, request: ClaimRequest, *, takes_over: bool) -> _Claimed:
        now_us, limits = request.now_us, request.limits
        params = (
            [*request.jobs],
            [limits.get(job, NO_LIMIT) for job in request.jobs] if limits else None,
            now_us,
            None if self._datastore.server_clock else now_us,
            request.limit,
            request.owner,
            request.lease_us,
            request.token,
            takes_over,
            request.takeover.owner,
            request.takeover.server_up_us,
            [*request.left],
            request.left_us,
        )
        return _DECODER.decode(rows_of(connection, self._queries.claim, params)[0][0])

    def _release_all(self, request: ClaimRequest, lost: Exception | None) -> None:
        """Give up what the claim may have taken."""
        with (
            suppress(StoreUnavailableError),
            translated(self._location.label),
            self._datastore.lend(after=lost) as connection,
        ):
            connection.execute(self._queries.release_claim, (request.owner, request.token))


def release(
    connection: Connection, queries: Queries, owner: str, leases: Sequence[tuple[str, int]]
) -> None:
    """Drop leases (streams and tokens) of `owner`."""
    streams, tokens = [stream for stream, _ in leases], [token for _, token in leases]
    connection.execute(queries.release, (streams, tokens, owner))
