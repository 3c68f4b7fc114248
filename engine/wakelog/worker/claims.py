"""Claims: what is due is leased, many instances in one statement (A2); then each run is begun.

A claim writes leases and nothing else. The event loop decides what each instance is due for, on
whatever it is by then, and `RunStarted` goes with other units in a group append (T5).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from wakelog.application import Application
from wakelog.core.calls import HandlerCall
from wakelog.core.instance import Instance, next_wake
from wakelog.core.requests import Claim, Rearm
from wakelog.ids import InstanceId, job_of
from wakelog.ports.rows import Due
from wakelog.ports.units import ANY_ENDED, ClaimRequest, JobPaused, Lease, NothingDue, Takeover
from wakelog.runtime.unit_of_work import RequestOutcome
from wakelog.runtime.unit_records import Origin
from wakelog.worker.leases import LeaseKey

__all__ = [
    "Beginning",
    "Begun",
    "Claimed",
    "GivenBack",
    "claim_due",
    "give_up",
    "has_ready_event",
    "next_due_us",
    "rearm",
]

_LOG = logging.getLogger("wakelog.worker")

YIELD_US = 1_000_000
"""How long a worker leaves to others what is due again and what its own code could not read."""
MAX_GIVEN_BACK = 1_000
"""Instances of which that is remembered, the last ones."""


class GivenBack:
    """The instances that the code of this worker could not read, until it can. In a rolling deploy
    it would else be as fast as the worker that can, which would have to wait until its next sweep,
    with two events more in the log."""

    def __init__(self) -> None:
        self._streams: dict[str, None] = {}

    def note(self, instance: Instance) -> None:
        """What came of the work on an instance. On the event loop."""
        if instance.unread is None and not self._streams:
            return
        stream = str(instance.id)
        self._streams.pop(stream, None)
        if instance.unread is not None:
            self._streams[stream] = None
            if len(self._streams) > MAX_GIVEN_BACK:
                self._streams.pop(next(iter(self._streams)), None)

    def streams(self) -> Sequence[str]:
        """Those that are left to others for `YIELD_US` whenever something has happened to them. Any
        thread may ask."""
        return tuple(self._streams.copy())


class Claimed(Struct, eq=False):
    """An instance under a lease of this worker's: to be begun or, by now, worked on."""

    stream: str
    due: Due
    worker: str
    token: int
    """Of the lease: changes when a run begins under it."""
    at_us: int
    """When it was claimed, by the monotonic clock."""
    stage: Literal["waits", "recorded", "begun"] = "waits"
    """How far its beginning is. While that is being recorded its task must not be cancelled."""
    is_stopped: bool = False
    """The worker does not want it any longer."""
    handler_us: int = 0
    """How long its handlers took, once they have ended."""

    @property
    def is_run(self) -> bool:
        """Whether a run has begun."""
        return self.token > 0

    @property
    def holds_lost_run(self) -> bool:
        """Whether it took over a run that was lost, and has not begun: without its lease nobody
        would find that run before a sweep."""
        expired = self.due.expired
        return expired is not None and expired.run and not self.is_run

    @property
    def key(self) -> LeaseKey:
        """The stream, and the token of the lease on it."""
        return self.stream, self.token


class Begun(Struct, frozen=True):
    """What an instance was claimed for."""

    instance: Instance
    call: HandlerCall | None = None
    """The call to make, if a run has begun. None: its deferred events are to be handled."""


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
    """Claim up to `limit` due instances. What has ended is left alone unless `may_take_over` says
    yes after the store has found it.

    Leaves `given_back` to others for a moment. Also returns when something will be due, if the
    store has looked and found nothing due now.
    Blocks; called on the alarm clock's thread. A crash leaves them to other workers when their
    leases end, with nothing in the log: no run was open.
    """
    request = ClaimRequest(
        now_us=now_us,
        jobs=jobs,
        limit=limit,
        owner=worker,
        lease_us=app.settings.lease_us,
        token=-1 - secrets.randbits(62),
        limits=app.registry.limits(),
        takeover=takeover,
        may_take_over=may_take_over,
        left=() if given_back is None else given_back.streams(),
        left_us=YIELD_US,
    )
    dues = app.store.claim(request)
    if isinstance(dues, NothingDue):
        return [], dues
    claimed_us = app.clock.monotonic_us()
    return [Claimed(due.stream, due, worker, request.token, claimed_us) for due in dues], None


