"""What the exam writes with: units as an engine would make them, without an engine."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

from wakelog.core.events import Event, EventReceived, RunStarted, Scheduled, Started, StateSet
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance, next_wake
from wakelog.ids import InstanceId
from wakelog.log.status_row import status_row
from wakelog.ports.records import StoredEvent
from wakelog.ports.rows import StatusRow
from wakelog.ports.units import Appended, KeptReply, Lease, Unit

__all__ = ["NOW", "ORDERS", "UnitBuilder", "in_parallel", "kept_reply", "kinds", "row_of"]

NOW = 1_700_000_000_000_000
ORDERS = "task:order"


class UnitBuilder:
    """Writes the units of one instance as an engine would, each onto the one before it."""

    def __init__(self, id: str = "o-1", name: str = "order") -> None:
        self.instance = Instance(InstanceId("task", name, id))
        self.stream = str(self.instance.id)

    def unit(self, *events: Event, at_us: int = NOW, **extras: Any) -> Unit:
        """A unit with these events; `extras` are fields of `Unit`. States are no valid text."""
        base = self.instance.version
        self.instance = fold(self.instance, events, at_us)
        stored = [
            StoredEvent(self.stream, version, event.TOPIC, _state_of(self.stream, version))
            for version, event in enumerate(events, base + 1)
        ]
        hash = f"hash-{self.instance.version}"
        return Unit(self.stream, base, stored, self.instance, hash, "commit", **extras)

    def begin(self, due_us: int | None = None, *, at_us: int = NOW, **extras: Any) -> Unit:
        """A first unit: started, with a state, and scheduled where `due_us` is given."""
        id = self.instance.id
        events: list[Event] = [
            Started(kind=id.kind, name=id.name, id=id.id, input=None),
            StateSet(state='{"status":"pending"}'),
        ]
        if due_us is not None:
            events.append(Scheduled(due_us=due_us))
        return self.unit(*events, at_us=at_us, **extras)

    def run(self, owner: str, until_us: int, *, at_us: int = NOW) -> Unit:
        """A unit that starts a run, and takes the lease for it."""
        token = self.instance.version + 1
        run = self.instance.run_count + 1
        started = RunStarted(run=run, due_us=at_us, worker=owner)
        return self.unit(started, at_us=at_us, take=Lease(owner, until_us, token, True))

    def receive(self, **extras: Any) -> Unit:
        """A unit with one more event from outside."""
        return self.unit(EventReceived(payload="{}"), **extras)

    def fork(self) -> UnitBuilder:
        """Another writer, who stands where this one stands now."""
        return copy.copy(self)


def _state_of(stream: str, version: int) -> bytes:
    """What a test stores as an event: bytes that no store may interpret."""
    return b"\x00\xff" + f"{stream}#{version}".encode()


def kept_reply(key: str, expires_us: int | None = None, body: str = "{}") -> KeptReply:
    """What a request with this key was answered."""
    return KeptReply(key, "send", "f1", body, expires_us)


def row_of(instance: Instance, hash: str) -> StatusRow:
    """The status row that a store must have of this instance."""
    return status_row(instance, hash, next_wake(instance))


def kinds(appended: Appended) -> list[type[Exception] | None]:
    """What became of each unit: None, or the class of its error."""
    return [None if error is None else type(error) for error in appended.errors]


def in_parallel(threads: Sequence[threading.Thread]) -> None:
    """Start them all, and wait for all."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
