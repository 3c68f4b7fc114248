"""The port to the pools of a store: one call, a transaction that looks, plans and writes.

The log is the queue. What is accepted lies in the stream of the pool, what is taken and how it
ended in the streams of its partitions. Beside the log a store keeps, for each pool, one document
(`state`, the fold of those streams, which `wakelog.pools` writes and reads) and a few narrow
tables: where in the log each lane's items are, which take had them, the ids that callers gave, and
the items that do not simply wait in a lane (`ExceptionRow`).

A call takes the lock under which the log gets its positions, so calls of a pool come one after the
other, in all processes. What it writes is planned in between, by a function without side effects.

Of the document stores know three members. `lanes`: a list for each lane in which items wait, that
begins with the lane's number, the place up to which it was taken, and how many places are to be
skipped beyond that. `fair`: more such lists, of lanes of which a take needs to know nothing else:
there may be thousands. `groups`: a list for each `Group` in which there are items, that begins with
its three fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from wakelog.ports.messages import Sent
from wakelog.ports.records import StoredEvent

__all__ = [
    "ExceptionKey", "ExceptionRow", "Group", "IdRow", "PartitionLease", "Plan", "PoolFilter",
    "PoolLook", "PoolRows", "PoolSeen", "PoolTables", "PoolWrites", "Refold", "SegmentRow",
    "TakenRow", "TrailRow", "WaitingLane",
]  # fmt: skip


class ExceptionKey(NamedTuple):
    """An item: the lane in which it was accepted, and its place there, from 1."""

    lane: int
    off: int


class ExceptionRow(NamedTuple):
    """An item that does not simply wait in its lane."""

    lane: int
    off: int
    why: str
    """`delayed`, `retrying`, `lost`, `returned`, `requeued`, `moved`, `behind`, `unread`, `dead`;
    one word, and nothing that a store looks into."""
    slot: int
    priority: int
    due_us: int | None
    """When it can be taken; None: not before something else happens."""
    seq: int
    """Its number in the order of acceptance."""
    key: str | None
    """Its partition key, for pools that keep the order of a key."""
    detail: str
    """The rest, as JSON: attempt, first attempt, losses, error."""


class Group(NamedTuple):
    """Items in the table of exceptions that can be taken alike, in the order of their due times."""

    slot: int
    priority: int
    floor_us: int
    """None is due before it: where the last take has stopped, so that what was deleted there is not
    walked over again."""


class WaitingLane(NamedTuple):
    """A lane in which items wait, and how far it was taken."""

    lane: int
    taken: int


class SegmentRow(NamedTuple):
    """Items of a lane that were accepted together: places `upto - n + 1` to `upto`."""

    lane: int
    upto: int
    n: int
    version: int
    """The version of their event in the pool's stream."""
    at: int
    """Where their lines begin, in bytes from the beginning of the record's body."""
    len: int
    at_us: int
    """When they were accepted."""
    seq: int
    """The number of the first of them in the order of acceptance."""


class TakenRow(NamedTuple):
    """Items of a lane that one take had: up to `upto`, from the row before it."""

    lane: int
    upto: int
    partition: int
    version: int
    """The version of the take's event in the partition's stream."""


class TrailRow(NamedTuple):
    """An event about one item, other than its accept, its first take and a plain outcome."""

    lane: int
    off: int
    stream: str
    version: int


class IdRow(NamedTuple):
    """An id that a caller gave to an item; it names it for ever."""

    id: str
    lane: int
    off: int
    fingerprint: str
    at_us: int
    position: int
    """How many items of the pool were pending before it when it was accepted."""


class PartitionLease(NamedTuple):
    """The right to write a partition's stream, as stored in `leases`."""

    stream: str
    owner: str
    token: int
    has_ended: bool
    """By the clock that judges leases."""


class PoolLook(Struct, frozen=True):
    """What a plan needs to see, beside the state."""

    pool: str
    """The job, as in `workerPool:emails`."""
    now_us: int
    ids: Sequence[str] = ()
    """Look for these ids."""
    due_limit: int = 0
    """How many items of each group of the state, the earliest ones, due or not; 0: none."""
    keys: Sequence[ExceptionKey] = ()
    """Look for these items in the table of exceptions."""
    behind: Sequence[str] = ()
    """Look for the items that wait behind another one of these partition keys."""
    leases: bool = False
    firsts: Literal["none", "lanes", "all"] = "none"
    """Of which lanes in which items wait to look for the first segment; `all`: of `fair` too."""
    inbox: Sequence[int] = ()
    """Look for these rows of the inbox."""
    brings_work: bool = False
    """The plan will most likely add what can be taken at once: a store may tell other processes
    before it is written, so that they wait for the lock behind this call."""


class PoolSeen(Struct, frozen=True):
    """What a store has found, all as of one moment."""

    state: bytes | None
    """The newest document; None: nothing was ever recorded of the pool."""
    number: int = 0
    """How many documents there have been. A call that writes one adds one."""
    is_paused: bool = False
    """The job is paused as a whole."""
    firsts: Sequence[SegmentRow] = ()
    """Of each such lane the segment of the first item that waits."""
    due: Sequence[ExceptionRow] = ()
    """Up to `due_limit` of each group of the state from its floor on, by due time, lane and place;
    also those that will be due later, so that a plan knows when."""
    ids: Sequence[IdRow] = ()
    exceptions: Sequence[ExceptionRow] = ()
    """Those among `keys` that there are."""
    behind: Sequence[ExceptionRow] = ()
    """Of each key in `behind` the first 16 with `why` `behind`, in the order of acceptance."""
    leases: Sequence[PartitionLease] = ()
    skips: Sequence[ExceptionKey] = ()
    """The places to skip in the lanes of the state that have any: the first 1,000 of each lane
    beyond what was taken; and those among `keys`."""
    inbox: Sequence[int] = ()
    """Those among the rows looked for that are there and that no other session changes: they stay
    until the end of the call."""


