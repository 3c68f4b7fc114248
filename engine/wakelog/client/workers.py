"""Which workers are running, and which work each of them has taken (A6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wakelog.client.job_types import POOLS
from wakelog.client.results import stored_moment
from wakelog.core.events import RunStarted
from wakelog.core.time import moment
from wakelog.log.records import decode
from wakelog.ports.rows import HeldLease, WorkerRow
from wakelog.ports.store import Store

__all__ = ["MAX_LEASES", "Work", "WorkerStatus", "list_workers"]

MAX_LEASES = 10_000
"""Leases that one look at the workers shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a worker has taken: a run, deferred events that it handles, or a partition of a pool."""

    instance_id: str
    run: int | None
    """The number of the run; None while events are handled."""
    attempt: int | None
    since: datetime | None
    """When the run began."""
    lease_ends_at: datetime
    """From then on another worker takes it over; renewed as long as the worker is alive."""
    is_partition: bool = False
    """A partition of a pool: held whether there is something to do in it or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker: one that is alive, or one that is silent and still has leases."""

    name: str
    alive: bool
    """Its last heartbeat is not older than its lease."""
    host: str | None = None
    """This and what follows is None if only its leases are known any longer."""
    pid: int | None = None
    jobs: tuple[str, ...] | None = None
    """The jobs it works on, as in `task:order`."""
    concurrency: int | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    """Its last heartbeat."""
    work: tuple[Work, ...] = ()


def list_workers(store: Store, now_us: int) -> list[WorkerStatus]:
    """The workers that are alive, and those that are not but still have leases.

    Blocks. A lease that ends between the two reads may be missing, or its worker may. Raises
    `StoreUnavailableError` ("damaged") and `HistoryError` for what something else has changed.
    """
    work: dict[str, list[Work]] = {}
    for held in store.leases(now_us, MAX_LEASES):
        work.setdefault(held.lease.owner, []).append(_work(held))
    rows = {row.worker: row for row in store.workers(0)}
    names = sorted({name for name, row in rows.items() if row.until_us > now_us} | set(work))
    return [_worker(name, rows.get(name), work.get(name, []), now_us) for name in names]


def _work(held: HeldLease) -> Work:
    began = decode(held.event) if held.lease.run and held.event is not None else None
    run = began.event if began is not None else None
    return Work(
        instance_id=held.stream,
        run=run.run if isinstance(run, RunStarted) else None,
        attempt=run.attempt if isinstance(run, RunStarted) else None,
        since=moment(began.at_us) if began is not None else None,
        lease_ends_at=stored_moment(held.lease.until_us, f"the lease on {held.stream}"),
        is_partition=any(held.stream.startswith(f"{kind}:") for kind in POOLS),
    )


def _worker(name: str, row: WorkerRow | None, work: list[Work], now_us: int) -> WorkerStatus:
    if row is None:
        return WorkerStatus(name=name, alive=False, work=tuple(work))
    what = f"the row of worker {name}"
    return WorkerStatus(
        name=name,
        alive=row.until_us > now_us,
        host=row.host,
        pid=row.pid,
        jobs=row.jobs,
        concurrency=row.concurrency,
        started_at=stored_moment(row.started_us, what),
        seen_at=stored_moment(row.seen_us, what),
        work=tuple(work),
    )
