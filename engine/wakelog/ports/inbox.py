"""The inbox: events that callers have sent in transactions of their own (E1).

A row is inserted by the caller's transaction, through the caller's connection, and is there once
that has committed. Rows commit in any order, so they are found because they are there, and never by
a position. The append of the unit that a row has become deletes it, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

__all__ = ["INBOX", "InboxEntry", "InboxHold", "InboxRow", "InboxTable"]

INBOX = "inbox"
"""Stands for the inbox where workers are notified of pools."""


class InboxEntry(Struct, frozen=True):
    """What a caller sends, ready to be inserted."""

    id: str
    job: str
    stream: str
    """Of the instance; for a pool its job."""
    body: str
    """What is sent, as JSON."""
    at_us: int


class InboxRow(NamedTuple):
    """A row of the inbox."""

    n: int
    """Its number: never given again, in the order of insertion within a transaction."""
    id: str
    job: str
    stream: str
    body: str
    at_us: int
    retry_us: int
    """It is held back until then."""
    error: str | None
    """Why it is held back, or was refused."""
    refused: bool
    """For good: an operator must try it again, or drop it."""


class InboxHold(NamedTuple):
    """Why a row cannot become an event, and when to try again."""

    n: int
    retry_us: int
    error: str
    refused: bool


class InboxTable(Protocol):
    """The inbox of a store. All calls block, but for what `inbox_put` returns."""

    def inbox_put(
        self, connection: object, entries: Sequence[InboxEntry]
    ) -> Coroutine[Any, Any, None] | None:
        """Insert rows in the open transaction of a caller's connection, in this order; with an
        async connection the coroutine does it.

        Raises `InboxConnectionError` if the connection cannot do it: then its transaction is as it
        was, and nothing was inserted; `StoreUnavailableError` if the database did not take it.
        """
        ...

    def inbox_rows(self, jobs: Sequence[str], now_us: int, limit: int) -> Sequence[InboxRow]:
        """Up to `limit` rows for these jobs, the oldest first: none that is held back or refused,
        and none behind one of its stream that is held back."""
        ...

    def inbox_list(self, after: int, limit: int) -> Sequence[InboxRow]:
        """Up to `limit` rows with higher numbers, in order."""
        ...

    def inbox_hold(self, hold: InboxHold) -> None:
        """Hold a row back, if it is there."""
        ...

    def inbox_retry(self, n: int) -> bool:
        """Let a row be tried at once, also if it was refused; whether it is there."""
        ...

    def inbox_drop(self, n: int) -> bool:
        """Delete a row; whether it was there. False also if the connection broke and the first
        try had deleted it."""
        ...
