"""The histories of a pool: of one event, and of the streams of the pool and its partitions (H1)."""

from __future__ import annotations

from wakelog.application import Application
from wakelog.client.pool.reading import Located, locate
from wakelog.errors import InstanceNotFoundError
from wakelog.history.timeline import HistoryEntry, item_entries, stream_entries
from wakelog.ids import InstanceId
from wakelog.pools.state import Head, job_stream, loaded
from wakelog.ports.pools import PoolLook
from wakelog.ports.records import Newest
from wakelog.runtime.pool_history import item_history

__all__ = ["event_history", "pool_history"]


async def event_history(app: Application, job: str, located: Located) -> list[HistoryEntry]:
    """Everything about one event, in order. Raises `InstanceNotFoundError`."""
    recorded = await item_history(app.store, app.threads, job, located)
    if not recorded:
        raise InstanceNotFoundError(f"{job}:{located.event_id}")
    return item_entries(recorded, located.lane, located.off)


async def pool_history(app: Application, id: InstanceId) -> list[HistoryEntry]:
    """The stream of a partition by its number, that of the pool by `shared`, or else everything
    about the event with this id. Raises `InstanceNotFoundError`, and what reading the log
    raises."""
    stream = str(id)
    is_pool = stream == job_stream(id.job)
    if not is_pool and not id.id.isdecimal():
        return await event_history(app, id.job, await locate(app, id.job, id.id))
    seen = await app.pools.look(PoolLook(id.job, app.clock.now_us()))
    state = loaded(seen.state)
    head = Head()
    if is_pool:
        head = state.head
    elif int(id.id) < len(state.partitions):
        head = state.partitions[int(id.id)].head
    if not head.version:
        raise InstanceNotFoundError(stream)
    newest = Newest(head.version, head.hash)
    return await app.threads.browse(stream_entries, app.store, stream, newest)
