"""What is written into the inbox by its store's own connections: one statement each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from wakelog.ports.inbox import InboxHold

__all__ = ["InboxWrites"]


class InboxWrites(ABC):
    """For a store that can run a statement. One row at a time: no two can wait for each other."""

    queries: Any
    """The store's statements: text, or bytes if the driver takes those."""

    @abstractmethod
    def _run(self, sql: Any, *params: object) -> int:
        """Run one writing statement; return how many rows it changed."""

    def inbox_hold(self, hold: InboxHold) -> None:
        self._run(self.queries.inbox_hold, hold.retry_us, hold.error, hold.refused, hold.n)

    def inbox_retry(self, n: int) -> bool:
        return self._run(self.queries.inbox_retry, n) > 0

    def inbox_drop(self, n: int) -> bool:
        return self._run(self.queries.inbox_drop, n) > 0
