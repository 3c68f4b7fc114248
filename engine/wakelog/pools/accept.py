"""Plans what is accepted into a pool: the events in its stream, and where each item lies (P2, P3).

Everything that needs no lock is done before: validation, the items' lines and their digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import accumulate, chain, groupby, islice
from typing import NamedTuple

from msgspec import Struct

from wakelog.core.events import Event
from wakelog.core.pool.events import EventsReceived
from wakelog.errors import IdempotencyConflictError, InvalidStateError, QueueFullError
from wakelog.log.batches import root_of
from wakelog.pools.state import KEY_SLOTS, Lane, PoolState, job_stream
from wakelog.pools.writing import CallMeta, Writing
from wakelog.ports.pools import ExceptionRow, IdRow, PoolSeen, SegmentRow
from wakelog.ports.units import InboxGone

__all__ = [
    "DELAYED_LANE", "MAX_BATCH", "MAX_LANES", "Accept", "Accepted", "NewItem", "plan_accepts",
    "slot_of",
]  # fmt: skip

MAX_BATCH = 512
"""Items of one event in the log, at most: a take reads the part of it that it needs."""
MAX_BATCH_BYTES = 256 << 10
"""Bytes of their lines, at most, unless one item alone has more: each item that is taken out of
turn is read with all of its lane that were accepted with it."""

MAX_LANES = 10_000
"""Lanes in which items wait, of one pool: priorities times key slots, or keys of fair sharing. Each
call reads and writes the document in which they are."""
DELAYED_LANE = 0


class NewItem(Struct, frozen=True, gc=False):
    """An item to be accepted; it has been validated."""

    line: bytes
    digest: bytes
    priority: int = 0
    key: str | None = None
    fair: str | None = None
    id: str | None = None
    fingerprint: str = ""
    due_us: int | None = None
    """For a delayed one: when it can be taken."""


class Accept(Struct, frozen=True):
    """What one caller wants to have accepted: all of it, or nothing."""

    items: Sequence[NewItem]
    actor: str | None = None
    correlation: str | None = None
    trace: str | None = None
    max_pending: int | None = None
    inbox: tuple[int, ...] = ()
    """The rows of the inbox that it is made of: deleted with it, and nothing without them."""

    @property
    def size(self) -> int:
        """The bytes of its items' lines."""
        return sum(len(item.line) for item in self.items)


class Accepted(NamedTuple):
    """Where an item lies now, or lay before if its id was known."""

    lane: int
    off: int
    position: int
    """How many items of the pool were pending before it when it was accepted."""
    duplicate: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """Its lane, and its number there."""
        return self.lane, self.off


def slot_of(key: str | None) -> int:
    """The slot of a partition key: the same in every process and for ever."""
    if key is None:
        return 0
    return 1 + int.from_bytes(sha256(key.encode()).digest()[:4]) % KEY_SLOTS


def plan_accepts(
    writing: Writing, seen: PoolSeen, accepts: Sequence[Accept]
) -> list[list[Accepted] | Exception]:
    """Plan all that can be accepted, in the order given; what became of each. One that is made of a
    row of the inbox is refused with `InboxGone` if that is not there, and consumes it else."""
    if not any(accept.inbox for accept in accepts):
        return _planned(writing, seen, accepts)
    there, gone = set(seen.inbox), list[bool]()
    for accept in accepts:
        gone.append(not there.issuperset(accept.inbox))
        there.difference_update(accept.inbox)
    mine = [accept for accept, is_gone in zip(accepts, gone, strict=True) if not is_gone]
    planned = iter(_planned(writing, seen, mine) if mine else ())
    answers: list[list[Accepted] | Exception] = []
    for accept, is_gone in zip(accepts, gone, strict=True):
        answers.append(InboxGone(writing.job) if is_gone else next(planned))
        if not isinstance(answers[-1], Exception):
            writing.inbox += accept.inbox
    return answers


