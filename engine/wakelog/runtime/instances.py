"""Instances as recorded: from memory if they are known to be fresh, else from the store."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Sequence

from wakelog.core.instance import Instance, next_wake
from wakelog.errors import HistoryError, IntegrityError, InvalidIdError
from wakelog.log.rebuild import Head, load_heads, read_kept_head
from wakelog.log.status_row import is_sound, status_row
from wakelog.ports.conflicts import NO_EVENT
from wakelog.ports.records import Newest
from wakelog.ports.rows import Due, StatusRow
from wakelog.ports.store import Store
from wakelog.ports.units import VersionConflict
from wakelog.runtime.batch_reads import BatchReader
from wakelog.runtime.instance_cache import CachedInstance, InstanceCache
from wakelog.runtime.store_threads import StoreThreads
from wakelog.runtime.stream_watch import StreamWatch

__all__ = ["Instances"]

_LOG = logging.getLogger("wakelog.runtime")


class Instances:
    """Loads, caches and compares. Used from the event loop's thread, if not said otherwise."""

    def __init__(
        self, store: Store, threads: StoreThreads, watch: StreamWatch, *, limit: int, inline: bool
    ) -> None:
        self._cache = InstanceCache(limit)
        self._store = store
        self._watch = watch
        load = functools.partial(load_heads, store)
        self._heads = BatchReader(threads.reads, load, at_once=inline)
        self._rows = BatchReader(threads.reads, store.status, at_once=inline)

    async def cached(self, stream: str) -> CachedInstance:
        """The cache entry of a stream, loaded if need be."""
        return self._cache.get(stream) or self._cache.put(stream, await self._heads.read(stream))

    def at_hand(self, stream: str) -> CachedInstance | None:
        """The cache entry of a stream, if nothing has to be waited for: it is in memory, no task
        has it or waits for it, and nothing of it is being appended."""
        cached = self._cache.get(stream)
        return None if cached is None or cached.in_use else cached

    async def load(self, stream: str, *, stale_ok: bool = False) -> Head:
        """The instance as it is recorded now, by any process; with `stale_ok` the cached one, if
        there is one."""
        known = self._cache.peek(stream)
        if stale_ok and known is not None:
            return known
        row = await self._rows.read(stream)
        known = self._cache.peek(stream)
        if row is not None and known is not None and _is_at(known, row):
            return known
        return await self._heads.read(stream)

    async def status(self, stream: str, *, stale_ok: bool = False) -> StatusRow | None:
        """The status row as recorded now; with `stale_ok` that of the cached instance, if there is
        one. None if there never was an instance. Raises what `sound` raises, also if the log has
        events of it and there is no row."""
        known = self._cache.peek(stream) if stale_ok else None
        if known is None:
            row = await self._rows.read(stream)
            if row is not None:
                return row if is_sound(row) else await self._from_log(stream)
            known = await self._heads.read(stream)  # it raises if only the row is gone
        return _row_of(known) if known.instance.version else None

    async def sound(self, rows: Sequence[StatusRow]) -> list[StatusRow]:
        """These rows; in place of a damaged one, one that is made from the log. Raises
        `HistoryError` if the log does not agree with it either."""
        return [row if is_sound(row) else await self._from_log(row.stream) for row in rows]

    async def _from_log(self, stream: str) -> StatusRow:
        _LOG.error("the status row of %s is damaged", stream, extra={"instance": stream})
        try:
            return _row_of(await self._heads.read(stream))
        except InvalidIdError as error:  # of a row that names no instance
            raise IntegrityError(stream, 0, f"its status row is damaged: {error}") from error

    async def check_fresh(self, cached: CachedInstance) -> None:
        """Ask the store whether the cached version is the newest: an append would notice, but
        what is answered without one is not checked by one (decision 10). Raises
        `VersionConflict`."""
        await self.settled(cached.stream)
        row = await self._rows.read(cached.stream)
        if cached.evicted or not _is_at(cached.head, NO_EVENT if row is None else row):
            self._cache.evict(cached.stream)
            raise VersionConflict(cached.stream)

    async def settled(self, stream: str) -> None:
        """Wait for the append of the newest unit of this instance that was decided on here."""
        cached = self._cache.get(stream)
        if cached is not None and cached.pending is not None:
            await asyncio.wait([cached.pending])

    def expect(self, due: Due) -> Head | None:
        """What a claim has seen: what is older in memory is of no use, and the head that came with
        the claim need not be read again. Returns the head that is in memory then."""
        stream = due.stream
        cached = self._cache.get(stream)
        if cached is not None:
            known, committed = cached.head.instance.version, cached.committed
            is_other = committed.instance.version == due.version and committed.hash != due.hash
            if known >= due.version and not is_other:
                return cached.head
            self._cache.evict(stream)
        if due.head is not None and due.newest is not None:
            with contextlib.suppress(HistoryError):  # it is met again when the log is read
                head = read_kept_head(stream, due.head, due.newest)
                if head is not None and head.hash == due.hash:
                    return self._cache.put(stream, head).head
        return None

    def appended(self, stream: str, after: Instance, hash: str, key: str | None) -> None:
        """A unit decided on here is on the disk; `key` is its idempotency key."""
        self._cache.appended(stream, after, hash)
        cached = self._cache.get(stream) if key else None
        if cached is not None and key is not None:
            cached.keys.pop(key, None)
        self._watch.notify(stream)

    def evict(self, stream: str) -> None:
        """Read the store again before the next turn of this stream."""
        self._cache.evict(stream)

    def peek(self, stream: str) -> Head | None:
        """The newest head known to be appended, if it is in memory. Any thread may ask."""
        return self._cache.peek(stream)


def _is_at(head: Head, newest: StatusRow | Newest) -> bool:
    """Whether a head is of this version, and its newest event the same."""
    return head.instance.version == newest.version and head.hash == newest.hash


def _row_of(head: Head) -> StatusRow:
    return status_row(head.instance, head.hash, next_wake(head.instance))
