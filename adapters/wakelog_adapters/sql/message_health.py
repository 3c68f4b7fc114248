"""The check of the messages between jobs that are to be delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wakelog_adapters.sql.findings import Finding, counted, duration, ok, warning

__all__ = ["check_messages"]

LATE_US = 60_000_000
"""How long a message may wait before it is reported."""


def check_messages(rows: Callable[[str], Sequence[Sequence[Any]]], now_us: int) -> Finding:
    """`rows` returns those of a query. Changes nothing, and locks nothing."""
    [(number, oldest_us)] = rows("SELECT count(*), min(sent_us) FROM {t}outbox")
    if not number:
        return ok("messages", "all messages between jobs are delivered")
    late_us = now_us - oldest_us
    text = f"{counted(number, 'message')} to be delivered, the oldest for {duration(late_us)}"
    held = rows(
        "SELECT sender, target, held FROM {t}outbox WHERE held IS NOT NULL ORDER BY sent_us LIMIT 1"
    )
    if held:
        sender, target, why = held[0]
        advice = "see why: it goes on by itself once its target takes it"
        return warning("messages", f"{text}; one of {sender} to {target}: {why}", advice)
    if late_us > LATE_US:
        advice = "start a worker that knows their targets: wakelog worker MODULE:jobs"
        return warning("messages", f"{text}: no running worker delivers them", advice)
    return ok("messages", text)