class PoolWrites(Struct, frozen=True):
    """What a plan writes, all of it or nothing. Nothing at all if there are no events, no state and
    no rows."""

    events: Sequence[StoredEvent] = ()
    state: bytes | None = None
    segments: Sequence[SegmentRow] = ()
    taken: Sequence[TakenRow] = ()
    ids: Sequence[IdRow] = ()
    put: Sequence[ExceptionRow] = ()
    """In place of a row of the same item."""
    gone: Sequence[ExceptionKey] = ()
    """Deleted, before `put` is written."""
    skips: Sequence[ExceptionKey] = ()
    trail: Sequence[TrailRow] = ()
    leases: Sequence[tuple[str, str, int, int]] = ()
    """Stream, owner, token and length of a lease (microseconds from now) to take, in place of
    another one."""
    dropped: Sequence[str] = ()
    """Streams whose lease is dropped."""
    inbox: Sequence[int] = ()
    """Rows of the inbox that are deleted."""
    read: Sequence[tuple[int, int, int]] = ()
    """Ranges of lanes to be read after it: see `pool_slices`."""
    due_us: int | None = None
    """When the pool has work next, to notify other processes of; None: no notification."""
    sent: Sequence[tuple[str, Sent]] = ()
    """The messages to other jobs among the events, with their streams: put into the outbox."""
    commit: str = ""
    """The commit id of the events, by which a store finds out whether they were recorded."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written: no events, no state and no rows."""
        return self.state is None and not any(getattr(self, name) for name in _ROWS)


_NO_ROWS = ("state", "read", "due_us", "commit")
_ROWS = tuple(name for name in PoolWrites.__struct_fields__ if name not in _NO_ROWS)

Plan = Callable[[PoolSeen], PoolWrites]
"""Called once or more often, on the thread of the call; the last call counts. What it raises is
raised by the call, and nothing is written."""


class PoolFilter(NamedTuple):
    """Which items of the table of exceptions to list, in the order of lane and place."""

    why: Sequence[str] = ()
    """Empty: all."""
    key: str | None = None
    after: ExceptionKey = ExceptionKey(0, 0)
    limit: int = 100


class PoolRows(Struct, frozen=True):
    """Everything that a store keeps of a pool beside the log, and leases."""

    position: int
    """In the log, of the newest event of the pool's streams; 0: there is none."""
    state: bytes | None
    segments: Sequence[SegmentRow]
    taken: Sequence[TakenRow]
    ids: Sequence[IdRow]
    exceptions: Sequence[ExceptionRow]
    skips: Sequence[ExceptionKey]
    trail: Sequence[TrailRow]


Positioned = tuple[int, StoredEvent]
"""An event, and its position in the log."""

Refold = Callable[[Sequence[Positioned], PoolRows | None], PoolRows]
"""Called with the events that came since, and what is stored (None if that cannot be read): what is
to be stored instead."""


class PoolTables(Protocol):
    """The pools of a store. All calls block."""

    def pool_call(self, look: PoolLook, plan: Plan) -> Sequence[tuple[SegmentRow, bytes]]:
        """Take the lock of the log, look, plan, write and commit, in one transaction; then read
        what the plan wants to have read, or nothing if that cannot be read now.

        If the answer to the commit is lost it is looked up; what was not recorded is planned anew.
        Killed here: all of it was written, or nothing. Raises what `plan` raises, and
        `StoreUnavailableError`.
        """
        ...

    def pool_jobs(self) -> Sequence[str]:
        """The pools of which something was recorded, as in `workerPool:emails`, in order."""
        ...

    def pool_look(self, look: PoolLook) -> PoolSeen:
        """The same look, without the lock."""
        ...

    def pool_slices(
        self, pool: str, ranges: Sequence[tuple[int, int, int]]
    ) -> Sequence[tuple[SegmentRow, bytes]]:
        """The segments that overlap ranges of lanes (lane, after, upto), in their order, each with
        the bytes that it names of the body of its record. The pool's stream is `{pool}:shared`."""
        ...

    def pool_taken(self, pool: str, lane: int, off: int) -> TakenRow | None:
        """The first take whose range has the item, None if it has not been taken in a range."""
        ...

    def pool_trail(self, pool: str, lane: int, off: int) -> Sequence[TrailRow]:
        """What else was recorded about an item, in the order of the log."""
        ...

    def pool_exceptions(self, pool: str, filter: PoolFilter) -> Sequence[ExceptionRow]:
        """The exceptions that match."""
        ...

    def pool_blocked(self, pool: str, keys: Sequence[str]) -> Sequence[tuple[str, int]]:
        """Which of these partition keys have items in the table of exceptions other than dead ones,
        each with the first one's number in the order of acceptance."""
        ...

    # -- making the tables anew from the log (H5)

    def pool_log(self, pool: str, after: int, limit: int) -> Sequence[Positioned]:
        """Up to `limit` events of the pool's streams behind a position, in the order of the log."""
        ...

    def pool_rows(self, pool: str) -> PoolRows:
        """All rows of a pool, as of one moment."""
        ...

    def pool_rebuild(self, pool: str, after: int, refold: Refold) -> None:
        """Take the lock of the log, read the events behind a position, and put what `refold`
        answers in the place of all rows of the pool, in one transaction.

        Killed here: all of it was written, or nothing. Raises what `refold` raises, and
        `StoreUnavailableError`; if its reason is `unreachable` it may have been written, and may be
        done again.
        """
        ...
