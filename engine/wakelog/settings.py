"""What may be set when an app is opened."""

from __future__ import annotations

from dataclasses import dataclass

from wakelog.bounds import at_least
from wakelog.core.time import MAX_US
from wakelog.errors import Issue, ValidationError

__all__ = ["Settings", "WorkerSettings"]

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
    grace_us: int = 30_000_000
    """How long a shutdown lets runs and requests end by themselves."""
    max_lost: int = 5
    """How many workers in a row a run may cost before it is given up."""

    def __post_init__(self) -> None:
        """Raises `ValidationError`."""
        for what in ("cache", "snapshot_every", "threads", "max_lost"):
            at_least(1, what, getattr(self, what))
        _at_least_us(1, "idempotency_window", self.idempotency_window_us)
        _at_least_us(MIN_LEASE_US, "lease", self.lease_us)
        _at_least_us(0, "grace", self.grace_us)


def _at_least_us(least_us: int, what: str, value_us: int) -> None:
    at_least(0, f"{what}_us", value_us, most=MAX_US)
    if value_us < least_us:
        message = f"it must be at least {least_us / 1_000_000:g} s"
        issue = Issue(loc="", msg=message, type="bound")
        raise ValidationError(f"{what} {value_us / 1_000_000:g} s", [issue])


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What may be set for a worker. Durations in microseconds."""

    concurrency: int = 100
    """How many instances it works on at a time."""
    only: tuple[str, ...] = ()
    """Names of the jobs it works on; empty: all that are registered."""
    sweep_us: int = 30_000_000
    """How often it looks for work that a bug or an operator has stranded."""

    def __post_init__(self) -> None:
        """Raises `ValidationError`."""
        at_least(1, "concurrency", self.concurrency)
        _at_least_us(1, "sweep", self.sweep_us)
