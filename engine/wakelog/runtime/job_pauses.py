"""Holds: jobs that an operator has paused as a whole, as this process knows them (A5).

The store keeps them, and nothing of a held job is claimed, by whatever process. What a process
itself decides, whether its sends are deferred, goes by a copy that is at most a second old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from wakelog.clock import Clock
from wakelog.ports.rows import JobPauseRow, StatusCount, StatusRow
from wakelog.ports.store import Store
from wakelog.runtime.batch_reads import BatchReader
from wakelog.runtime.store_threads import StoreExecutor

__all__ = ["FRESH_US", "UNAFFECTED", "JobPauses", "shown_count"]

FRESH_US = 1_000_000
"""How old the copy may be."""
UNAFFECTED = ("not_found", "failed", "paused")
"""Statuses that are shown though the whole job is held: they come before it, or say the same."""


class JobPauses:
    """Used from the loop's thread only."""

    def __init__(self, store: Store, lane: StoreExecutor, clock: Clock) -> None:
        self._clock = clock
        self._copy: Mapping[str, JobPauseRow] = {}
        self._read_us: int | None = None

        def query(keys: Sequence[None]) -> Sequence[Mapping[str, JobPauseRow]]:
            found = {row.job: row for row in store.job_pauses()}
            return [found] * len(keys)

        self._reader: BatchReader[None, Mapping[str, JobPauseRow]] = BatchReader(lane, query)

    async def now(self) -> Mapping[str, JobPauseRow]:
        """The holds by job (`task:order`), as recorded now by whatever process."""
        asked_us = self._clock.now_us()
        self._copy = await self._reader.read(None)
        self._read_us = asked_us
        return self._copy

    async def lately(self) -> Mapping[str, JobPauseRow]:
        """The holds by job, as recorded a second ago or later."""
        if self._read_us is None or not 0 <= self._clock.now_us() - self._read_us < FRESH_US:
            return await self.now()
        return self._copy

    def forget(self) -> None:
        """This process has changed them: look again before the next answer."""
        self._read_us = None

    async def shown(
        self, rows: Sequence[StatusRow | None], *, stale_ok: bool = False
    ) -> list[StatusRow | None]:
        """The status rows as they are shown: those of a held job are paused."""
        holds = await (self.lately() if stale_ok else self.now())
        return [_shown(row, holds) for row in rows] if holds else [*rows]


def shown_count(group: StatusCount, holds: Mapping[str, JobPauseRow]) -> StatusCount:
    """A group of instances as it is shown: those of a held job are paused."""
    is_blocked = f"{group.kind}:{group.name}" in holds and group.status not in UNAFFECTED
    return group._replace(status="paused") if is_blocked else group


def _shown(row: StatusRow | None, holds: Mapping[str, JobPauseRow]) -> StatusRow | None:
    hold = None if row is None else holds.get(f"{row.kind}:{row.name}")
    if row is None or hold is None or row.status in UNAFFECTED:
        return row
    return replace(row, status="paused", reason=hold.reason)
