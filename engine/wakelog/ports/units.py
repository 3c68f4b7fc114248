"""Units of work, ready to be appended, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from wakelog.core.instance import Instance
from wakelog.ports.records import StoredEvent, StoredSnapshot

__all__ = [
    "Appended",
    "KeptReply",
    "KeyTaken",
    "Lease",
    "LeaseGone",
    "Refused",
    "Unit",
    "VersionConflict",
]


class KeptReply(Struct, frozen=True):
    """What a request with a key was answered, kept until `expires_us`."""

    key: str
    action: str
    fingerprint: str
    """A digest of what was asked, to tell a repetition from a clash."""
    body: str
    """The answer as JSON."""
    expires_us: int | None


class Lease(Struct, frozen=True):
    """The right to work on one instance until `until_us`."""

    owner: str
    until_us: int
    token: int
    """The version at which it was taken: an older holder's token never matches again."""
    run: bool
    """Whether a run is open under it (else waiting events are being handled)."""


class Unit(Struct, frozen=True):
    """One unit of work, ready to be appended: all of it becomes visible, or nothing.

    A store writes the events with versions `base_version + 1 …` only if the stream stands at
    `base_version`, sets the instance's view rows from `after`, and takes or drops the lease.
    """

    stream: str
    base_version: int
    events: Sequence[StoredEvent]
    after: Instance
    hash: str
    """The hash of the newest event."""
    commit: str
    """The commit id, the same in each of the unit's events."""
    kept_reply: KeptReply | None = None
    snapshot: StoredSnapshot | None = None
    take: Lease | None = None
    """A lease to take with it, in the place of whatever lease there is."""
    lease_token: int | None = None
    """The token of the lease that this unit works under: refused unless it is still there."""
    ends_lease: bool = False
    """Drop the lease (the one held; or, with `lease_token` None, whatever lease there is)."""


class Appended(NamedTuple):
    """What became of a group of units: for each, None or the error that refused it alone."""

    errors: Sequence[Exception | None]
    next_due_us: int | None
    """The earliest alarm among those written, for waking the alarm clock."""


class Refused(Exception):
    """A unit was not appended, alone: the world has moved on since it was decided."""


class VersionConflict(Refused):
    """The stream does not stand at the unit's base version any more."""


class KeyTaken(Refused):
    """The unit's idempotency key has been recorded by another unit."""


class LeaseGone(Refused):
    """The lease that the unit works under is not held any more."""