def _planned(
    writing: Writing, seen: PoolSeen, accepts: Sequence[Accept]
) -> list[list[Accepted] | Exception]:
    known = {row.id: row for row in seen.ids}
    answers: list[list[Accepted] | Exception] = []
    for (has_ids, *_), same in groupby(accepts, _alike):
        if not has_ids:
            answers += _accept_together(writing, list(same))
            continue
        for accept in same:
            try:
                answers.append(_accept(writing, accept, known))
            except (IdempotencyConflictError, QueueFullError, InvalidStateError) as error:
                answers.append(error)
    return answers


def _alike(accept: Accept) -> tuple[bool, str | None, str | None, str | None]:
    """What accepts have in common that may lie in one event: who wants them; and no ids."""
    has_ids = any(item.id is not None for item in accept.items)
    return has_ids, accept.actor, accept.correlation, accept.trace


def _accept_together(
    writing: Writing, accepts: Sequence[Accept]
) -> list[list[Accepted] | Exception]:
    """Accept items without ids in as few events as possible, whoever of the callers has them."""
    items: list[NewItem] = []
    errors: dict[int, Exception] = {}
    for number, accept in enumerate(accepts):
        try:
            count = len(items) + len(accept.items)
            _check_open(writing.job, writing.state, count, accept.max_pending)
            _check_lanes(writing, count, chain(items, accept.items))
            items += accept.items
        except (QueueFullError, InvalidStateError) as error:
            errors[number] = error
    answers: list[Accepted | None] = [None] * len(items)
    meta = _meta_of(writing, accepts[0])
    for indexes in _batches(items, range(len(items))):
        _append(writing, meta, items, indexes, answers)
    rest = iter(answers)
    return [
        errors.get(number) or [each for each in islice(rest, len(accept.items)) if each is not None]
        for number, accept in enumerate(accepts)
    ]


def _meta_of(writing: Writing, accept: Accept) -> CallMeta:
    meta = writing.meta
    if not (accept.actor or accept.correlation or accept.trace):
        return meta
    return CallMeta(meta.now_us, meta.commit, accept.actor, accept.correlation, accept.trace)


def _accept(writing: Writing, accept: Accept, known: dict[str, IdRow]) -> list[Accepted]:
    state = writing.state
    answers: list[Accepted | None] = [None] * len(accept.items)
    news: list[int] = []
    own: dict[str, int] = {}
    copies: list[tuple[int, int]] = []
    for index, item in enumerate(accept.items):
        if item.id is None:
            news.append(index)
        elif item.id in own:
            _check_same(writing.job, item, accept.items[own[item.id]].fingerprint)
            copies.append((index, own[item.id]))
        elif (row := known.get(item.id)) is not None:
            _check_same(writing.job, item, row.fingerprint)
            answers[index] = Accepted(row.lane, row.off, row.position, duplicate=True)
        else:
            own[item.id] = index
            news.append(index)
    if news:
        _check_open(writing.job, state, len(news), accept.max_pending)
        _check_lanes(writing, len(news), (accept.items[index] for index in news))
    meta = _meta_of(writing, accept)
    for indexes in _batches(accept.items, news):
        _append(writing, meta, accept.items, indexes, answers)
    for id, index in own.items():
        found = answers[index]
        if found is not None:
            fingerprint = accept.items[index].fingerprint
            known[id] = row = IdRow(
                id, found.lane, found.off, fingerprint, meta.now_us, found.position
            )
            writing.ids.append(row)
    for index, first in copies:
        found = answers[first]
        answers[index] = None if found is None else found._replace(duplicate=True)
    return [found for found in answers if found is not None]


def _batches(items: Sequence[NewItem], indexes: Sequence[int]) -> Iterable[Sequence[int]]:
    """Those that lie in one event each."""
    begin = size = 0
    for at, index in enumerate(indexes):
        length = len(items[index].line)
        if at - begin >= MAX_BATCH or (at > begin and size + length > MAX_BATCH_BYTES):
            yield indexes[begin:at]
            begin, size = at, 0
        size += length
    if begin < len(indexes):
        yield indexes[begin:]


def _check_same(job: str, item: NewItem, fingerprint: str) -> None:
    if fingerprint and item.fingerprint != fingerprint:
        advice = "an id names one event of a pool for ever: take another one for another event"
        raise IdempotencyConflictError(job, item.id or "", "enqueue", "enqueue", advice)


