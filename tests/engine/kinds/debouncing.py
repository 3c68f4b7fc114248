"""What the tests of Debounce share: a stage for one definition, `job`, and its instance `a`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

import pytest

from tests.auditing import audit_all
from tests.support import START, WAIT_S
from wakelog import AddResult, BlockingDebounceClient, Debounce, DebounceStatus, Jobs
from wakelog.core.events import (
    Cleared,
    DeadLettered,
    Event,
    EventReceived,
    Flushed,
    RunStarted,
    Started,
)
from wakelog.log.records import Recorded
from wakelog.testing import Simulation

__all__ = [
    "Batch",
    "Seen",
    "Stage",
    "Staging",
    "after",
    "debounce_of",
    "elsewhere",
    "fates",
    "staged",
    "stages",
]

Found = TypeVar("Found", bound=Event)


class Batch(NamedTuple):
    """What a flush has seen."""

    events: list[Any]
    state: Any
    reason: str
    at: datetime
    attempt: int


@dataclass
class Seen:
    """Flushes as `execute` saw them; it raises what is in `raises`, from the front."""

    batches: list[Batch] = field(default_factory=list[Batch])
    raises: list[BaseException] = field(default_factory=list[BaseException])

    def execute(self, ctx: Any) -> None:
        seen = Batch(ctx.events, ctx.state, ctx.flush_reason, ctx.now, ctx.attempt)
        self.batches.append(seen)
        if self.raises:
            raise self.raises.pop(0)

    @property
    def events(self) -> list[list[Any]]:
        return [batch.events for batch in self.batches]


def debounce_of(
    execute: Callable[..., Any], *, state: Any = None, event: Any = Any, **given: Any
) -> Debounce[Any, Any]:
    """A Debounce with these handlers and options, five seconds long unless it says otherwise."""
    names = ("on_event", "on_idle", "on_error", "on_retry_exhausted", "on_client_get_state")
    handlers = {name: given.pop(name) for name in names if name in given}
    if state is not None:
        given["state"] = state
    job: Debounce[Any, Any] = Debounce(event=event, **{"flush_after": "5s", **given})
    job.execute(execute)
    for name, handler in handlers.items():
        getattr(job, name)(handler)
    return job


@dataclass
class Stage:
    """A simulation of one Debounce, `job`, with verbs for its instance `a`."""

    sim: Simulation
    job: Debounce[Any, Any]
    seen: Seen
    url: str

    @property
    def client(self) -> BlockingDebounceClient[Any, Any]:
        return self.sim.debounce(self.job)

    def add(self, *events: Any, id: str = "a", **options: Any) -> AddResult:
        """Add events; the answer to the last one."""
        result: AddResult = [self.client.add(id, event, **options) for event in events][-1]
        return result

    def status(self, id: str = "a") -> DebounceStatus:
        return self.client.status(id)

    def recorded(self, id: str = "a") -> list[Recorded]:
        return self.sim.events(f"debounce:job:{id}")

    def names(self, id: str = "a") -> list[str]:
        return [type(each.event).__name__ for each in self.recorded(id)]

    def found(self, kind: type[Found], id: str = "a") -> list[Found]:
        return [each.event for each in self.recorded(id) if isinstance(each.event, kind)]

    def audit(self) -> None:
        if not self.sim.is_closed:
            for stream, history in audit_all(self.sim.application.store).items():
                fates(history, self.job.window_rule.max_events)
                assert stream.startswith("debounce:")


class Staging(Protocol):
    """Builds a stage; without `execute` its flushes are noted in `seen`."""

    def __call__(self, *, sim: Any = None, **given: Any) -> Stage: ...


def staged(url: str, sim: Any = None, **given: Any) -> Stage:
    """A stage on the store at `url`."""
    seen = Seen()
    job = debounce_of(given.pop("execute", seen.execute), **given)
    return Stage(Simulation(Jobs(job=job), url=url, **(sim or {})), job, seen, url)


@pytest.fixture
def stages(store_url: str) -> Iterator[Staging]:
    """Stages on the same store; at the end everything must add up."""
    made: list[Stage] = []

    def build(*, sim: Any = None, **given: Any) -> Stage:
        made.append(staged(store_url, sim, **given))
        return made[-1]

    with ExitStack() as closing:
        yield build
        for each in made:
            closing.enter_context(each.sim)
        for each in made:
            each.audit()


def elsewhere(stage: Stage, ask: Callable[[BlockingDebounceClient[Any, Any]], Any]) -> Any:
    """What `ask` answers in another process on the same store, at the same time."""

    def run() -> Any:
        with Simulation(Jobs(job=stage.job), url=stage.url, start=stage.sim.now) as other:
            return ask(other.debounce(stage.job))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result(WAIT_S)


def after(seconds: float) -> datetime:
    """So long after the simulation began."""
    return START + timedelta(seconds=seconds)


def fates(history: Sequence[Recorded], max_events: int) -> dict[int, str]:
    """What became of each accepted event, by its version; fails where D4 does not hold.

    Each is open, or in one flushed, dead-lettered or cleared batch; batches are in order, each
    of one window and as their run has named them, and none is larger than `max_events`.
    """
    fate: dict[int, str] = {}
    window: dict[int, tuple[int, int]] = {}
    taken: tuple[int, ...] = ()
    life, gone = 0, 0
    for each in history:
        event = each.event
        match event:
            case Started():
                life += 1
            case EventReceived():
                assert event.window is not None
                fate[each.version], window[each.version] = "open", (life, event.window)
            case RunStarted():
                taken = event.events
            case Flushed(events=events) | DeadLettered(events=events) if events:
                left = [version for version, what in fate.items() if what == "open"]
                assert list(events) == left[: len(events)], "a batch is not the oldest events"
                assert taken == events, "its run has named other events"
                assert len({window[version] for version in events}) == 1
                assert len(events) <= max_events
                assert events[0] > gone
                gone = events[-1]
                fate.update(dict.fromkeys(events, type(event).__name__))
            case DeadLettered():
                assert fate[event.event_version] == "open"
                fate[event.event_version] = "DeadLettered"
            case Cleared(by=by):
                left = [version for version, what in fate.items() if what == "open"]
                ends = left if by != "handler" else left[: event.discarded]
                assert len(ends) == event.discarded
                fate.update(dict.fromkeys(ends, "Cleared"))
                for version in left[len(ends) :]:  # they open the next life, in their windows
                    window[version] = (life + 1, window[version][1])
            case _:
                pass
    return fate
