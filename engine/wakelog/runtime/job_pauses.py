"""Jobs that an operator has paused as a whole, as this process knows them (A5).

The store keeps the pauses, and no process claims anything of a paused job. What a process decides
by itself, whether its sends are deferred, goes by a copy that is at most a second old.
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
"""Statuses that take precedence over a job pause, or say the same."""


class JobPauses:
    """Used from the event loop's thread only."""

    def __init__(self, store: Store, reads: StoreExecutor, clock: Clock) -> None:
        self._clock = clock
        self._copy: Mapping[str, JobPauseRow] = {}
        self._read_us: int | None = None

        def query(keys: Sequence[None]) -> Sequence[Mapping[str, JobPauseRow]]:
            pauses = {row.job: row for row in store.job_pauses()}
            return [pauses] * len(keys)

        self._reader: BatchReader[None, Mapping[str, JobPauseRow]] = BatchReader(reads, query)

    async def now(self) -> Mapping[str, JobPauseRow]:
        """The pauses by job (`task:order`), as recorded now by any process."""
        asked_us = self._clock.now_us()
        self._copy = await self._reader.read(None)
        self._read_us = asked_us
        return self._copy

    def fresh(self) -> Mapping[str, JobPauseRow] | None:
        """The pauses by job, as recorded at most a second ago; None if they must be read."""
        if self._read_us is None or not 0 <= self._clock.now_us() - self._read_us < FRESH_US:
            return None
        return self._copy

    async def lately(self) -> Mapping[str, JobPauseRow]:
        """As `fresh`, read if need be."""
        pauses = self.fresh()
        return await self.now() if pauses is None else pauses

    def forget(self) -> None:
        """This process has changed them: read again before the next answer."""
        self._read_us = None

    async def shown(
        self, rows: Sequence[StatusRow | None], *, stale_ok: bool = False
    ) -> list[StatusRow | None]:
        """The status rows as they are shown: those of a paused job are paused."""
        pauses = await (self.lately() if stale_ok else self.now())
        return [_shown(row, pauses) for row in rows] if pauses else [*rows]


def shown_count(group: StatusCount, pauses: Mapping[str, JobPauseRow]) -> StatusCount:
    """A group of instances as it is shown: those of a paused job are paused."""
    is_paused = f"{group.kind}:{group.name}" in pauses and group.status not in UNAFFECTED
    return group._replace(status="paused") if is_paused else group


def _shown(row: StatusRow | None, pauses: Mapping[str, JobPauseRow]) -> StatusRow | None:
    pause = None if row is None else pauses.get(f"{row.kind}:{row.name}")
    if row is None or pause is None or row.status in UNAFFECTED:
        return row
    return replace(row, status="paused", reason=pause.reason)
