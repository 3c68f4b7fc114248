"""Instances in memory: bounded, each with a lock that lets one handler decide at a time (U2).

A cached head may be ahead of the store: units of work build on each other before they are
appended. If one is refused, the entry is evicted, and every unit that used it starts over from the
store.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict

from wakelog.core.instance import Instance
from wakelog.log.rebuild import Head

__all__ = ["CachedInstance", "InstanceCache"]


class CachedInstance:
    """One instance in memory. `async with cached` waits for its lock and holds it.

    A lock that is handed from one task to the next is free for a moment, so the users are counted:
    the entry stays in the cache until they are done.
    """

    __slots__ = ("_users", "committed", "evicted", "head", "keys", "lock", "pending", "stream")

    def __init__(self, stream: str, head: Head, lock: asyncio.Lock) -> None:
        self.stream = stream
        self.head = head
        """The newest version decided on, appended or about to be."""
        self.committed = head
        """The newest version known to be appended."""
        self.lock = lock
        """Shared with evicted entries of this stream: a handler may still run under one."""
        self.evicted = False
        self.keys: dict[str, asyncio.Future[None]] = {}
        """Idempotency keys of units that are about to be appended."""
        self.pending: asyncio.Future[None] | None = None
        """The newest append of a unit of this instance, running or ended."""
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self.lock.acquire()
        except BaseException:
            self._users -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        self.lock.release()

    @property
    def in_use(self) -> bool:
        """Whether a task holds the lock or waits for it, or a unit is about to be appended."""
        return self._users > 0 or self.head is not self.committed


class InstanceCache:
    """Cached instances by stream, the least recently used evicted first. Used from the event
    loop's thread only, except for `peek`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._cached: OrderedDict[str, CachedInstance] = OrderedDict()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._cached)

    def get(self, stream: str) -> CachedInstance | None:
        """The entry of a stream, from now on the most recently used."""
        cached = self._cached.get(stream)
        if cached is not None:
            self._cached.move_to_end(stream)
        return cached

    def peek(self, stream: str) -> Head | None:
        """The newest head known to be appended. Any thread may ask."""
        cached = self._cached.get(stream)
        return None if cached is None else cached.committed

    def put(self, stream: str, head: Head) -> CachedInstance:
        """An entry for what was loaded; the entry that is there, if another task was faster."""
        cached = self._cached.get(stream)
        if cached is None:
            while len(self._cached) >= self._limit and self._evict():
                pass
            lock = self._locks.get(stream) or asyncio.Lock()
            self._locks[stream] = lock
            cached = self._cached[stream] = CachedInstance(stream, head, lock)
        return cached

    def appended(self, stream: str, instance: Instance, hash: str) -> None:
        """Record that a unit decided on here, up to `instance`, is on the disk."""
        cached = self._cached.get(stream)
        if cached is not None and cached.committed.instance.version < instance.version:
            is_newest = cached.head.hash == hash  # not the version: another unit may have it too
            cached.committed = cached.head if is_newest else Head(instance, hash)

    def evict(self, stream: str) -> None:
        """Forget a stream: what was decided on its head is void."""
        cached = self._cached.pop(stream, None)
        if cached is not None:
            cached.evicted = True

    def _evict(self) -> bool:
        """Evict one; False if all are in use: then the cache is over its limit for a while, since
        an instance whose turn is about to come must stay until it has come."""
        for stream, cached in self._cached.items():
            if not cached.in_use:
                cached.evicted = True
                del self._cached[stream]
                return True
        return False
