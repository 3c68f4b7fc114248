"""Results of requests to a WorkerPool: frozen values, times aware and in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from wakelog.client.results import ErrorInfo

__all__ = [
    "CancelResult", "Cause", "EnqueueResult", "ItemStatus", "ItemsResult", "PartitionStatus",
    "PoolControl", "PoolDeadLetter", "PoolEvent", "PoolStatus", "RebuildResult", "Why",
]  # fmt: skip

ItemStatus = Literal[
    "pending", "delayed", "retrying", "processing", "completed", "dead", "cancelled", "discarded",
    "waiting_for_code",
]  # fmt: skip
"""Where an event of a pool is."""

Cause = Literal[
    "over", "running", "paused", "rate_limit", "delayed", "retrying", "behind_key", "no_worker",
    "waiting_for_code", "slots_taken", "next",
]  # fmt: skip
"""Why an event of a pool is where it is, in a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueResult:
    """The result of an `enqueue`."""

    event_id: str
    """The id that was given, or the event's place, as in `#3.17`: it names the event for ever."""
    partition: int | None
    """The partition that serves its key; None without a key: whichever is free takes it."""
    position: int
    """How many events of the pool were pending before it when it was accepted, the first time."""
    duplicate: bool = False
    """The id was used before: nothing was accepted, this names the event of then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """One partition of a pool."""

    partition: int
    status: Literal["processing", "idle", "paused", "not_found"]
    """`not_found`: no worker holds it."""
    current_event_id: str | None = None
    """The first event that it has taken and not settled, if it has any."""
    worker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """A pool in numbers: as of one moment, at a cost that does not grow with them."""

    name: str
    pending: int = 0
    delayed: int = 0
    retrying: int = 0
    processing: int = 0
    """Taken and not settled."""
    processed: int = 0
    """Ended well, over all time."""
    dead: int = 0
    cancelled: int = 0
    discarded: int = 0
    waiting_for_code: int = 0
    active_partitions: int = 0
    paused: bool = False
    draining: bool = False
    reason: str | None = None
    oldest_pending_age: timedelta | None = None
    """How long ago the oldest pending event was accepted; None if none is pending. There are two
    bounds: after 1,000 events in a row that were cancelled or moved the next one counts, whatever
    became of it; of those that were given back, moved or requeued the 20 due first of each priority
    and key slot are looked at."""
    partitions: tuple[PartitionStatus, ...] = ()
    damaged: str | None = None
    """In a list of pools: what of this one cannot be read. Its numbers then mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEvent:
    """One event of a pool."""

    event_id: str
    status: ItemStatus
    payload: Any
    """Its JSON data; None if it was destroyed."""
    partition_key: str | None
    attempts: int
    """How many runs of it have begun."""
    accepted_at: datetime
    due_at: datetime | None = None
    """When it can be taken, if it is delayed or retrying."""
    result: Any = None
    """What `execute` returned, if the pool keeps results."""
    error: ErrorInfo | None = None
    """How its last attempt failed."""

    @property
    def is_over(self) -> bool:
        """Whether nothing follows unless an operator acts."""
        return self.status in ("completed", "dead", "cancelled", "discarded")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDeadLetter:
    """An event that has no attempt left, kept for an operator."""

    event_id: str
    item: str
    """Its place, as in `#3.17`: where the next page begins."""
    reason: str
    error_type: str
    error_message: str
    attempts: int
    given_up_at: datetime
    payload: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResult:
    """The result of a `cancel_event`."""

    event_id: str
    status: Literal["cancelled", "not_found", "already_processing", "already_completed"]

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled now."""
        return self.status == "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsResult:
    """What was, or with `dry_run` would be, done to events."""

    events: tuple[str, ...]
    """The ids of those to which it was done."""
    skipped: Mapping[str, str]
    """The others, each with why not."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolControl:
    """The result of a `pause`, `resume` or `drain`."""

    done: bool
    reason: str | None = None
    """The reason given; or why nothing happened: it was so already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildResult:
    """The result of a `rebuild`."""

    events: int
    """How many events of the log were read."""
    differences: tuple[str, ...]
    """Where the tables were not what the log says, in a line each."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why an event is where it is: one cause, in a word and in a sentence."""

    event_id: str
    status: ItemStatus
    cause: Cause
    text: str
