"""W4 beside a peer: enqueue in batches, complete, and be idle until there is something to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from tests.bench.peers.compare import in_batches, picked_up, prepare, rate
from tests.bench.peers.process import child, fresh_database
from tests.support_postgres import bare_connection

__all__ = ["BATCH", "PoolFigures", "PoolSizes", "measured_as_pool"]

BATCH = 500
"""How many go with one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSizes:
    """How much of each."""

    events: int = 10_000
    pick_ups: int = 30
    calm_s: float = 0.2
    """At most between two pick-ups."""
    pinned: bool = False
    """Hold a snapshot open that is older than the events, until they are completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """What a round has found: events a second, and milliseconds."""

    batches: float | None
    completions: float
    pick_up_ms: float


async def measured_as_pool(name: str, server: str, sizes: PoolSizes) -> PoolFigures:
    """A round, on two new databases: what is enqueued is what is then completed.

    Raises `AssertionError` where events were lost or ran twice, and `RuntimeError` where they would
    not survive a crash of the server.
    """
    with fresh_database(server) as url:
        await prepare(name, url)
        with _old_snapshot(url) if sizes.pinned else nullcontext():
            batches = await _enqueued(name, url, sizes.events)
            async with child(name, url) as worker:
                completions = await rate(worker, sizes.events, "drain", sizes.events)
    pick_up_ms = await picked_up(name, server, sizes.pick_ups, sizes.calm_s)
    return PoolFigures(batches=batches, completions=completions, pick_up_ms=pick_up_ms)


async def _enqueued(name: str, url: str, events: int) -> float | None:
    """One call after the other; the first one, for connections and plans, is not counted."""
    batch = min(BATCH, events)
    async with child(name, url) as sender:
        first = min(batch, events - 1)
        if first and await sender.ask("send_batches", first, first) is None:
            await sender.ask("send", events - first, batch)
            await sender.ask("send", first, batch)
            return None
        return await in_batches(sender, events - first, batch)


@contextmanager
def _old_snapshot(url: str) -> Iterator[None]:
    with bare_connection(url) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_class")
        yield
