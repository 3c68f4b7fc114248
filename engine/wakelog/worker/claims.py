"""Claims: what is due is taken, all leases and `RunStarted` events in one append (T5, A2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from wakelog.application import Application
from wakelog.core.calls import HandlerCall
from wakelog.core.decide import decide
from wakelog.core.instance import Instance, next_wake
from wakelog.core.requests import Claim
from wakelog.errors import HistoryError
from wakelog.log.rebuild import Head
from wakelog.ports.rows import Due
from wakelog.ports.units import ANY_ENDED, Lease, NothingDue, Takeover, Unit
from wakelog.runtime.parking import parking
from wakelog.worker.leases import LeaseKey

__all__ = ["Claimed", "GivenBack", "claim_due", "has_ready_event", "next_due_us"]


YIELD_US = 1_000_000
"""How long a worker leaves to others what is due again and what its own code could not read."""
MAX_GIVEN_BACK = 10_000
"""Instances of which that is remembered, the last ones."""


class GivenBack:
    """The instances that the code of this worker could not read, until it can. In a rolling deploy
    it would else be as fast as the worker that can, which would have to wait until its next sweep,
    with two events more in the log."""

    def __init__(self) -> None:
        self._streams: dict[str, None] = {}

    def note(self, instance: Instance) -> None:
        """What came of the work on an instance. On the event loop."""
        stream = str(instance.id)
        self._streams.pop(stream, None)
        if instance.unread is not None:
            self._streams[stream] = None
            if len(self._streams) > MAX_GIVEN_BACK:
                self._streams.pop(next(iter(self._streams)), None)

    def is_left(self, head: Head | HistoryError, now_us: int) -> bool:
        """Whether to leave an instance to others: something has just happened to it. Any thread may
        ask."""
        if not self._streams or isinstance(head, HistoryError):
            return False
        since_us = abs(now_us - head.instance.recorded_us)  # it may be later than this claim
        return since_us < YIELD_US and str(head.instance.id) in self._streams


class Claimed(NamedTuple):
    """What a worker claimed: the unit that takes it, and the call to make if a run has begun."""

    unit: Unit
    head: Head
    call: HandlerCall | None

    @property
    def key(self) -> LeaseKey:
        """The stream, and the token of the lease on it."""
        return self.unit.stream, self.unit.after.version

    @property
    def has_work(self) -> bool:
        """Whether anything is left to do (a due clear is done with the claim itself)."""
        return self.unit.take is not None


def claim_due(
    app: Application,
    *,
    worker: str,
    jobs: Sequence[str],
    limit: int,
    now_us: int,
    takeover: Takeover = ANY_ENDED,
    given_back: GivenBack | None = None,
    may_take_over: Callable[[], bool] = lambda: True,
) -> tuple[list[Claimed], NothingDue | None]:
    """Claim up to `limit` due instances: their leases and `RunStarted` events in one append. What
    has ended is left alone unless `may_take_over` says yes after the store has found it.

    Leaves `given_back` to others for a moment. Also returns when something will be due, if the
    store has looked and found nothing due now.
    Blocks; called on the alarm clock's thread. A crash before the append leaves them to other
    workers, a crash after it until their leases end.
    """
    claimed: list[Claimed] = []

    def begin(dues: Sequence[Due]) -> list[Unit]:
        if any(due.expired for due in dues) and not may_take_over():
            dues = [due for due in dues if due.expired is None]
        heads = app.instances.heads_of(dues)
        if given_back is not None:
            dues = [due for due in dues if not given_back.is_left(heads[due.stream], now_us)]
        begun = (_claim(app, due, heads[due.stream], worker, now_us) for due in dues)
        claimed[:] = [each for each in begun if each is not None]
        return [each.unit for each in claimed]

    limits = app.registry.limits()
    appended = app.store.claim(
        now_us=now_us, jobs=jobs, limit=limit, begin=begin, limits=limits, takeover=takeover
    )
    if isinstance(appended, NothingDue):
        return [], appended
    paired = zip(claimed, appended.errors, strict=True)
    return [each for each, error in paired if error is None], None


def next_due_us(app: Application, jobs: Sequence[str], now_us: int) -> int | None:
    """When there may be something to claim. Blocks; called on the alarm clock's thread."""
    return app.store.next_due_us(jobs, now_us, app.registry.limits())


def has_ready_event(after: Instance, now_us: int) -> bool:
    """Whether the next thing to do at `now_us` is to handle a deferred event: an alarm that was due
    before it has its turn first, or those who keep sending would hold it up for ever."""
    wake = next_wake(after)
    return wake is not None and wake.action == "deferred" and wake.due_us <= now_us


def _claim(
    app: Application, due: Due, head: Head | HistoryError, worker: str, now_us: int
) -> Claimed | None:
    """The unit that claims one due instance; or parks it, if its history cannot be read."""
    if isinstance(head, HistoryError):
        parked = parking(app.store, app.records, due.stream, head, now_us, again=True)
        return None if parked is None else Claimed(*parked, None)
    instance = head.instance
    lost = instance.run if due.expired is not None and due.expired.run else None
    policy = app.registry.of(instance.id).policy
    if policy is None:
        raise AssertionError(f"{instance.id.job} is not registered")
    decision = decide(instance, Claim(worker, lost, app.settings.max_lost), policy, now_us)
    after, call = decision.after, decision.call
    is_ready = not decision.events and has_ready_event(after, now_us)
    has_work = call is not None or is_ready
    until_us = now_us + app.settings.lease_us
    lease = Lease(worker, until_us, after.version, run=call is not None)
    unit = app.records.unit(
        due.stream,
        head,
        decision.events,
        after,
        now_us,
        take=lease if has_work else None,
        ends_lease=not has_work,
    )
    return Claimed(unit, Head(after, unit.hash), call)