class Beginning:
    """One claimed instance on its way to be begun."""

    def __init__(
        self,
        app: Application,
        claimed: Claimed,
        on_run: Callable[[LeaseKey, LeaseKey], None],
        on_append: Callable[[LeaseKey, LeaseKey], None],
    ) -> None:
        """`on_run` is told the keys of a lease that has become that of a run, before and after;
        `on_append` before that is appended."""
        self._app = app
        self._claimed = claimed
        self._on_run = on_run
        self._on_append = on_append
        self._now_us = app.clock.now_us()

    def at_once(self) -> tuple[Begun | None, asyncio.Future[None] | None] | None:
        """`recorded`, if nothing has to be waited for before its append, which is returned with it:
        it holds if that succeeds. None: only `recorded` can do it, also if that fails."""
        claimed = self._claimed
        known = self._app.instances.expect(claimed.due)
        if known is None:
            return None
        id = known.instance.id
        definition = self._app.registry.of(id)
        begun = self._app.units.claim_at_once(
            definition,
            id,
            self._request,
            lease_token=claimed.token,
            claim=self._lease,
            ends_lease=self._gives_up,
        )
        if begun is None:
            return None
        outcome, appending = begun
        return self._begun(outcome), appending

    async def recorded(self) -> Begun | None:
        """Decide what the instance is due for, and record that; None if it is not to be begun: then
        nothing is recorded, and the lease is given up.

        Waits for a handler of the instance that is running. Raises `LeaseLostError` if the instance
        was cleared or taken over meanwhile, `HistoryError` if it cannot be read (it is parked
        then), and `StoreUnavailableError`. Killed before the append: it is claimed again when the
        lease ends, and no run was open; after it, the run is lost then.
        """
        claimed = self._claimed
        self._app.instances.expect(claimed.due)
        id = InstanceId.parse(claimed.stream)
        try:
            outcome = await self._app.request(
                self._app.registry.of(id),
                id,
                self._request,
                lease_token=claimed.token,
                claim=self._lease,
                ends_lease=self._gives_up,
            )
        except JobPaused:
            return None
        finally:
            claimed.stage = "waits"
        begun = self._begun(outcome)
        self.appended(begun)
        return begun

    def appended(self, begun: Begun | None) -> None:
        """What was decided is recorded."""
        self._claimed.stage = "begun"
        if begun is not None and begun.call is not None:
            before, self._claimed.token = self._claimed.key, begun.instance.version
            self._on_run(before, self._claimed.key)

    @property
    def _request(self) -> Claim:
        due = self._claimed.due
        takes_over = due.expired is not None and due.expired.run
        may_run = due.run or job_of(due.stream) not in self._app.registry.limits()
        return Claim(self._claimed.worker, takes_over, self._app.settings.max_lost, may_run)

    def _lease(self, now_us: int, version: int) -> Lease:
        """That of the run, which is about to be appended."""
        self._on_append(self._claimed.key, (self._claimed.stream, version))
        until_us = now_us + self._app.settings.lease_us
        return Lease(self._claimed.worker, until_us, version, run=True)

    def _gives_up(self, after: Instance) -> bool:
        """Whether the lease ends with what was decided; asked right before that is appended."""
        self._claimed.stage = "recorded"
        return not has_ready_event(after, self._now_us)

    def _begun(self, outcome: RequestOutcome) -> Begun | None:
        after = outcome.after
        if after is None:
            raise AssertionError(f"a claim of {self._claimed.stream} had no outcome")
        if outcome.call is not None or has_ready_event(after, self._now_us):
            return Begun(after, outcome.call)
        return None


async def rearm(app: Application, stream: str, version: int) -> None:
    """Restore the alarm, or end the run, of an instance that was found stranded at `version`.

    Nothing happens if it has moved on since: then somebody works on it.
    """
    id = InstanceId.parse(stream)
    app.instances.evict(stream)
    request = Rearm(version, app.settings.max_lost)
    origin = Origin(actor="sweep")
    outcome = await app.request(app.registry.of(id), id, request, origin=origin)
    if outcome.after is not None:
        _LOG.warning("%s had work but no alarm: re-armed", stream, extra={"instance": stream})


async def give_up(app: Application, claimed: Claimed) -> None:
    """Give the lease up, once all that was done under it is appended. Killed before: it ends.

    A run that was lost, and that this claim took over, has no lease then: its loss is recorded, or
    nobody would find it before a sweep.
    """
    await app.instances.settled(claimed.stream)  # what is being appended was done under this lease
    await app.threads.write(app.store.release, claimed.worker, [claimed.key])
    if claimed.holds_lost_run:
        await rearm(app, claimed.stream, claimed.due.version)


def next_due_us(app: Application, jobs: Sequence[str], now_us: int) -> int | None:
    """When there may be something to claim. Blocks; called on the alarm clock's thread."""
    return app.store.next_due_us(jobs, now_us, app.registry.limits())


def has_ready_event(after: Instance, now_us: int) -> bool:
    """Whether the next thing to do at `now_us` is to handle a deferred event: an alarm that was due
    before it has its turn first, or those who keep sending would hold it up for ever."""
    wake = next_wake(after)
    return wake is not None and wake.action == "deferred" and wake.due_us <= now_us
