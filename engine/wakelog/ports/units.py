"""Units of work, ready to be appended, and the results of appending and claiming them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from wakelog.core.instance import Instance
from wakelog.ports.messages import Received, Sent
from wakelog.ports.records import StoredEvent, StoredSnapshot

__all__ = [
    "ANY_ENDED",
    "AlreadyReceived",
    "Appended",
    "ClaimRequest",
    "InboxGone",
    "JobPaused",
    "KeptReply",
    "KeyTaken",
    "Lease",
    "LeaseGone",
    "NothingDue",
    "Refused",
    "StreamLocked",
    "Takeover",
    "Unit",
    "VersionConflict",
]


class KeptReply(Struct, frozen=True):
    """The reply to a request with an idempotency key, kept until `expires_us`."""

    key: str
    action: str
    fingerprint: str
    """A digest of the request: tells a repetition from another request under the same key."""
    body: str
    """The reply as JSON."""
    expires_us: int | None
    """None: it is kept for ever."""


class Lease(Struct, frozen=True):
    """The right to work on one instance until `until_us`."""

    owner: str
    until_us: int
    token: int
    """The token of an older holder never matches again: a negative number that no other claim has
    or, from the beginning of a run on, the version of its `RunStarted`."""
    run: bool
    """Whether a run is open under it or about to begin (else deferred events are handled)."""


class Unit(Struct, frozen=True, gc=False):
    """One unit of work, ready to be appended: all of it becomes visible, or nothing.

    A store writes the events with versions `base_version + 1 …` only if the stream is at
    `base_version` and its newest event has `base_hash`, sets the instance's view rows from `after`,
    and takes or drops the lease.
    """

    stream: str
    base_version: int
    base_hash: str
    """The hash of the event before the first; empty for a new stream."""
    events: Sequence[StoredEvent]
    after: Instance
    hash: str
    """The hash of the newest event."""
    commit: str
    """The commit id, the same in each of the unit's events."""
    kept_reply: KeptReply | None = None
    snapshot: StoredSnapshot | None = None
    take: Lease | None = None
    """A lease to take with it, in place of the stream's lease, if it has one."""
    lease_token: int | None = None
    """The token of the lease that this unit works under: refused if that lease is gone."""
    ends_lease: bool = False
    """Drop the lease with that token or, with `lease_token` None, whatever lease there is."""
    unless_paused: bool = False
    """It starts a run: refused if its job is paused as a whole."""
    now_us: int = 0
    """The clock when it was decided; its events may have a later time (U9)."""
    sent: Sequence[Sent] = ()
    """The messages to other jobs among its events: they are put into the outbox."""
    received: Received | None = None
    """The message that it delivers: refused if the stream has taken that, or a later one of its
    sender. It leaves the outbox with the unit."""
    inbox: Sequence[int] = ()
    """The rows of the inbox that it was made of: deleted with it, and refused if one is gone."""


class Appended(NamedTuple):
    """The result of appending a group of units."""

    errors: Sequence[Exception | None]
    """For each unit, None or the error that refused it alone."""
    next_due_us: int | None
    """The earliest alarm among those written, for waking the alarm clock."""
    emits: bool = False
    """Whether messages are among the events, of which a store may notify other processes."""


class NothingDue(NamedTuple):
    """The result of a claim that has found nothing due, and has looked what comes next."""

    next_due_us: int | None
    """When something can be claimed, as `ClaimQueue.next_due_us` returns it."""


class Takeover(NamedTuple):
    """Which leases that have ended a claim may take over."""

    allowed: bool = True
    """None otherwise: their owners may be alive, and about to renew them."""
    owner: str = ""
    """The worker that claims: never its own, whatever the clock says. A renewal prolongs them."""
    server_up_us: int = 0
    """None before a server whose clock judges leases has been up for so long: while it was down
    nobody could renew."""


ANY_ENDED = Takeover()
"""Every ended lease."""


def _always() -> bool:
    return True


class ClaimRequest(NamedTuple):
    """What a worker wants to take."""

    now_us: int
    jobs: Sequence[str]
    limit: int
    """How many instances, at most."""
    owner: str
    lease_us: int
    """How long its leases last from now on."""
    token: int
    """Of all its leases: negative, and random, so that no other claim has it."""
    limits: Mapping[str, int] = {}
    """How many runs of some jobs there may be at a time, over all workers. A run counts as long as
    its lease is stored, also after the lease has ended, until another worker has taken it over.
    Taking over is not another run; to clear an instance or to handle a deferred event is no run."""
    takeover: Takeover = ANY_ENDED
    """Which ended leases may be taken over (U2). One that may not counts as live."""
    may_take_over: Callable[[], bool] = _always
    """Asked once the store has found ended leases, before they are taken over: False leaves them.
    The store may have stalled with the claim in it."""
    left: Sequence[str] = ()
    """Streams to leave to others while their newest event is less than `left_us` away from now:
    it may be later than this claim, or of a clock that was ahead."""
    left_us: int = 1_000_000


class Refused(Exception):
    """One unit of a group was not appended: the stream has changed since it was decided."""


class VersionConflict(Refused):
    """The stream is not at the unit's base version."""


class KeyTaken(Refused):
    """Another unit has recorded a reply under the unit's idempotency key."""


class LeaseGone(Refused):
    """The lease that the unit works under has been dropped or taken over."""


class AlreadyReceived(Refused):
    """The stream has taken the message that the unit delivers."""


class JobPaused(Refused):
    """The unit would start a run of a job that is paused as a whole."""


class InboxGone(Refused):
    """A row of the inbox is gone: another worker has appended what it became, or it was dropped."""


class StreamLocked(Exception):
    """Another session keeps a row of the unit's stream locked. Nothing has changed: the unit may be
    appended a little later."""

    def __init__(self, stream: str, wait_s: float) -> None:
        self.stream = stream
        self.wait_s = wait_s
        """For how long it is worth trying again, in seconds."""
        super().__init__(stream, wait_s)
