"""Claims: what is due is taken, its leases and `RunStarted` events in one append."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from wakelog.application import Application
from wakelog.core.calls import HandlerCall
from wakelog.core.decide import decide
from wakelog.core.events import Parked
from wakelog.core.evolve import evolve
from wakelog.core.instance import Instance, next_wake
from wakelog.core.requests import Claim
from wakelog.errors import HistoryError
from wakelog.ids import InstanceId
from wakelog.log.rebuild import Head, load_heads
from wakelog.log.records import encode
from wakelog.ports.rows import Due
from wakelog.ports.units import Lease, NothingDue, Unit
from wakelog.runtime.unit_of_work import NOWHERE

__all__ = ["Claimed", "LeaseKey", "next_due_us", "take"]

_LOG = logging.getLogger("wakelog.worker")


class Claimed(NamedTuple):
    """What a worker took: the unit that takes it, and the call to make where a run has begun."""

    unit: Unit
    head: Head
    call: HandlerCall | None

    @property
    def held(self) -> tuple[str, int]:
        """The stream, and the token of the lease on it."""
        return self.unit.stream, self.unit.after.version

    @property
    def works(self) -> bool:
        """Whether there is anything left to do (a due clear is done with the claim itself)."""
        return self.unit.take is not None


def take(
    app: Application, *, worker: str, jobs: Sequence[str], limit: int, now_us: int
) -> tuple[list[Claimed], NothingDue | None]:
    """Claim up to `limit` due instances: their leases and `RunStarted` events in one append.

    Also returns when something will be due, if the store has looked and found nothing due now.
    Blocks; called on the alarm clock's thread. A crash before the append leaves them to others,
    a crash after it until their leases end.
    """
    claimed: list[Claimed] = []

    def begin(dues: Sequence[Due]) -> list[Unit]:
        heads = _heads(app, dues)
        claimed.extend(_claim(app, due, heads[due.stream], worker, now_us) for due in dues)
        return [each.unit for each in claimed]

    limits = app.registry.limits()
    appended = app.store.claim(now_us=now_us, jobs=jobs, limit=limit, begin=begin, limits=limits)
    if isinstance(appended, NothingDue):
        return [], appended
    paired = zip(claimed, appended.errors, strict=True)
    return [each for each, error in paired if error is None], None


def next_due_us(app: Application, jobs: Sequence[str], now_us: int) -> int | None:
    """When there may be something to `take`. Blocks; called on the alarm clock's thread."""
    return app.store.next_due_us(jobs, now_us, app.registry.limits())


def _heads(app: Application, dues: Sequence[Due]) -> dict[str, Head | HistoryError]:
    """How the instances stand, or why that cannot be known: out of memory where they are there,
    the others in one read, for whoever claims holds locks."""
    heads: dict[str, Head | HistoryError] = {}
    for due in dues:
        if known := app.known(due.stream, due.version):
            heads[due.stream] = known
    missing = [due.stream for due in dues if due.stream not in heads]
    heads.update(zip(missing, load_heads(app.store, missing), strict=True))
    return heads


def _claim(
    app: Application, due: Due, head: Head | HistoryError, worker: str, now_us: int
) -> Claimed:
    """The unit that takes one due instance; or parks it, where its history cannot be read."""
    if isinstance(head, HistoryError):
        return _parked(app, InstanceId.parse(due.stream), head, now_us)
    instance = head.instance
    at_us = max(now_us, instance.recorded_us)
    lost = instance.run if due.expired is not None and due.expired.run else None
    policy = app.registry.of(instance.id).policy
    if policy is None:
        raise AssertionError(f"{instance.id.job} is not registered")
    decision = decide(instance, Claim(worker, lost, app.settings.max_lost), policy, at_us)
    meta = app.meta(at_us, NOWHERE)
    records, hash = encode(due.stream, instance.version, head.hash, decision.events, meta)
    after = decision.after
    taken = Head(after, hash)
    waits = not decision.events and _has_more(replace(after, recorded_us=at_us))
    works = decision.call is not None or waits
    until_us = now_us + app.settings.lease_us
    lease = Lease(worker, until_us, after.version, run=decision.call is not None)
    unit = Unit(
        stream=due.stream,
        base_version=instance.version,
        events=records,
        after=after,
        hash=hash,
        commit=meta.commit,
        snapshot=app.snapshot_if_due(instance.version, taken),
        take=lease if works else None,
        ends_lease=not works,
    )
    return Claimed(unit, taken, decision.call)


def _parked(app: Application, id: InstanceId, error: HistoryError, now_us: int) -> Claimed:
    """Set a damaged instance aside, so that others go on; it shows as `failed`, and why."""
    stream = str(id)
    _LOG.error("%s is parked: %s", stream, error, extra={"instance": stream})
    [row] = app.store.status([stream])
    if row is None:
        raise error
    at_us = max(now_us, row.updated_us)
    event = Parked(reason="unreadable", error_type=type(error).__name__, message=str(error))
    before = Instance(id, row.version, row.updated_us, lives=1, started_us=row.created_us or at_us)
    after = evolve(before, event, at_us)
    meta = app.meta(at_us, NOWHERE)
    records, hash = encode(stream, row.version, row.hash, [event], meta)
    unit = Unit(stream, row.version, records, after, hash, meta.commit, ends_lease=True)
    return Claimed(unit, Head(after, hash), None)


def _has_more(after: Instance) -> bool:
    """Whether the next thing to do is to handle a waiting event: an alarm that was due before
    it has its turn first, or those who keep sending would hold it up for ever."""
    wake = next_wake(after)
    return wake is not None and wake.action == "deferred" and wake.due_us <= after.recorded_us


LeaseKey = tuple[str, int]
"""A stream, and the token of the lease on it."""
