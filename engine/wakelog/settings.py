"""What may be set when an app is opened."""

from __future__ import annotations

from dataclasses import dataclass

from wakelog.bounds import at_least

__all__ = ["Settings"]

MIN_LEASE_US = 100_000
"""The shortest lease: three heartbeats, each with a write to the disk, must fit into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may be set when an app is opened. Durations in microseconds."""

    cache: int = 10_000
    """How many instances are kept in memory."""
    snapshot_every: int = 100
    """Events between two snapshots of an instance."""
    threads: int = 40
    """How many `def` handlers run at a time."""
    idempotency_window_us: int = 7 * 86_400_000_000
    lease_us: int = 30_000_000
    """How long a worker may be silent before its runs are taken over."""
    max_lost: int = 5
    """How many workers in a row a run may cost before it is given up."""

    def __post_init__(self) -> None:
        """Raises `ValidationError`."""
        for what in ("cache", "snapshot_every", "threads", "max_lost"):
            at_least(1, what, getattr(self, what))
        at_least(1, "idempotency_window in microseconds", self.idempotency_window_us)
        at_least(MIN_LEASE_US, "lease in microseconds", self.lease_us)
