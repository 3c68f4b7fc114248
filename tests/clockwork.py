"""A simulation of one Continuous job, to be wound up by a test."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.auditing import audit_all
from wakelog import Continuous, ContinuousContext, ContinuousStatus, Jobs
from wakelog.blocking import BlockingContinuousClient
from wakelog.testing import Simulation

__all__ = [
    "START",
    "Clockwork",
    "Ctx",
    "Winding",
    "at",
    "count",
    "fail",
    "outage",
    "winding",
]

Ctx = ContinuousContext[int]
START = datetime(2026, 3, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    """A moment of March 2026, as in `01 00:30`."""
    return datetime.strptime(f"2026-03-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


@dataclass
class Clockwork:
    """A simulation of one Continuous job, with what its runs were."""

    sim: Simulation
    job: Continuous[int]
    runs: list[datetime]
    url: str

    @property
    def client(self) -> BlockingContinuousClient[int]:
        return self.sim.continuous(self.job)

    def status(self, id: str = "a") -> ContinuousStatus:
        return self.client.status(id)

    def found(self, kind: type[Any], id: str = "a") -> list[Any]:
        recorded = self.sim.events(f"continuous:job:{id}")
        return [each.event for each in recorded if isinstance(each.event, kind)]


Winding = Callable[..., Clockwork]


@contextmanager
def winding(store_url: str) -> Generator[Winding]:
    """Builds simulations on one store; at the end all that lies in it must add up."""
    built: list[Simulation] = []

    def build(run: Callable[[Ctx], Any] | None = None, **options: Any) -> Clockwork:
        start = options.pop("start", START)
        handlers = options.pop("handlers", {})
        job = Continuous(state=int, **options)
        runs: list[datetime] = []

        @job.execute
        async def execute(ctx: Ctx) -> None:
            runs.append(ctx.now)
            answer = (run or count)(ctx)
            if answer is not None:
                await answer

        for name, handler in handlers.items():
            getattr(job, name)(handler)
        sim = Simulation(Jobs(job=job), url=store_url, start=start)
        built.append(sim)
        return Clockwork(sim, job, runs, store_url)

    with ExitStack() as closing:
        yield build
        for sim in built:
            closing.enter_context(sim)
            if not sim.is_closed:
                audit_all(sim.application.store)


def count(ctx: Ctx) -> None:
    ctx.set_state((ctx.state or 0) + 1)


def fail(ctx: Ctx) -> None:
    raise LookupError(f"run {ctx.run_count}")


def outage(job: Clockwork, until: str) -> None:
    """No worker lives until then; when one does, it finds what is due."""
    job.sim.clock.move_to(int(at(until).timestamp() * 1_000_000))
    job.sim.advance(0)
