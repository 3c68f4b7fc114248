"""The document of a pool: the fold of its streams, as far as the next call needs it.

It grows with the lanes in which items wait and with the partitions, never with the items. It can be
made anew from the log. Stores look into `lanes` and `groups` only: see `wakelog.ports.pools`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct, field

from wakelog.core.decide_runs import CLOCK_SKEW_US
from wakelog.errors import StoreUnavailableError
from wakelog.ports.pools import ExceptionRow

__all__ = [
    "KEY_SLOTS",
    "READY",
    "Detail",
    "Group",
    "Head",
    "Lane",
    "Partition",
    "PoolState",
    "Recall",
    "Take",
    "TakenRange",
    "bounded",
    "detail_of",
    "dumped",
    "job_stream",
    "loaded",
    "partition_stream",
]  # fmt: skip

KEY_SLOTS = 64
"""Into how many slots partition keys are hashed, fixed at a pool's birth; slot 0 is for items
without a key. Which partition serves a slot may change, so the order of a key outlives a change of
the number of partitions."""

SPAN_PARTS = 200
"""In how many parts of a rate limit's span starts are told apart."""
MAX_REASON = 2_000
"""How many characters of a reason, or of what an error said, are kept here: as many as of an
error's message in every view. All of a reason is in the log."""
READY = ("lost", "returned", "requeued", "moved", "behind", "unread")
"""Why items are in the table of exceptions although they simply wait."""


class Head(Struct, array_like=True):
    """The newest event of a stream."""

    version: int = 0
    hash: str = ""
    at_us: int = 0


class Lane(Struct, array_like=True, gc=False):
    """Items that wait, in the order of acceptance: of one priority and one key slot or fair key."""

    number: int
    taken: int = 0
    """Up to which place."""
    skips: int = 0
    """How many places beyond are to be skipped."""
    received: int = 0
    priority: int = 0
    slot: int = 0
    fair: str | None = None
    tag: float = 0.0
    """The start tag of its next item, for fair sharing."""

    @property
    def waiting(self) -> int:
        """How many items can be taken."""
        return self.received - self.taken - self.skips


class Group(Struct, array_like=True):
    """Items in the table of exceptions, of one priority and slot, that are or will be due."""

    slot: int
    priority: int
    floor_us: int = 0
    count: int = 0
    next_us: int = 0
    """None is due before it."""


class TakenRange(NamedTuple):
    """Items `after + 1` to `upto` of a lane."""

    lane: int
    after: int
    upto: int
    priority: int
    slot: int


class Recall(NamedTuple):
    """An operator wants an item that a partition has taken, unless it has begun."""

    lane: int
    off: int
    act: Literal["cancel", "discard"]
    reason: str | None
    actor: str | None


class Take(Struct, array_like=True):
    """What a partition has taken, and not settled."""

    version: int
    """Of its `RunsStarted`."""
    at_us: int
    ranges: list[TakenRange] = []
    without: list[tuple[int, int]] = []
    rows: list[ExceptionRow] = []
    """Items that were in the table of exceptions, as they were there."""
    count: int = 0
    """How many items are not settled yet."""
    is_empty: bool = False
    """It is for `on_empty`."""
    filled: int = 0
    """If it is: `PoolState.filled` when it was taken."""
    takeovers: int = 0
    """How many holders of the partition have found it open."""
    recalls: list[Recall] = []

    @property
    def slots(self) -> set[int]:
        """The key slots of its items: no other partition takes of them meanwhile."""
        slots = {each.slot for each in self.ranges} | {row.slot for row in self.rows}
        return slots - {0}


class Partition(Struct, array_like=True):
    """One of the places at which one item at a time is worked on."""

    number: int
    head: Head = field(default_factory=Head)
    take: Take | None = None
    paused: bool = False
    reason: str | None = None


