"""What the exam writes with: units as an engine would make them, without an engine."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

from wakelog.core.events import Event, EventReceived, RunStarted, Scheduled, Started, StateSet
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance, next_wake
from wakelog.ids import InstanceId, Kind
from wakelog.log.records import hash_of
from wakelog.log.status_row import status_row
from wakelog.ports.messages import sent_in
from wakelog.ports.records import StoredEvent
from wakelog.ports.rows import StatusRow
from wakelog.ports.units import Appended, ClaimRequest, KeptReply, Lease, Unit

__all__ = ["NOW", "ORDERS", "UnitBuilder", "claim_request", "in_parallel", "kept_reply", "kinds"]

NOW = 1_700_000_000_000_000
ORDERS = "task:order"


class UnitBuilder:
    """Makes the units of one instance as an engine would, each on top of the one before it."""

    def __init__(self, id: str = "o-1", name: str = "order", kind: Kind = "task") -> None:
        self.instance = Instance(InstanceId(kind, name, id))
        self.stream = str(self.instance.id)
        self.hash = ""
        """Of the newest event."""

    @property
    def row(self) -> StatusRow:
        """The status row after the last unit."""
        return status_row(self.instance, self.hash, next_wake(self.instance))

    def unit(self, *events: Event, at_us: int = NOW, **extras: Any) -> Unit:
        """A unit with these events, recorded as bytes that are no text; `extras` are its fields."""
        base, base_hash = self.instance.version, self.hash
        self.instance = fold(self.instance, events, at_us)
        stored = [
            StoredEvent(self.stream, version, event.TOPIC, _state_of(self.stream, version))
            for version, event in enumerate(events, base + 1)
        ]
        if stored:
            self.hash = hash_of(stored[-1])
        sent = sent_in(events, base)
        return Unit(
            self.stream, base, base_hash, stored, self.instance, self.hash, "commit", now_us=at_us,
            sent=sent, **extras,
        )  # fmt: skip

    def begin(self, due_us: int | None = None, *, at_us: int = NOW, **extras: Any) -> Unit:
        """A first unit: started, with a state, and scheduled if `due_us` is given."""
        id = self.instance.id
        events: list[Event] = [
            Started(kind=id.kind, name=id.name, id=id.id, input=None),
            StateSet(state='{"status":"pending"}'),
        ]
        if due_us is not None:
            events.append(Scheduled(due_us=due_us))
        return self.unit(*events, at_us=at_us, **extras)

    def run(self, owner: str, until_us: int, *, at_us: int = NOW, **extras: Any) -> Unit:
        """A unit that starts a run, and takes the lease for it."""
        token = self.instance.version + 1
        run = self.instance.run_count + 1
        started = RunStarted(run=run, due_us=at_us, worker=owner)
        taken = Lease(owner, until_us, token, True)
        return self.unit(started, at_us=at_us, take=taken, unless_paused=True, **extras)

    def receive(self, **extras: Any) -> Unit:
        """A unit with one more event from outside."""
        return self.unit(EventReceived(payload="{}"), **extras)

    def fork(self) -> UnitBuilder:
        """Another writer, at the same version as this one is now."""
        return copy.copy(self)


def _state_of(stream: str, version: int) -> bytes:
    """What a test stores as an event: bytes that no store may interpret."""
    return b"\x00\xff" + f"{stream}#{version}".encode()


def claim_request(token: int = -1, **changes: Any) -> ClaimRequest:
    """A claim of orders by "w1" with leases that end at NOW + 1000; `changes` are its fields."""
    return ClaimRequest(NOW, (ORDERS,), 10, "w1", 1000, token)._replace(**changes)


def kept_reply(key: str, expires_us: int | None = None, body: str = "{}") -> KeptReply:
    """The reply to a request with this key."""
    return KeptReply(key, "send", "f1", body, expires_us)


def kinds(appended: Appended) -> list[type[Exception] | None]:
    """For each unit, None or the class of the error that refused it."""
    return [None if error is None else type(error) for error in appended.errors]


def in_parallel(threads: Sequence[threading.Thread]) -> None:
    """Start them all, and wait for all."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