def _check_open(job: str, state: PoolState, count: int, max_pending: int | None) -> None:
    if state.draining:
        raise InvalidStateError(f"{job} is drained: it accepts nothing until it is resumed")
    waiting = state.pending + state.counts.get("delayed", 0)
    if max_pending is not None and waiting + count > max_pending:
        advice = "wait, or raise max_pending"
        raise QueueFullError(f"{job}: what is pending", max_pending, advice)


def _check_lanes(writing: Writing, count: int, items: Iterable[NewItem]) -> None:
    lanes = len(writing.state.lanes)
    if lanes + count <= MAX_LANES:
        return
    news = {(i.priority, slot_of(i.key), i.fair) for i in items if i.due_us is None}
    if lanes + len(news - writing.lanes.keys()) > MAX_LANES:
        advice = "wait, or use fewer keys of fair sharing, or priorities"
        raise QueueFullError(f"{writing.job}: the lanes in which events wait", MAX_LANES, advice)


def _append(
    writing: Writing,
    meta: CallMeta,
    items: Sequence[NewItem],
    indexes: Sequence[int],
    answers: list[Accepted | None],
) -> None:
    """One event: the lines by lane, in the order of acceptance within each."""
    state = writing.state
    version, at = state.head.version + 1, 0
    is_pending = (items[index].due_us is None for index in indexes)  # else it is delayed
    before = dict(zip(indexes, accumulate(is_pending, initial=state.pending), strict=False))
    lines: list[bytes] = []
    digests: list[bytes] = []
    accepted: list[tuple[int, int, int, int, int, str | None]] = []
    delayed: list[tuple[int, int, int]] = []
    for lane, mine in _by_lane(writing, items, indexes):
        own = [items[index].line for index in mine]
        size = sum(map(len, own)) + len(own) - 1
        first = lane.received + 1
        slot = lane.slot
        accepted.append((lane.number, first, len(own), lane.priority, slot, lane.fair))
        row = SegmentRow(
            lane.number, first + len(own) - 1, len(own), version, at, size, meta.now_us,
            state.accepted + 1,
        )  # fmt: skip
        writing.segments.append(row)
        for off, index in enumerate(mine, first):
            answers[index] = Accepted(lane.number, off, before[index])
        if lane.number == DELAYED_LANE:
            for off, index in enumerate(mine, first):
                item = items[index]
                delayed.append((off, item.due_us or 0, item.priority))
                _put_delayed(writing, item, off, row.seq + off - first)
            state.delayed_upto = row.upto
        else:
            lane.received = row.upto
        lines += own
        digests += [items[index].digest for index in mine]
        state.accepted += len(own)
        at += size + 1
    event: Event = EventsReceived(
        count=len(lines),
        root=root_of(digests),
        lanes=tuple(accepted),
        delayed=tuple(delayed),
        lines=b"\n".join(lines),
    )
    writing.append(job_stream(writing.job), state.head, [event], meta)


def _by_lane(
    writing: Writing, items: Sequence[NewItem], indexes: Sequence[int]
) -> Iterable[tuple[Lane, list[int]]]:
    """The lanes that the items go to, each with the indexes of its own, in their order."""
    state = writing.state
    lanes: dict[int, tuple[Lane, list[int]]] = {}
    same: dict[tuple[object, ...], list[int]] = {}
    for index in indexes:
        item = items[index]
        about = item.key, item.priority, item.fair, item.due_us is None
        mine = same.get(about)
        if mine is None:
            if item.due_us is not None:
                lane = Lane(DELAYED_LANE, received=state.delayed_upto)
            else:
                what = item.priority, slot_of(item.key), item.fair
                lane = writing.lanes.get(what) or state.new_lane(*what)
                writing.lanes[what] = lane
            mine = same[about] = lanes.setdefault(lane.number, (lane, []))[1]
        mine.append(index)
    return lanes.values()


def _put_delayed(writing: Writing, item: NewItem, off: int, seq: int) -> None:
    writing.put(
        ExceptionRow(
            DELAYED_LANE, off, "delayed", slot_of(item.key), item.priority, item.due_us, seq,
            item.key, "{}",
        )
    )  # fmt: skip
