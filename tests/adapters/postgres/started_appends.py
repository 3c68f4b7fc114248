"""Appends that are started and received as by an event loop, but without one."""

from __future__ import annotations

import dataclasses
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil  # type: ignore[import-untyped]
from msgspec.structs import replace

from tests.support import WAIT_S
from wakelog.ports.units import Appended, Unit
from wakelog_adapters.conformance.units import NOW, UnitBuilder
from wakelog_adapters.postgres import PostgresStore
from wakelog_adapters.postgres.append_started import SentAppend
from wakelog_adapters.postgres.connections import Datastore
from wakelog_adapters.postgres.url import parse

__all__ = [
    "StartingStore",
    "all_are_back",
    "backend",
    "ended",
    "large",
    "opened",
    "started",
    "stopped",
]

ATTEMPTS = 20
MANY_BYTES = 24 << 20
"""Far more than the buffers of any socket hold."""


class StartingStore(PostgresStore):
    """Starts each append that can be started."""

    begun = 0
    missed = 0
    """Good appends that were not started."""

    def append(self, units: Sequence[Unit]) -> Appended:
        sent = self.start_append(units)
        if sent is not None:
            self.begun += 1
            return ended(sent)
        appended = super().append(units)
        self.missed += bool(units) and not any(appended.errors)
        return appended


def opened(url: str, *, pool: int | None = None) -> StartingStore:
    """A store with an idle connection; `pool` may be smaller than a URL allows."""
    place = parse(url)
    place = place if pool is None else dataclasses.replace(place, pool=pool)
    store = StartingStore(Datastore(place), place)
    store.datastore.pool.wait(WAIT_S)
    return store


def started(store: PostgresStore, units: Sequence[Unit]) -> SentAppend:
    """An append that was started.

    The pool is given a millisecond to hand out a connection that it has. A thread that the system
    stops for as long is too late, although the connection is there: then it is asked again.
    """
    for _ in range(ATTEMPTS):
        sent = store.start_append(units)
        if sent is not None:
            return sent
    raise AssertionError("not started")


def ended(sent: SentAppend) -> Appended:
    """Wait for its end at its socket, and return its result."""
    while not sent.is_over:
        writing = [sent.socket] if sent.is_sending else []
        assert any(select.select([sent.socket], writing, [], WAIT_S)), "nothing was received"
        sent.look()
    appended = sent.result()
    return sent.settle() if appended is None else appended


def all_are_back(store: PostgresStore) -> None:
    """Each connection of a pool of one has come back, and the next append can be started."""
    with store.datastore.lend():  # waits while it is being replaced
        pass
    found = store.datastore.pool.get_stats()
    assert (found["pool_size"], found["pool_available"]) == (1, 1)
    assert found["requests_waiting"] == 0
    assert store.datastore.lent == 0


def large(builder: UnitBuilder, size: int = MANY_BYTES) -> Unit:
    """A first unit that takes a while to send."""
    unit = builder.begin(NOW)
    first = unit.events[0]
    return replace(unit, events=[replace(first, state=bytes(size)), *unit.events[1:]])


def backend(store: PostgresStore) -> int:
    """The server's process of the one connection of a pool."""
    with store.datastore.lend() as connection:
        return connection.info.backend_pid


@contextmanager
def stopped(pid: int) -> Iterator[Callable[[], None]]:
    """A process that is stopped until the yielded function is called, or the block ends."""
    process = psutil.Process(pid)

    def resume() -> None:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)

    process.send_signal(signal.SIGSTOP)
    try:
        yield resume
    finally:
        resume()
