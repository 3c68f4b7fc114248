"""Plans what a pool's partitions ask for: what their takes came to, and what they take next.

The stream of a partition is written by the holder of its lease alone. So what a handler's outcome
is, in events, is decided before the call; here it is only checked that the lease is still held, and
the document and the rows are made to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from msgspec import Struct

from wakelog.core.events import Event, Paused
from wakelog.pools.operate import ItemAct, record_act
from wakelog.pools.state import Partition, PoolState, Recall, Take, bounded, partition_stream
from wakelog.pools.takes import PoolRules, Taking
from wakelog.pools.writing import Writing
from wakelog.ports.pools import ExceptionKey, ExceptionRow, PartitionLease, PoolSeen

__all__ = [
    "Acquire",
    "Acquired",
    "CallAnswer",
    "Outcome",
    "PartitionAnswer",
    "PartitionRequest",
    "Recalled",
    "Unheld",
    "next_us",
    "plan_requests",
    "ranges_of",
    "recalled",
    "unheld_partitions",
]  # fmt: skip


class Outcome(Struct):
    """What became of items that a partition had taken."""

    events: list[Event] = []
    """In the order of the partition's stream."""
    settled: int = 0
    """How many items are no longer taken."""
    processed: int = 0
    put: list[ExceptionRow] = []
    unbegun: list[ExceptionKey] = []
    """Those of `put` that were taken and have not begun."""
    unblock: list[str] = []
    """Partition keys that may hold back others no longer: the call looks for those."""
    starts: list[int] = []
    """When runs of them started, for a rate limit."""
    discarded: int = 0
    paused: Paused | None = None
    """A handler has paused the pool."""
    is_emptied: bool = False
    """`on_empty` was called."""
    is_over: bool = False
    """The take is over, though it had no items: it was for `on_empty`."""


class PartitionRequest(Struct):
    """What one partition asks of a call."""

    partition: int
    token: int
    version: int
    """The newest version of the partition's stream, as its holder knows it."""
    outcome: Outcome
    rest: Take | None = None
    """What of its take is not settled with this."""
    want: int = 0
    """How many items to take next."""
    gives_up: bool = False
    """Give up the lease."""


class PartitionAnswer(NamedTuple):
    """What a partition has got."""

    version: int
    """The newest version of its stream."""
    take: Take | None


class Acquire(Struct, frozen=True):
    """A worker wants partitions to work at."""

    worker: str
    lease_us: int
    share: int
    """How many partitions it may hold."""
    may_take_over: Callable[[], bool]
    """Whether leases that have ended may be taken over now."""


class Acquired(NamedTuple):
    """A partition that a worker holds from now on."""

    partition: int
    token: int
    version: int
    open_take: Take | None
    """What its last holder had taken and not settled: lost."""
    last_holder: str = ""
    """Whose lease has ended; empty if it was given up."""


Recalled = frozenset[ExceptionKey] | None
"""Which items a partition is to give back if they have not begun; None: all."""


class CallAnswer(Struct):
    """The answer of a call."""

    answers: list[PartitionAnswer | None] = []
    """To each request; None: its lease is gone, and nothing was recorded."""
    acquired: list[Acquired] = []
    recalls: dict[int, Recalled] = {}
    """By partition."""
    next_us: int | None = None
    """When there may be something to take for partitions that have got nothing; None: not before
    something happens."""

    @property
    def takes(self) -> list[Take]:
        """What was taken with it, and what is to be recovered."""
        takes = [each.take for each in self.answers if each is not None and each.take is not None]
        return takes + [each.open_take for each in self.acquired if each.open_take is not None]


def ranges_of(take: Take) -> list[tuple[int, int, int]]:
    """What of the log a take needs, as ranges of lanes."""
    ranges = [(each.lane, each.after, each.upto) for each in take.ranges]
    return ranges + [(row.lane, row.off - 1, row.off) for row in take.rows]


