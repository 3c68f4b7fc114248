"""The instances at hand: bounded, each with its queue of turns.

A slot's head may be ahead of the store: turns build on each other before they are appended. When
one is refused its slot dies, and everybody who used it starts over from the store.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict

from wakelog.core.instance import Instance
from wakelog.log.rebuild import Head

__all__ = ["CachedInstance", "InstanceCache"]


class CachedInstance:
    """One instance in memory. `turn` is held by whoever decides for it: one at a time.

    `async with slot` is to wait for the turn and to hold it. A lock that is handed from one to the
    next is free for a moment, so those who wait are counted: the slot stays until they are done.
    """

    __slots__ = ("_users", "committed", "dead", "head", "keys", "pending", "stream", "turn")

    def __init__(self, stream: str, head: Head, turn: asyncio.Lock) -> None:
        self.stream = stream
        self.head = head
        """The newest version decided on, appended or about to be."""
        self.committed = head
        """The newest version known to be appended."""
        self.turn = turn
        """Shared with the slots of this stream that have died: somebody may still be at it."""
        self.dead = False
        self.keys: dict[str, asyncio.Future[None]] = {}
        """Idempotency keys of units that are about to be appended."""
        self.pending: asyncio.Future[None] | None = None
        """The newest append of a unit of it, under way or ended."""
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self.turn.acquire()
        except BaseException:
            self._users -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        self.turn.release()

    @property
    def in_use(self) -> bool:
        """Whether somebody has its turn or waits for it, or a unit of it is to be appended."""
        return self._users > 0 or self.head is not self.committed


class InstanceCache:
    """Slots by stream, the least recently used given up first. Used from the loop's thread only,
    except for `peek`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots: OrderedDict[str, CachedInstance] = OrderedDict()
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, stream: str) -> CachedInstance | None:
        """The live slot of a stream, now the most recently used."""
        slot = self._slots.get(stream)
        if slot is not None:
            self._slots.move_to_end(stream)
        return slot

    def peek(self, stream: str) -> Head | None:
        """The newest head known to be appended. Any thread may ask."""
        slot = self._slots.get(stream)
        return None if slot is None else slot.committed

    def put(self, stream: str, head: Head) -> CachedInstance:
        """A slot for what was loaded; the one that is there already, if somebody was faster."""
        slot = self._slots.get(stream)
        if slot is None:
            while len(self._slots) >= self._limit and self._evict():
                pass
            turn = self._turns.get(stream) or asyncio.Lock()
            self._turns[stream] = turn
            slot = self._slots[stream] = CachedInstance(stream, head, turn)
        return slot

    def appended(self, stream: str, instance: Instance, hash: str) -> None:
        """Learn that a unit decided on here, up to `instance`, is on the disk."""
        slot = self._slots.get(stream)
        if slot is not None and slot.committed.instance.version < instance.version:
            is_newest = slot.head.hash == hash  # not the version: that may be another's
            slot.committed = slot.head if is_newest else Head(instance, hash)

    def adopt(self, stream: str, head: Head) -> CachedInstance:
        """Learn that somebody else appended up to `head`, unless more is known already."""
        slot = self._slots.get(stream)
        if slot is not None:
            if slot.committed.instance.version >= head.instance.version:
                return slot
            if not slot.in_use:
                slot.head = slot.committed = head
                self._slots.move_to_end(stream)
                return slot
        self.drop(stream)
        return self.put(stream, head)

    def drop(self, stream: str) -> None:
        """Forget a stream: what was decided on its head is void."""
        slot = self._slots.pop(stream, None)
        if slot is not None:
            slot.dead = True

    def _evict(self) -> bool:
        """Give one up; False where all are in use: then there are more than the limit for a while,
        for an instance that is about to take its turn must stay until it has."""
        for stream, slot in self._slots.items():
            if not slot.in_use:
                slot.dead = True
                del self._slots[stream]
                return True
        return False
