"""The memory store has no transactions of callers, and so no inbox."""

from __future__ import annotations

from collections.abc import Sequence

from wakelog.errors import InboxConnectionError
from wakelog.ports.inbox import InboxEntry, InboxHold, InboxRow

__all__ = ["NoInbox"]


class NoInbox:
    """An inbox in which nothing ever is."""

    def inbox_put(self, connection: object, entries: Sequence[InboxEntry]) -> None:
        raise InboxConnectionError(
            "the memory store has no transactions",
            "open the jobs on SQLite or PostgreSQL, or leave connection= out",
        )

    def inbox_rows(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[InboxRow]:
        return ()

    def inbox_list(self, after: int, limit: int) -> Sequence[InboxRow]:
        return ()

    def inbox_hold(self, hold: InboxHold) -> None:
        """There is nothing to hold back."""

    def inbox_retry(self, n: int) -> bool:
        return False

    def inbox_drop(self, n: int) -> bool:
        return False
