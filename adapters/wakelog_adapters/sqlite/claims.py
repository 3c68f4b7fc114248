"""Claims: a look without the lock, then one statement that takes what is still as it was seen.

So a claim is two statements, one of them on the connection that writes: see `connections` for what
each one costs. Only to take over ended leases is a transaction: the worker is asked in it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from wakelog.ports.records import StoredEvent
from wakelog.ports.rows import Due
from wakelog.ports.units import ClaimRequest, NothingDue, Takeover
from wakelog_adapters.sql.rows import lease, readable
from wakelog_adapters.sqlite.append import dumps
from wakelog_adapters.sqlite.parameters import executed
from wakelog_adapters.sqlite.queries import Queries
from wakelog_adapters.sqlite.reads import jobs_with

__all__ = ["Found", "look", "take_over", "take_params", "taken_of"]

_Row = Callable[..., Any]
"""Runs a query, and returns its one row."""


class Found:
    """What can be claimed, oldest first: each with the lease that has ended, if it has one."""

    def __init__(self, packed: str, heads: str) -> None:
        self.packed = packed
        """As `Queries.take` takes it."""
        paired = zip(json.loads(heads), json.loads(packed), strict=True)
        self.dues = [_due(head, *row) for head, row in paired]

    @property
    def has_ended_leases(self) -> bool:
        return any(due.expired is not None for due in self.dues)


def _due(
    kept: tuple[str, str, str] | None,
    stream: str,
    job: str,
    version: int,
    hash: str,
    run: int,
    room: int | None,
    due_us: int,
    token: int | None,
    *ended: object,
) -> Due:
    if token is None:
        expired = None
    else:
        owner, until_us, is_run = ended
        expired = lease(owner, until_us, token, is_run)
    if kept is None:
        return Due(stream, due_us, version, hash, expired, run=bool(run))
    head, topic, state = kept
    newest = StoredEvent(stream, version, topic, bytes.fromhex(state))
    return Due(stream, due_us, version, hash, expired, head, newest, bool(run))


@readable
def look(row_of: _Row, queries: Queries, request: ClaimRequest) -> Found | NothingDue:
    """What can be claimed or, if that is nothing, when something can."""
    packed, heads, next_due_us = row_of(
        queries.due,
        *(jobs_with(request.limits, request.jobs), request.now_us, request.limit),
        *(request.takeover.allowed, request.takeover.owner),
        *(dumps(list(request.left)) if request.left else None, request.left_us),
    )
    found = Found(packed, heads)
    return found if found.dues else NothingDue(next_due_us)


def take_over(
    connection: sqlite3.Connection, queries: Queries, request: ClaimRequest
) -> Sequence[Due]:
    """A claim of what has ended leases too, in the caller's write transaction."""

    def row_of(sql: str, *params: object) -> Any:
        return executed(connection, sql, *params).fetchone()

    found = look(row_of, queries, request)
    if isinstance(found, Found) and found.has_ended_leases and not request.may_take_over():
        found = look(row_of, queries, request._replace(takeover=Takeover(allowed=False)))
    if isinstance(found, NothingDue):
        return ()
    executed(connection, queries.take, *take_params(found, request))
    return found.dues


def take_params(found: Found, request: ClaimRequest) -> tuple[object, ...]:
    """The parameters of `Queries.take`."""
    now_us, owner = request.now_us, request.owner
    return found.packed, owner, now_us + request.lease_us, request.token, now_us


@readable
def taken_of(row_of: _Row, queries: Queries, found: Found, token: int) -> Sequence[Due]:
    """Those that a claim with this token has taken, if not all."""
    streams = set(json.loads(row_of(queries.taken, found.packed, token)[0]))
    return [due for due in found.dues if due.stream in streams]