def plan_requests(
    writing: Writing,
    seen: PoolSeen,
    requests: Sequence[PartitionRequest],
    acquire: Acquire | None,
    taking: Taking,
) -> CallAnswer:
    """Settle what is to be settled, then take; then acquire partitions that nobody holds."""
    answer = CallAnswer()
    state = writing.state
    state.concurrency = taking.rules.concurrency
    leases = {lease.stream: lease for lease in seen.leases}
    for row in seen.behind:  # those behind one that is settled now, or has been meanwhile
        writing.remove(row)
        writing.put(row._replace(due_us=writing.meta.now_us))
    held: list[tuple[PartitionRequest, Partition] | None] = []
    for request in requests:
        partition = state.partition(request.partition)
        stream = partition_stream(writing.job, request.partition)
        lease = leases.get(stream)
        if (
            lease is None
            or lease.token != request.token
            or partition.head.version != request.version
        ):
            held.append(None)
            continue
        _settle(writing, partition, request, taking.rules)
        if request.gives_up:
            writing.dropped.append(stream)
        held.append((request, partition))
    for each in held:
        if each is None:
            answer.answers.append(None)
        else:
            take = taking.take(each[1], each[0].want)
            answer.answers.append(PartitionAnswer(each[1].head.version, take))
    if acquire is not None:
        answer.acquired = _acquire(writing, acquire, seen.leases, taking.rules)
    answer.recalls = recalled(state, is_job_paused=seen.is_paused)
    return answer


def recalled(state: PoolState, *, is_job_paused: bool) -> dict[int, Recalled]:
    """What the partitions are to give back if it has not begun: all if they are paused, else what
    operators want of it (P6)."""
    is_paused = state.paused or is_job_paused
    found: dict[int, Recalled] = {}
    for each in state.partitions:
        if each.take is None:
            continue
        if is_paused or each.paused:
            found[each.number] = None
        elif each.take.recalls:
            found[each.number] = frozenset(ExceptionKey(*r[:2]) for r in each.take.recalls)
    return found


def _settle(
    writing: Writing, partition: Partition, request: PartitionRequest, rules: PoolRules
) -> None:
    state, outcome = writing.state, request.outcome
    if outcome.events:
        stream = partition_stream(writing.job, partition.number)
        writing.append(stream, partition.head, outcome.events)
    state.processed += outcome.processed
    state.discarded += outcome.discarded
    if outcome.paused is not None and not state.paused:
        state.paused, state.reason = True, bounded(outcome.paused.reason)
    recalls = _recalls_of(partition, outcome)
    for row in outcome.put:
        if not recalls or (recall := recalls.get(ExceptionKey(*row[:2]))) is None:
            writing.put(row)
        else:
            _carry_out(writing, row, recall)
    if rules.rate is not None and outcome.starts:
        state.note_starts(outcome.starts, writing.meta.now_us, rules.span_us)
    if outcome.is_emptied and partition.take is not None:
        state.emptied = max(state.emptied, partition.take.filled)
    if outcome.settled or outcome.is_over:
        rest = request.rest if request.rest is not None and request.rest.count else None
        if rest is not None and partition.take is not None:
            left = {row[:2] for row in rest.rows}
            rest.recalls = [each for each in partition.take.recalls if each[:2] in left]
        partition.take = rest


def _recalls_of(partition: Partition, outcome: Outcome) -> dict[ExceptionKey, Recall]:
    """What operators want of the items that are given back without having begun."""
    if partition.take is None or not outcome.unbegun:
        return {}
    return {
        key: each
        for each in partition.take.recalls
        if (key := ExceptionKey(*each[:2])) in outcome.unbegun
    }


def _carry_out(writing: Writing, row: ExceptionRow, recall: Recall) -> None:
    """An item that an operator wanted, and that has not begun, is over."""
    state = writing.state
    state.cancelled += recall.act == "cancel"
    state.discarded += recall.act == "discard"
    act = ItemAct(recall.act, recall.reason, actor=recall.actor)
    record_act(writing, [ExceptionKey(*row[:2])], act, {})


class Unheld(NamedTuple):
    """A partition that no worker holds."""

    partition: Partition
    ended: PartitionLease | None
    """Its lease, of a worker that is gone; None: nobody has one."""
    is_surplus: bool
    """It is beyond the concurrency: what is left there keeps all others from taking."""