class Detail(Struct, frozen=True, omit_defaults=True):
    """What is kept of an item in the table of exceptions, beside what stores look at."""

    attempt: int = 1
    """The number of its next attempt; of a dead one, how many it had."""
    first_us: int = 0
    """When the first attempt began."""
    losses: int = 0
    """How many workers in a row were lost with it alone."""
    looks: int = 0
    """How often in a row it was found behind another one of its key."""
    reason: str = ""
    error_type: str = ""
    message: str = ""
    at_us: int = 0
    """When that was recorded."""

    def dumped(self) -> str:
        """As stored."""
        return _ENCODER.encode(self).decode()


class PoolState(Struct):
    """Everything that a call decides by."""

    head: Head = field(default_factory=Head)
    """Of the pool's own stream."""
    concurrency: int = 1
    """How many partitions there are by the newest definition that took anything."""
    partitions: list[Partition] = []
    lanes: list[Lane] = []
    fair: list[Lane] = []
    """As stored: those of `lanes` that are shared fairly and have nothing to skip, into which
    stores do not look."""
    groups: list[Group] = []
    next_lane: int = 1
    """Lane 0 is for items that were accepted with a delay."""
    delayed_upto: int = 0
    next_token: int = 1
    accepted: int = 0
    """Also the number of the newest item in the order of acceptance."""
    processed: int = 0
    cancelled: int = 0
    discarded: int = 0
    counts: dict[str, int] = {}
    """How many items the table of exceptions has, by `why`."""
    emptied: int = 0
    """What `filled` was at the emptying for which `on_empty` was called last."""
    requeued: int = 0
    """How often items were requeued."""
    virtual: float = 0.0
    """The virtual time of fair sharing."""
    others_tag: float = 0.0
    """The start tag of the items that are not shared fairly: beside those that are they are one
    more key."""
    finished: dict[str, float] = {}
    """The tags of keys that have nothing waiting and had their share already: an event that comes
    now waits for its turn as if the key had had one all the time."""
    starts: list[tuple[int, int]] = []
    """For a rate limit: when runs started, and how many; see `note_starts`."""
    recent: list[str] = []
    """The fair keys of the newest starts."""
    paused: bool = False
    draining: bool = False
    reason: str | None = None

    def partition(self, number: int) -> Partition:
        """The partition, made when it is first asked for."""
        while len(self.partitions) <= number:
            self.partitions.append(Partition(len(self.partitions)))
        return self.partitions[number]

    def new_lane(self, priority: int, slot: int, fair: str | None) -> Lane:
        """A lane for such items, if none wait. One that is emptied is dropped, so its number never
        comes again."""
        tag = max(self.virtual, self.finished.pop(fair, 0.0) if fair is not None else 0.0)
        lane = Lane(self.next_lane, priority=priority, slot=slot, fair=fair, tag=tag)
        self.next_lane += 1
        self.lanes.append(lane)
        return lane

    def group_for(self, slot: int, priority: int) -> Group:
        """The group of exceptions, made when it is first asked for."""
        for group in self.groups:
            if group.slot == slot and group.priority == priority:
                return group
        group = Group(slot, priority)
        self.groups.append(group)
        return group

    def tidy(self) -> None:
        """Drop the lanes and groups that are empty, and the tags of fair keys that have been waited
        for long enough."""
        ahead = {key: tag for key, tag in self.finished.items() if tag > self.virtual}
        for lane in self.lanes:
            if lane.fair is not None and lane.waiting <= 0 and lane.tag > self.virtual:
                ahead[lane.fair] = lane.tag
        self.finished = ahead
        self.lanes = [lane for lane in self.lanes if lane.waiting > 0]
        self.groups = [group for group in self.groups if group.count > 0]

    def has_starts_ahead(self, now_us: int) -> bool:
        """Whether the clock was ahead when starts were recorded: they would count until it is there
        again."""
        return any(at_us > now_us + CLOCK_SKEW_US for at_us, _ in self.starts)

    def correct_starts(self, now_us: int) -> None:
        """Such starts count as if they had been now (U9)."""
        self.starts = [(min(at_us, now_us), count) for at_us, count in self.starts]

    def note_starts(self, starts: Sequence[int], now_us: int, span_us: int) -> None:
        """Runs started then, for a rate limit over a span. Those in the same one of `SPAN_PARTS`
        parts of it count as if they had started with the last one of them, so that the document
        has a bound: never too early, and late by that part of a span at most."""
        parts: dict[int, tuple[int, int]] = {}
        for at_us, count in [*self.starts, *((at_us, 1) for at_us in starts)]:
            if at_us > now_us - span_us:
                part = at_us * SPAN_PARTS // span_us
                last_us, before = parts.get(part, (0, 0))
                parts[part] = max(last_us, at_us), before + count
        self.starts = sorted(parts.values())

    def count(self, why: str, by: int) -> None:
        """Change the number of exceptions of a kind."""
        self.counts[why] = self.counts.get(why, 0) + by

    @property
    def pending(self) -> int:
        """How many items wait and are not delayed, retrying or dead."""
        ready = sum(self.counts.get(why, 0) for why in READY)
        return ready + sum(lane.waiting for lane in self.lanes)

    @property
    def processing(self) -> int:
        """How many items are taken and not settled."""
        return sum(each.take.count for each in self.partitions if each.take is not None)

    @property
    def filled(self) -> int:
        """How often an item has come to wait here, from outside or out of the dead letters."""
        return self.accepted + self.requeued

    @property
    def is_empty(self) -> bool:
        """Nothing is pending, delayed, retrying or being worked on."""
        later = self.counts.get("delayed", 0) + self.counts.get("retrying", 0)
        return not (self.pending or later or self.processing)

    @property
    def has_been_emptied(self) -> bool:
        """It is empty, and `on_empty` was not called for that."""
        return self.emptied < self.filled and self.is_empty

    def partition_of(self, slot: int) -> int:
        """Which partition serves a key slot."""
        return (slot - 1) % self.concurrency


