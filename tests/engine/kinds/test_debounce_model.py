"""Debounce under any sequence of adds, flushes, failures, crashes and restarts: every accepted
event ends in one batch, in order, none too large, and nothing is ever dormant (D4, D5, D7)."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.auditing import audit
from tests.engine.kinds.debouncing import Batch, debounce_of, fates
from tests.support_postgres import new_stores
from wakelog import Debounce, ExecutionError, Jobs, Retry
from wakelog.core.events import DeadLettered, EventReceived, Flushed
from wakelog.log.records import Recorded
from wakelog.settings import Settings
from wakelog.testing import SimulatedCrash, Simulation

MAX_EVENTS = 3
NAMES = ["plain", "sliding"]
PASSES_S = [0, 1, 3, 5, 31]


Point = Literal["before_write", "after_write"]


class Broken(Exception):
    """What handlers raise while they are told to."""


calmly = precondition(lambda self: not (self.crashing or self.fails or self.refuses))
"""For what is told as a story: nothing else goes wrong."""


class DebounceMachine(RuleBasedStateMachine):
    """Two definitions in a simulation, asked anything, and looked at after each step."""

    def new_url(self) -> str:
        """Where a game is played."""
        return "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.number = 0
        self.fails = self.refuses = self.clears = False
        self.dies: Point | None = None
        """Before or after which write its process dies, once `execute` has done its work."""
        self.acknowledged: dict[str, list[int]] = {name: [] for name in NAMES}
        self.doubtful: set[int] = set()
        """Events whose add died: it may have been recorded."""
        self.handed: dict[str, list[Batch]] = {name: [] for name in NAMES}
        self.crashing = False
        self.sim = Simulation(
            Jobs(
                plain=self._job("plain", retry=Retry.simple(2)),
                sliding=self._job("sliding", mode="sliding", max_wait="12s"),
            ),
            url=self.new_url(),
            settings=Settings(snapshot_every=3, cache=1, max_lost=1_000),
        )

    def _job(self, name: str, **options: Any) -> Debounce[Any, Any]:
        def reduce(ctx: Any, event: int) -> list[int]:
            if self.refuses:
                raise Broken("reduce")
            assert ctx.event_count == len(ctx.state or ()) + 1
            return [*(ctx.state or []), event]

        def execute(ctx: Any) -> None:
            if self.dies is not None:
                self.sim.crash_next(self.dies)
            if self.fails:
                raise Broken("execute")
            assert ctx.state == ctx.events, "not reduced whole, or not alone"
            batch = Batch(ctx.events, ctx.state, ctx.flush_reason, ctx.now, ctx.attempt)
            self.handed[name].append(batch)
            if self.clears:
                ctx.clear()

        return debounce_of(
            execute,
            state=list[int],
            event=int,
            on_event=reduce,
            max_events=MAX_EVENTS,
            **options,
        )

    def teardown(self) -> None:
        """Let everything come to its end: then no event is open."""
        try:
            self._restart()
            self.fails = self.refuses = self.clears = False
            for name in NAMES:
                self.sim.debounce(name).resume("a")
            self.sim.run_until_idle()
            for name in NAMES:
                left = [what for what in self._fates(name).values() if what == "open"]
                assert left == []
                status = self.sim.debounce(name).status("a")
                assert (status.event_count, status.window_count) == (0, 0)
        finally:
            self.sim.close()
            self.folder.cleanup()

    # -- the world around

    @rule(point=st.sampled_from(["before_write", "after_write"]))
    def crash_soon(self, point: Point) -> None:
        self.sim.crash_next(point)
        self.crashing = True

    @rule()
    def restart(self) -> None:
        self._restart()

    @rule()
    def break_or_mend_flushes(self) -> None:
        self.fails = not self.fails

    @rule()
    def break_or_mend_the_reducer(self) -> None:
        self.refuses = not self.refuses

    @rule(seconds=st.sampled_from(PASSES_S))
    def advance(self, seconds: int) -> None:
        self._try(lambda: self.sim.advance(timedelta(seconds=seconds)))

    # -- requests

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def add(self, name: str, count: int) -> None:
        for _ in range(count):
            self._add(name)

    def _add(self, name: str) -> None:
        self.number += 1
        number = self.number
        before = self.sim.debounce(name).status("a")
        try:
            answer = self.sim.debounce(name).add("a", number)
        except ExecutionError as error:
            if not isinstance(error.__cause__, Broken):
                raise
            return
        except SimulatedCrash:
            self.doubtful.add(number)
            self._restart()
            return
        self.acknowledged[name].append(number)
        after = self.sim.debounce(name).status("a")
        assert after.event_count == before.event_count + 1
        assert after.window_count == before.window_count + answer.created
        assert 1 <= answer.event_count <= MAX_EVENTS
        assert answer.flush_started == (answer.event_count == MAX_EVENTS)

    @rule(name=st.sampled_from(NAMES))
    def flush(self, name: str) -> None:
        self._try(lambda: self.sim.debounce(name).flush("a", wait=False))

    @rule(name=st.sampled_from(NAMES), on=st.booleans())
    def pause_or_resume(self, name: str, on: bool) -> None:
        client = self.sim.debounce(name)
        self._try(lambda: client.pause("a") if on else client.resume("a"))

    @rule(name=st.sampled_from(NAMES))
    def clear(self, name: str) -> None:
        before = self.sim.debounce(name).status("a").event_count
        answer = self._try(lambda: self.sim.debounce(name).clear("a"))
        assert answer is None or answer.discarded == before

    # -- what seldom comes by chance

    @calmly
    @rule(
        name=st.sampled_from(NAMES),
        point=st.sampled_from(["before_write", "after_write"]),
        times=st.integers(1, 2),
        more=st.integers(0, 4),
    )
    def die_in_a_flush(self, name: str, point: Point, times: int, more: int) -> None:
        """After `execute` was called, before or after its outcome was written; others add."""
        self._add(name)
        self.flush(name)
        self.dies = point
        for _ in range(times):
            self.advance(31)
        self.dies = None
        self.add(name, more)
        self.advance(31)

    @calmly
    @rule(
        name=st.sampled_from(NAMES),
        more=st.integers(0, 4),
        mended=st.booleans(),
        seconds=st.sampled_from(PASSES_S),
    )
    def fail_in_a_flush(self, name: str, more: int, mended: bool, seconds: int) -> None:
        """And add before the batch is tried again, or after it is kept as a dead letter."""
        self._add(name)
        self.fails = True
        self.flush(name)
        self.advance(0)
        self.add(name, more)
        self.advance(0)
        self.fails = not mended
        self.advance(seconds)

    @calmly
    @rule(name=st.sampled_from(NAMES), count=st.integers(2, 8), refuses=st.booleans())
    def add_while_it_is_paused(self, name: str, count: int, refuses: bool) -> None:
        self._add(name)
        self.pause_or_resume(name, True)
        self.add(name, count)
        self.refuses = refuses
        self.pause_or_resume(name, False)
        self.advance(0)
        self.refuses = False
        self.advance(5)

    @calmly
    @rule(name=st.sampled_from(NAMES), more=st.integers(0, 4))
    def clear_in_a_flush(self, name: str, more: int) -> None:
        """What waits in later windows opens the next life."""
        self._add(name)
        self.flush(name)
        self.add(name, more)
        self.clears = True
        self.advance(0)
        self.clears = False

    def _try(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except SimulatedCrash:
            self._restart()
            return None

    def _restart(self) -> None:
        self.crashing = False
        self.sim.restart()

    # -- what must hold

    def _history(self, name: str) -> list[Recorded]:
        return audit(self.sim.application.store, f"debounce:{name}:a")

    def _fates(self, name: str) -> dict[int, str]:
        return fates(self._history(name), MAX_EVENTS)

    @precondition(lambda self: not self.crashing)
    @invariant()
    def every_event_is_in_one_place(self) -> None:
        for name in NAMES:
            history = self._history(name)
            found = fates(history, MAX_EVENTS)
            self._check_accepted(name, history)
            self._check_batches(name, history)
            status = self.sim.debounce(name).status("a")
            still_open = sum(what == "open" for what in found.values())
            assert status.event_count == still_open
            self._check_awake(name, status)

    def _check_accepted(self, name: str, history: list[Recorded]) -> None:
        """What was acknowledged was recorded once, in order; else only what died on the way."""
        accepted = [int(e.payload or 0) for e in _found(history, EventReceived)]
        assert [n for n in accepted if n not in self.doubtful] == self.acknowledged[name]
        assert accepted == sorted(set(accepted))

    def _check_batches(self, name: str, history: list[Recorded]) -> None:
        """What is recorded as flushed was handed over: the same events, in that order."""
        payloads = {
            each.version: int(each.event.payload or 0)
            for each in history
            if isinstance(each.event, EventReceived)
        }
        handed = Counter((tuple(b.events), b.reason) for b in self.handed[name])
        for flushed in _found(history, Flushed):
            events = tuple(payloads[version] for version in flushed.events)
            assert handed[events, flushed.reason] >= 1, "handed over another batch, or never"
        for dead in _found(history, DeadLettered):
            is_lost = dead.reason == "lost"  # its last attempt died with its worker
            assert dead.error_type == ("ExecutionLost" if is_lost else "Broken")

    def _check_awake(self, name: str, status: Any) -> None:
        """Where an event is open there is an alarm, or a run that will be found lost."""
        if status.event_count == 0 or status.status == "paused":
            return
        awake = {alarm.instance_id for alarm in self.sim.alarms()}
        store = self.sim.application.store
        now_us = self.sim.clock.now_us()
        assert f"debounce:{name}:a" in awake or status.status == "flushing"
        assert store.next_due_us([f"debounce:{name}"], now_us) is not None


def _found(history: list[Recorded], kind: type[Any]) -> list[Any]:
    return [each.event for each in history if isinstance(each.event, kind)]


class OnSQLite(DebounceMachine):
    """The same on a file."""

    def new_url(self) -> str:
        return f"sqlite:///{self.folder.name}/jobs.db"


def play(machine: type[DebounceMachine], examples: int, steps: int) -> None:
    """Let Hypothesis play."""
    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
    )
    run_state_machine_as_test(machine, settings=bounds)


@pytest.mark.parametrize(("machine", "examples"), [(DebounceMachine, 100), (OnSQLite, 30)])
def test_every_event_ends_in_one_batch(machine: type[DebounceMachine], examples: int) -> None:
    play(machine, examples, 25)


def test_every_event_ends_in_one_batch_on_a_server(postgres_server: str) -> None:
    with new_stores(postgres_server) as new_store:

        class OnServer(DebounceMachine):
            def new_url(self) -> str:
                return new_store()

        play(OnServer, 15, 25)


@pytest.mark.chaos
@pytest.mark.parametrize("machine", [DebounceMachine, OnSQLite])
def test_every_event_ends_in_one_batch_for_long(machine: type[DebounceMachine]) -> None:
    play(machine, 600, 50)