def unheld_partitions(
    state: PoolState, job: str, worker: str, leases: Sequence[PartitionLease], rules: PoolRules
) -> list[Unheld]:
    """Those that a worker may acquire: of those beyond the concurrency the ones with an open take,
    which any worker settles, whatever its share."""
    of_stream = {lease.stream: lease for lease in leases}
    found: list[Unheld] = []
    for number in range(max(rules.concurrency, len(state.partitions))):
        partition = state.partition(number)
        lease = of_stream.get(partition_stream(job, number))
        is_surplus = number >= rules.concurrency
        is_free = lease is None or (lease.has_ended and lease.owner != worker)
        if is_free and (not is_surplus or partition.take is not None):
            found.append(Unheld(partition, lease, is_surplus))
    return found


def _acquire(
    writing: Writing, acquire: Acquire, leases: Sequence[PartitionLease], rules: PoolRules
) -> list[Acquired]:
    """Those with an open take first."""
    state, worker = writing.state, acquire.worker
    own = {lease.stream for lease in leases if lease.owner == worker}
    mine = sum(partition_stream(writing.job, n) in own for n in range(rules.concurrency))
    unheld = [
        each
        for each in unheld_partitions(state, writing.job, worker, leases, rules)
        if each.ended is None or acquire.may_take_over()
    ]
    surplus = [each for each in unheld if each.is_surplus]
    free = [each for each in unheld if not each.is_surplus]
    free.sort(key=lambda each: (each.partition.take is None, each.partition.number))
    acquired: list[Acquired] = []
    for partition, ended, _ in [*surplus, *free[: max(0, acquire.share - mine)]]:
        state.next_token += 1
        token = -state.next_token  # no version, so that nobody looks for its event
        stream = partition_stream(writing.job, partition.number)
        writing.leases.append((stream, worker, token, acquire.lease_us))
        head = partition.head.version
        if partition.take is not None:
            partition.take.takeovers += 1
        last_holder = "" if ended is None else ended.owner
        acquired.append(Acquired(partition.number, token, head, partition.take, last_holder))
    return acquired


def next_us(
    state: PoolState,
    now_us: int,
    rules: PoolRules,
    among: Collection[int] | None = None,
    readable: Collection[int] = (),
) -> int | None:
    """When one of these partitions (None: of all) may find something to take; None if only an event
    or an operator can bring it. A moment that has passed means now. `readable`: the key slots of
    items that wait for code, and have it here."""
    taken = [each for each in state.partitions if each.take is not None]
    if state.paused or len(taken) >= rules.concurrency:
        return None
    numbers = range(rules.concurrency) if among is None else among
    closed = {each.number for each in state.partitions if each.paused} | {p.number for p in taken}
    free = {number for number in numbers if number < rules.concurrency} - closed
    busy = {slot for each in taken if each.take for slot in each.take.slots}

    def is_served(slot: int) -> bool:
        return (
            bool(free) if not slot else slot not in busy and (slot - 1) % rules.concurrency in free
        )

    looks = [group.next_us for group in state.groups if group.count and is_served(group.slot)]
    if any(lane.waiting > 0 and is_served(lane.slot) for lane in state.lanes):
        looks.append(now_us)
    if any(map(is_served, readable)):
        looks.append(now_us)
    if rules.on_empty and free and not taken and state.has_been_emptied:
        looks.append(now_us)
    at_us = min(looks, default=None)
    return at_us if at_us is None or rules.rate is None else _by_rate(state, now_us, at_us, rules)


def _by_rate(state: PoolState, now_us: int, at_us: int, rules: PoolRules) -> int | None:
    """When the next run may start; None if that depends on when those under way end."""
    if state.has_starts_ahead(now_us):
        return at_us  # a call corrects them
    recent = sorted(each for each in state.starts if each[0] > now_us - rules.span_us)
    too_many = 1 + sum(count for _, count in recent) + state.processing - (rules.rate or 0)
    if too_many <= 0:
        return at_us
    for started_us, count in recent:
        too_many -= count
        if too_many <= 0:
            return max(at_us, started_us + rules.span_us)
    return None
