"""Waiting until an event of a pool is over, whichever process works on it."""

from __future__ import annotations

from wakelog.application import Application
from wakelog.client.pool.reading import Located, pool_event
from wakelog.client.pool.results import PoolEvent
from wakelog.client.wait import warn_without_worker
from wakelog.errors import WaitTimeoutError
from wakelog.pools.state import job_stream

__all__ = ["wait_until_over"]


async def wait_until_over(
    app: Application, job: str, located: Located, timeout_us: int | None
) -> PoolEvent:
    """The event once it is over. Logs a warning if no worker could bring that about. Raises
    `WaitTimeoutError`."""

    async def look() -> PoolEvent | None:
        event = await pool_event(app, job, located)
        return event if event.is_over else None

    over = await look()
    if over is not None:
        return over
    await warn_without_worker(app, f"{job}:{located.event_id}", job)
    try:
        return await app.stream_watch.until(job_stream(job), look, timeout_us)
    except WaitTimeoutError as error:
        raise WaitTimeoutError(f"{job}:{located.event_id}", error.timeout_s) from None
