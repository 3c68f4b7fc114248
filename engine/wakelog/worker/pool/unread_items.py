"""The events of a pool that wait for code, of which this worker has the code (K4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from wakelog.application import Application
from wakelog.definitions.worker_pool import WorkerPool
from wakelog.log.batches import read_item
from wakelog.pools.items import Slices
from wakelog.pools.state import READY, loaded
from wakelog.ports.pools import ExceptionKey, ExceptionRow, PoolFilter, PoolLook

__all__ = ["UnreadItems"]

PAGE = 500
"""Events that are looked at in one read."""
MAX_TRIED = 10_000
"""Events of which is remembered that this code cannot read them; others are tried again each
time."""
MAX_READABLE = 10_000
"""Events of which is remembered that it can."""
MAX_ASKED = 100
"""Of how many of them one call sees to it that they can be taken."""


class UnreadItems:
    """Those of one pool. The code of a process does not change, so each event is tried once."""

    def __init__(self, app: Application, definition: WorkerPool[object]) -> None:
        self._app = app
        self._definition = definition
        self._tried: set[ExceptionKey] = set()
        self._readable: Mapping[ExceptionKey, int] = {}
        """Each with its key slot. Never changed, but replaced: two threads read it."""

    async def find(self) -> int:
        """Look for events that this code can read; answers how many it has found."""
        app, job = self._app, self._definition.job
        state = loaded((await app.pools.look(PoolLook(job, app.clock.now_us()))).state)
        if not state.counts.get("unread"):
            return 0
        found: dict[ExceptionKey, int] = {}
        after = ExceptionKey(0, 0)
        while len(self._readable) + len(found) < MAX_READABLE:
            filter = PoolFilter(why=("unread",), after=after, limit=PAGE)
            rows = await app.threads.browse(app.store.pool_exceptions, job, filter)
            news = [row for row in rows if not {row[:2]} & (self._tried | self._readable.keys())]
            found |= await self._read(news)
            if len(rows) < PAGE:
                break
            after = ExceptionKey(rows[-1].lane, rows[-1].off)
        self._readable = {**self._readable, **found}
        return len(found)

    def hold_back_all(self) -> bool:
        """Whether all that the pool could take waits behind them, in the order of its key, and none
        can be read: then nothing happens before an operator acts, or other code comes. Blocks."""
        app, job = self._app, self._definition.job
        state = loaded(app.store.pool_look(PoolLook(job, app.clock.now_us())).state)
        if self._readable or not state.counts.get("unread"):
            return False
        if any(each.waiting > 0 for each in state.lanes):
            return False
        first: dict[str | None, int] = {}
        waiting: list[ExceptionRow] = []
        for row in self._waiting():
            if row.why == "unread":
                first[row.key] = min(row.seq, first.get(row.key, row.seq))
            else:
                waiting.append(row)
        return all(r.why == "behind" and first.get(r.key, r.seq) < r.seq for r in waiting)

    def _waiting(self) -> Iterator[ExceptionRow]:
        """What waits out of turn."""
        after, why = ExceptionKey(0, 0), (*READY, "delayed", "retrying")
        while True:
            filter = PoolFilter(why=why, after=after, limit=PAGE)
            rows = self._app.store.pool_exceptions(self._definition.job, filter)
            yield from rows
            if len(rows) < PAGE:
                return
            after = ExceptionKey(rows[-1].lane, rows[-1].off)

    async def _read(self, rows: Collection[ExceptionRow]) -> dict[ExceptionKey, int]:
        """Those of these that can be read."""
        job, app, found = self._definition.job, self._app, dict[ExceptionKey, int]()
        ranges = [(row.lane, row.off - 1, row.off) for row in rows]
        slices = Slices(job, await app.threads.browse(app.store.pool_slices, job, ranges))
        for row in rows:
            key = ExceptionKey(row.lane, row.off)
            for _, _, line in slices.found(*key):
                item = read_item(line)
                payloads = [] if item is None else [bytes(item.payload).decode()]
                if self._definition.check_readable(None, payloads) is None:
                    found[key] = row.slot
                elif len(self._tried) < MAX_TRIED:
                    self._tried.add(key)
        return found

    @property
    def slots(self) -> frozenset[int]:
        """The key slots of those that can be read."""
        return frozenset(self._readable.values())

    def of_slots(self, is_served: Callable[[int], bool]) -> list[ExceptionKey]:
        """Those that can be read and are of these key slots, `MAX_ASKED` at most."""
        return [key for key, slot in self._readable.items() if is_served(slot)][:MAX_ASKED]

    def keep(self, asked: Collection[ExceptionKey], left: Collection[ExceptionRow]) -> None:
        """Forget those that were asked for, but those that are left and wait for code still."""
        waiting = {ExceptionKey(row.lane, row.off) for row in left if row.why == "unread"}
        gone = {*asked} - waiting
        if gone:
            self._readable = {k: slot for k, slot in self._readable.items() if k not in gone}
