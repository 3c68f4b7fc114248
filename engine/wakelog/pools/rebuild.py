"""Compares the tables of a pool with its log, and makes them anew from it, while workers run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wakelog.errors import StoreUnavailableError
from wakelog.pools.compare import differences
from wakelog.pools.fold import PoolFold
from wakelog.pools.takes import PoolRules
from wakelog.ports.pools import PoolRows, Positioned
from wakelog.ports.store import Store

__all__ = ["Rebuilt", "check_tables", "rebuild_tables"]

PAGE = 100
"""Events that are read at a time: each may have 256 KiB."""


class Rebuilt(NamedTuple):
    """What a rebuild has found."""

    events: int
    """How many of the log it has read."""
    differences: list[str]
    """Where the tables were not what the log says, in a line each."""


def check_tables(store: Store, job: str, rules: PoolRules) -> Rebuilt:
    """Only compare. Blocks; takes no lock. Raises `StoreUnavailableError`, and `IntegrityError` or
    `UnreadableEventError` if the log itself is damaged."""
    try:
        stored = store.pool_rows(job)
    except StoreUnavailableError as error:
        if error.reason != "damaged":
            raise
        stored = None
    fold = PoolFold(job, rules)
    events = _follow(store, fold, None if stored is None else stored.position)
    return Rebuilt(events, differences(stored, fold.rows(stored), fold.newest_us))


def rebuild_tables(store: Store, job: str, rules: PoolRules) -> Rebuilt:
    """Put what the log says in the place of the tables. Blocks; raises what `check_tables` raises.

    The log is read without a lock; what came meanwhile, and the swap, are one transaction, for
    which all writers wait: 1 s (SQLite) to 4 s (PostgreSQL) for 50,000 rows. Workers keep their
    leases and what they have taken. Killed here: all of it was done, or nothing.
    """
    fold = PoolFold(job, rules)
    found: list[str] = []
    events = _follow(store, fold, None)

    def refold(since: Sequence[Positioned], stored: PoolRows | None) -> PoolRows:
        for position, event in since:
            if position > fold.position:  # else this is called again
                fold.add(position, event)
        rows = fold.rows(stored)
        found[:] = differences(stored, rows, fold.newest_us)
        return rows

    store.pool_rebuild(job, fold.position, refold)
    return Rebuilt(events, found)


def _follow(store: Store, fold: PoolFold, upto: int | None) -> int:
    """Add what the log has, up to a position; how many events."""
    events = 0
    while page := store.pool_log(fold.job, fold.position, PAGE):
        for position, event in page:
            if upto is not None and position > upto:
                return events
            fold.add(position, event)
            events += 1
    return events
