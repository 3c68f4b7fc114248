"""What must hold of any store at any time, whatever was done to it, whichever process was killed.

`audit(store, stream)` reads one stream as stored and raises `AssertionError` if versions, times,
hashes, commits, runs or views do not fit together. It returns the events, for further checks.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from typing import Any

from tests.auditing_messages import check_messages
from wakelog.core.events import (
    Cleared,
    Executed,
    ExecutionFailed,
    ExecutionLost,
    Returned,
    RunStarted,
)
from wakelog.core.instance import Instance, next_wake
from wakelog.log.rebuild import Head, refold
from wakelog.log.records import Recorded, decode
from wakelog.log.status_row import status_row
from wakelog.ports.records import Loaded, StoredEvent
from wakelog.ports.rows import Listing
from wakelog.ports.store import Store
from wakelog_adapters.postgres import PostgresStore
from wakelog_adapters.postgres.connections import rows_of
from wakelog_adapters.sqlite import SQLiteStore
from wakelog_projections.inline.alarms import AlarmRow, alarm_row

__all__ = ["audit", "audit_all", "fold_from_the_log", "runs_of"]

Rows = Callable[[str], list[tuple[Any, ...]]]
"""The rows of a query, in whose text `{at}` precedes the name of a table."""


def audit(store: Store, stream: str) -> list[Recorded]:
    """Check all that is recorded of one stream, to which nothing may be appended meanwhile."""
    events = store.events(stream)
    history = [decode(stored) for stored in events]
    _check_chain(history)
    _check_payloads(events)
    _check_commits(history)
    _check_runs(history)
    head = fold_from_the_log(store, stream)
    assert refold(stream, store.load(stream)) == head, "snapshot and tail differ from the whole log"
    _check_views(store, head)
    return history


def audit_all(store: Store) -> dict[str, list[Recorded]]:
    """Audit every living stream; in a database also the rows of all streams, table by table."""
    audited: dict[str, list[Recorded]] = {}
    after: str | None = None
    while page := store.list(Listing(limit=1000, after=after)):
        after = page[-1].stream
        audited.update({row.stream: audit(store, row.stream) for row in page})
    if (rows := _reader(store)) is not None:
        _check_tables(store, rows)
    return audited


def fold_from_the_log(store: Store, stream: str) -> Head:
    """The instance as all of its events make it, without snapshots."""
    return refold(stream, Loaded(None, store.events(stream)))


def runs_of(history: Sequence[Recorded]) -> dict[tuple[int, int, int], list[Recorded]]:
    """For each attempt (its life, its run, and which try of that run it was) its recorded ends.

    Attempts are numbered from 1, and from 1 again if the run was requested anew.
    """
    ends: dict[tuple[int, int, int], list[Recorded]] = {}
    open_run: tuple[int, int, int] | None = None
    life = 0
    tries: Counter[tuple[int, int]] = Counter()
    last = (0, 0, 0)
    for recorded in history:
        event = recorded.event
        if isinstance(event, RunStarted):
            assert open_run is None, f"run {open_run} was open when {event} came"
            started = life, event.run, event.attempt
            assert event.attempt in (1, last[2] + 1), f"{started} came after {last}"
            assert event.attempt == 1 or last[:2] == started[:2], f"{started} came after {last}"
            last = started
            tries[started[:2]] += 1
            open_run = life, event.run, tries[started[:2]]
            ends[open_run] = []
        elif _ends_run(event):
            assert open_run is not None, f"{event} ends a run, but none is open"
            named = life, getattr(event, "run", None), getattr(event, "attempt", None)
            assert last == named, f"{event} does not end {open_run}"
            ends[open_run].append(recorded)
            open_run = None
            if isinstance(event, Returned):  # the same attempt comes again
                last = (*last[:2], last[2] - 1)
        if isinstance(event, Cleared):
            life += 1
            if open_run is not None:
                ends[open_run].append(recorded)
            open_run = None
    return ends


def _ends_run(event: object) -> bool:
    if isinstance(event, ExecutionFailed):
        return event.handler == "execute"
    if isinstance(event, Returned):
        return event.run is not None
    return isinstance(event, Executed | ExecutionLost)


def _check_chain(history: Sequence[Recorded]) -> None:
    assert [r.version for r in history] == [*range(1, len(history) + 1)], "versions have a gap"
    before = ""
    for recorded in history:
        assert recorded.prev == before, f"the chain is broken at {recorded.version}"
        before = recorded.hash
    times = [r.at_us for r in history]
    assert times == sorted(times), "the recorded time goes back"


def _check_payloads(events: Sequence[StoredEvent]) -> None:
    """Nothing was destroyed, and no two items have the same salt."""
    assert not any(decode(stored).erased for stored in events), "a payload is missing"
    salts = [line for stored in events for line in stored.state.split(b"\n")[1::2]]
    assert len(salts) == len(set(salts)), "two payloads have the same salt"


def _check_commits(history: Sequence[Recorded]) -> None:
    units = [commit for commit, _ in groupby(history, key=lambda r: r.commit)]
    assert len(units) == len(set(units)), "two units of work have the same commit id"


def _check_runs(history: Sequence[Recorded]) -> None:
    for recorded in history:
        if isinstance(recorded.event, RunStarted):
            early_us = recorded.event.due_us - recorded.at_us
            assert early_us <= 0, f"run {recorded.event.run} began {early_us} us early"
    attempts = list(runs_of(history).items())
    for attempt, ends in attempts[:-1]:
        assert len(ends) == 1, f"attempt {attempt} has {len(ends)} ends: {ends}"


def _check_views(store: Store, head: Head) -> None:
    """The status row is that of the refold."""
    instance, wake = head.instance, next_wake(head.instance)
    [row] = store.status([str(instance.id)])
    if instance.version == 0:
        assert row is None, "there is a status row, but no event"
        return
    assert row == status_row(instance, head.hash, wake), "the status row differs from the refold's"


def _reader(store: Store) -> Rows | None:
    """Queries of the tables themselves; None if there are none."""
    if isinstance(store, PostgresStore):
        return partial(_postgres_rows, store)
    if isinstance(store, SQLiteStore):
        return partial(_sqlite_rows, store)
    return None


def _postgres_rows(store: PostgresStore, sql: str) -> list[tuple[Any, ...]]:
    with store.datastore.lend() as connection:
        return rows_of(connection, sql.format(at=f"{store.location.schema}.").encode())


def _sqlite_rows(store: SQLiteStore, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(store.location.path)) as connection:
        return connection.execute(sql.format(at=store.location.prefix)).fetchall()


def _alarm(instance: Instance) -> AlarmRow | None:
    return alarm_row(str(instance.id), instance.id.job, next_wake(instance))


def _check_tables(store: Store, rows: Rows) -> None:
    """Alarms, leases and snapshots of all streams, also cleared ones, are those of the events."""
    every = [s for (s,) in rows("SELECT DISTINCT originator_id FROM {at}stored_events")]
    check_messages(store, {each: [*map(decode, store.events(each))] for each in every})
    streams = [each for each in every if not each.startswith("workerPool:")]
    heads = {stream: fold_from_the_log(store, stream).instance for stream in streams}
    expected = {alarm for head in heads.values() if (alarm := _alarm(head)) is not None}
    found = {AlarmRow(*row) for row in rows("SELECT stream, job, due_us, action FROM {at}alarms")}
    assert found == expected, "the alarms are not those of the log"
    assert {s for (s,) in rows("SELECT stream FROM {at}status")} == set(streams)
    leases = set(rows("SELECT stream, token FROM {at}leases WHERE run AND token > 0"))
    open_runs = {(stream, head.run.token) for stream, head in heads.items() if head.run}
    assert leases == open_runs, "the leases of runs are not those of the open runs"
    for stream, version in rows("SELECT stream, version FROM {at}snapshots"):
        whole = refold(stream, Loaded(None, store.events(stream, upto=version)))
        assert refold(stream, Loaded(store.snapshot_before(stream, version), ())) == whole