def bounded(text: str | None) -> str | None:
    """As much of a reason as is kept here."""
    return text if text is None or len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1]}…"


def detail_of(row: ExceptionRow) -> Detail:
    """What is kept of an item in the table of exceptions."""
    return _DETAIL.decode(row.detail)


_DETAIL = msgspec.json.Decoder(Detail)
_DECODER = msgspec.json.Decoder(PoolState)
_ENCODER = msgspec.json.Encoder()


def loaded(state: bytes | None) -> PoolState:
    """The document, to be changed by a plan. Raises `StoreUnavailableError` (damaged)."""
    if state is None:
        return PoolState()
    try:
        document = _DECODER.decode(state)
    except ValueError as error:
        raise StoreUnavailableError("damaged", f"the document of a pool: {error}") from error
    document.lanes += document.fair
    document.fair = []
    return document


def dumped(state: PoolState) -> bytes:
    """The document as stored. Without NUL in what operators gave as reasons: a database may not be
    able to read a document with one."""
    lanes = state.lanes
    state.fair = [lane for lane in lanes if lane.fair is not None and not lane.skips]
    if state.fair:
        state.lanes = [lane for lane in lanes if lane.fair is None or lane.skips]
    document = _encoded(state)
    state.lanes, state.fair = lanes, []
    return document


def _encoded(state: PoolState) -> bytes:
    document = _ENCODER.encode(state)
    if rb"\u0000" in document:
        state.reason = _without_nul(state.reason)
        for partition in state.partitions:
            partition.reason = _without_nul(partition.reason)
        document = _ENCODER.encode(state)
    return document


def _without_nul(reason: str | None) -> str | None:
    return None if reason is None else reason.replace("\0", "\N{REPLACEMENT CHARACTER}")


def job_stream(job: str) -> str:
    """The stream of a pool itself."""
    return f"{job}:shared"


def partition_stream(job: str, number: int) -> str:
    """The stream of a partition."""
    return f"{job}:{number}"
