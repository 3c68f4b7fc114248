"""Holds: jobs that an operator has paused as a whole, as this process knows them (A5).

The store keeps them, and nothing of a held job is claimed, by whatever process. What a process
itself decides, whether its sends are deferred, goes by a copy that is at most a second old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from wakelog.clock import Clock
from wakelog.lanes import Lane
from wakelog.ports import Counted, HoldRow, StatusRow, Store
from wakelog.reads import GroupReader

__all__ = ["FRESH_US", "UNTOUCHED", "Holds", "shown_count"]

FRESH_US = 1_000_000
"""How old the copy may be."""
UNTOUCHED = ("not_found", "failed", "paused")
"""Statuses that are shown though the whole job is held: they come before it, or say the same."""


class Holds:
    """Used from the loop's thread only."""

    def __init__(self, store: Store, lane: Lane, clock: Clock) -> None:
        self._clock = clock
        self._copy: Mapping[str, HoldRow] = {}
        self._read_us: int | None = None

        def query(keys: Sequence[None]) -> Sequence[Mapping[str, HoldRow]]:
            found = {row.job: row for row in store.holds()}
            return [found] * len(keys)

        self._reader: GroupReader[None, Mapping[str, HoldRow]] = GroupReader(lane, query)

    async def now(self) -> Mapping[str, HoldRow]:
        """The holds by job (`task:order`), as recorded now by whatever process."""
        asked_us = self._clock.now_us()
        self._copy = await self._reader.read(None)
        self._read_us = asked_us
        return self._copy

    async def lately(self) -> Mapping[str, HoldRow]:
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


def shown_count(group: Counted, holds: Mapping[str, HoldRow]) -> Counted:
    """A group of instances as it is shown: those of a held job are paused."""
    is_held = f"{group.kind}:{group.name}" in holds and group.status not in UNTOUCHED
    return group._replace(status="paused") if is_held else group


def _shown(row: StatusRow | None, holds: Mapping[str, HoldRow]) -> StatusRow | None:
    hold = None if row is None else holds.get(f"{row.kind}:{row.name}")
    if row is None or hold is None or row.status in UNTOUCHED:
        return row
    return replace(row, status="paused", reason=hold.reason)
