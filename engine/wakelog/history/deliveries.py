"""What has become of the messages in a history: from the sender's end (I2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wakelog.history.timeline import HistoryEntry
from wakelog.ports.store import Store

__all__ = ["with_deliveries"]

MOST = 10_000
"""Messages of one sender that are looked for. Beyond that a history does not say what became of
those that it has sent last."""


def with_deliveries(
    store: Store, stream: str, entries: Sequence[HistoryEntry]
) -> list[HistoryEntry]:
    """The entries of a stream; those that are messages to other jobs say whether they were
    delivered. Blocks."""
    waiting = {each.version: each.held for each in store.messages_of([stream], MOST)}
    refused = {
        each.data["event_version"]
        for each in entries
        if each.event == "DeadLettered" and each.data["reason"] == "refused"
    }

    def told(entry: HistoryEntry) -> HistoryEntry:
        if entry.event != "MessageSent" or "to" not in entry.data:
            return entry
        if entry.version in refused:
            return _with(entry, "dead", "refused")
        if entry.version not in waiting:
            return _with(entry, "delivered", "delivered")
        held = waiting[entry.version]
        return _with(entry, "waiting", "to be delivered" if held is None else f"held back: {held}")

    return [told(entry) for entry in entries]


def _with(entry: HistoryEntry, delivery: str, words: str) -> HistoryEntry:
    return replace(entry, delivery=delivery, description=f"{entry.description}: {words}")
