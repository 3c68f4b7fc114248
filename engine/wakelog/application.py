"""The application: one object behind an open app, which wires the store, the jobs and the runtime.

Built on the eventsourcing library's `Application`, so that its notification log and projections
work on our log. Clients and workers share one.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import eventsourcing.application as library
from eventsourcing.persistence import ApplicationRecorder, InfrastructureFactory
from eventsourcing.utils import Environment

from wakelog.affinity import Affinity
from wakelog.clock import Clock
from wakelog.definitions.registry import Registry
from wakelog.execution.handler_runner import HandlerRunner
from wakelog.log.mapper import LogMapper
from wakelog.pools.state import job_stream
from wakelog.ports.inbox import InboxRow
from wakelog.ports.records import StoredEvent
from wakelog.ports.store import Store
from wakelog.ports.units import Unit
from wakelog.runtime.append_driver import AppendDriver
from wakelog.runtime.batch_reads import BatchReader
from wakelog.runtime.group_commit import GroupCommit
from wakelog.runtime.instances import Instances
from wakelog.runtime.job_pauses import JobPauses
from wakelog.runtime.pool_calls import PoolCalls
from wakelog.runtime.store_threads import StoreThreads
from wakelog.runtime.stream_watch import EVERY_STREAM, StreamWatch
from wakelog.runtime.unit_of_work import UnitsOfWork
from wakelog.runtime.unit_records import UnitRecords
from wakelog.settings import Settings

__all__ = ["Application"]


class Application(library.Application[str]):
    """The parts of one process at work. Made, used and closed on its event loop."""

    name = "wakelog"
    deliver: Callable[[Sequence[InboxRow]], Awaitable[None]] | None = None
    """Makes events of rows of the inbox; set by what knows how each is sent."""

    def __init__(
        self,
        factory: InfrastructureFactory[Any],
        registry: Registry,
        clock: Clock,
        settings: Settings,
        *,
        inline: bool = False,
        seed: int | None = None,
    ) -> None:
        """Work on the store of `factory`. `inline`: nothing on other threads, for simulations.

        Raises `ThreadsExhaustedError`, and leaves no thread then.
        """
        self._given_factory = factory
        super().__init__()
        self.affinity = Affinity()
        """The process and the event loop that it is to be used in."""
        self.store = cast(Store, self.recorder)
        self.registry = registry
        self.clock = clock
        self.settings = settings
        self.on_wake: Callable[[int], None] = lambda due_us: None
        """Called with the earliest alarm of each append, in microseconds since 1970."""
        self.on_cleared: Callable[[str], None] = lambda stream: None
        """Called with each stream whose life was ended from outside."""
        self.on_sent: Callable[[Sequence[str]], None] = lambda senders: None
        """Called with the streams that have sent messages to other jobs, once that is recorded."""
        self.stopping = False
        """This process is shutting down: begin nothing that can wait."""
        self.threads = StoreThreads(blocking=self.store.blocking, inline=inline)
        self.handler_runner = HandlerRunner(self, clock, inline=inline, limit=settings.threads)
        self.stream_watch = StreamWatch(clock, self._events_after)
        self.job_pauses = JobPauses(self.store, self.threads.reads, clock)
        self.instances = Instances(
            self.store, self.threads, self.stream_watch, limit=settings.cache, inline=inline
        )
        self.commits = self._group_commit()
        entropy = self._entropy(seed)
        self.records = UnitRecords(entropy, settings.snapshot_every)
        self.units = UnitsOfWork(
            self.store,
            self.threads,
            self.handler_runner,
            self.instances,
            self.records,
            self.commits,
            self.job_pauses,
            clock,
            entropy,
            idempotency_window_us=settings.idempotency_window_us,
        )
        self.pools = PoolCalls(self.store, self.threads, clock, entropy)
        self.pools.on_sent = lambda senders: self.on_sent(senders)
        self.pools.on_call = self._pool_called
        self.request = self.units.run
        """Put a request to an instance: one unit of work; see `UnitsOfWork.run`."""

        self.lease_tokens = BatchReader(self.threads.reads, self.store.lease_tokens, at_once=inline)
        """The token of the lease on a stream, as recorded now."""

    def _group_commit(self) -> GroupCommit:
        threads = self.threads
        driver = None if threads.writes is None else AppendDriver(self.store, threads.writes)
        return GroupCommit(
            self.store,
            driver,
            None if driver is None else AppendDriver(self.store, threads.waits),
            on_refused=self._refused,
            on_appended=self._appended,
        )

    def _entropy(self, seed: int | None) -> random.Random:
        if seed is None:
            return secrets.SystemRandom()
        # With the position, so that no commit id comes twice if the store is opened again.
        return random.Random(f"{seed}@{self.recorder.max_notification_id()}")

    # -- the eventsourcing library's hooks

    def construct_env(self, name: str, env: Mapping[str, str] | None = None) -> Environment:
        """Nothing from the process's environment: it may belong to another application."""
        return Environment(name, {})

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        return self._given_factory

    def construct_mapper(self) -> LogMapper:
        return LogMapper()

    def construct_recorder(self) -> ApplicationRecorder:
        return self.factory.application_recorder()

    # -- what becomes of units

    def _refused(self, unit: Unit) -> None:
        self.instances.evict(unit.stream)

    def _appended(self, units: Sequence[Unit], due_us: int | None) -> None:
        for unit in units:
            key = None if unit.kept_reply is None else unit.kept_reply.key
            self.instances.appended(unit.stream, unit.after, unit.hash, key)
            if unit.lease_token is None and unit.after.started_us is None:
                self.on_cleared(unit.stream)
        if due_us is not None:
            self.on_wake(due_us)
        self.stream_watch.notify(EVERY_STREAM)
        senders = [unit.stream for unit in units if unit.sent]
        if senders:
            self.on_sent(senders)

    def _pool_called(self, job: str) -> None:
        self.stream_watch.notify(job_stream(job))
        self.stream_watch.notify(EVERY_STREAM)

    async def _events_after(self, stream: str, version: int) -> Sequence[StoredEvent]:
        return await self.threads.read(self.store.events, stream, after=version)

    def close(self) -> None:
        """Close the threads and the store, also if that is interrupted. Await `commits.drained()`
        first. Safe to call twice."""
        with ExitStack() as closing:
            closing.callback(self.threads.join)
            closing.callback(self.store.close)
            closing.callback(self.handler_runner.close)
            closing.callback(self.threads.close)

    def __del__(self) -> None:
        """Unlike the library's: the store may have a new application by now."""
