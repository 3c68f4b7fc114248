"""The writes of an SQL store that are one statement each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from wakelog.ports.messages import Message
from wakelog.ports.rows import WorkerRow

__all__ = ["SmallWrites"]

_FORGET_WORKERS_US = 86_400_000_000
"""How long the row of a worker that was killed is kept."""


class SmallWrites(ABC):
    """Kept replies, messages, positions and workers, for a store that can run a statement. A crash
    there leaves it done or not done."""

    queries: Any
    """The store's statements: text, or bytes if the driver takes those."""

    @abstractmethod
    def _run(self, sql: Any, *params: object) -> int:
        """Run one writing statement; return how many rows it changed."""

    def forget_key(self, stream: str, key: str) -> bool:
        """False also if the connection broke and the first try had deleted it."""
        return self._run(self.queries.forget_key, stream, key) > 0

    def purge_kept_replies(self, now_us: int, limit: int) -> int:
        return self._run(self.queries.purge_kept_replies, now_us, limit)

    def hold_message(self, message: Message, held: str, due_us: int) -> None:
        pair = message.sender, message.target
        self._run(self.queries.hold_message, held, due_us, *pair, message.version)

    def put_position(self, name: str, position: int) -> None:
        self._run(self.queries.put_position, name, position)

    def put_worker(self, row: WorkerRow) -> None:
        """Deletes those that have been dead for a day too: a killed worker removes no row."""
        worker, jobs, *others = row
        packed = msgspec.json.encode(jobs).decode()
        self._run(self.queries.put_worker, worker, packed, *others)
        self._run(self.queries.forget_workers, row.until_us - _FORGET_WORKERS_US)

    def remove_worker(self, worker: str) -> None:
        self._run(self.queries.remove_worker, worker)
