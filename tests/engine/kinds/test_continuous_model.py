"""Continuous against a tiny reference: any sequence of calls, crashes, failures and time gives
what it says, and nothing that should go on is ever dormant."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.auditing import audit, audit_all
from tests.engine.kinds.reference_continuous import (
    DELAY_US,
    MAX_ATTEMPTS,
    MAX_CATCH_UP,
    WORDS,
    Model,
)
from tests.support_postgres import new_stores
from wakelog import Backoff, Continuous, ContinuousContext, GiveUp, Jobs, Retry, RetryAfter
from wakelog.core.events import Cleared, RunStarted
from wakelog.core.time import moment_us
from wakelog.settings import Settings
from wakelog.testing import SimulatedCrash, Simulation

Point = Literal["before_write", "after_write"]
Options = dict[str, Any]

INSTANCE = "continuous:job:a"
CADENCES: dict[str, Options] = {
    "delay": {"every": "1h"},
    "rate": {"every": "1h", "mode": "fixed_rate"},
    "cron": {"cron": "0 * * * *", "timezone": "Europe/Berlin"},
}
PASSES_US = [0, 30_000_000, DELAY_US, 17 * 60_000_000, 3_600_000_000, 19_800_000_000]


class Boom(Exception):
    """What a run raises."""


class ContinuousMachine(RuleBasedStateMachine):
    """The engine in a simulation beside the reference, asked the same things."""

    def new_url(self) -> str:
        """Where a game is played."""
        return "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.word = "count"
        self.in_handler: Point | None = None
        self.next_write: Point | None = None

    @initialize(
        recurrence=st.sampled_from(sorted(CADENCES)),
        then=st.sampled_from(["continue", "fail", "clear"]),
        catch_up=st.sampled_from(["once", "all", "skip"]),
    )
    def begin(self, recurrence: str, then: Any, catch_up: Any) -> None:
        retry = Retry(
            max_attempts=MAX_ATTEMPTS,
            delay=Backoff.constant(timedelta(microseconds=DELAY_US)),
            jitter=0,
            on_exhausted=then,
        )
        late: Options = {"catch_up": catch_up, "max_catch_up": MAX_CATCH_UP}
        job = Continuous(state=int, retry=retry, **late, **CADENCES[recurrence])
        job.execute(self._run)
        self.sim = Simulation(
            Jobs(job=job),
            url=self.new_url(),
            settings=Settings(snapshot_every=3, cache=1),
        )
        self.model = Model(recurrence != "delay", recurrence == "cron", then, catch_up)

    def teardown(self) -> None:
        if hasattr(self, "sim"):
            audit_all(self.sim.application.store)
            self.sim.close()
        self.folder.cleanup()

    async def _run(self, ctx: ContinuousContext[int]) -> None:
        if self.in_handler is not None:
            self.sim.crash_next(self.in_handler)
        match self.word:
            case "count":
                ctx.set_state((ctx.state or 0) + 1)
            case "raise":
                raise Boom
            case "again":
                raise RetryAfter(timedelta(microseconds=5 * DELAY_US), Boom())
            case "give up":
                raise GiveUp(Boom())
            case "stop":
                ctx.stop()
            case "pause":
                ctx.pause()
            case "move":
                ctx.schedule("5m")
            case _:
                ctx.clear()

    # -- the world around

    @property
    def now_us(self) -> int:
        return moment_us(self.sim.now)

    @rule(word=st.sampled_from(WORDS))
    def runs_will(self, word: str) -> None:
        self.word = word

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(point=st.sampled_from(["before_write", "after_write"]), where=st.booleans())
    def crash_soon(self, point: Point, where: bool) -> None:
        """With the next write; or with that of the outcome of the next run."""
        if where:
            self.next_write = point
            self.sim.crash_next(point)
        else:
            self.in_handler = point

    @rule()
    def restart(self) -> None:
        self.next_write = self.in_handler = None
        self.sim.restart()

    # -- requests

    @rule()
    def start(self) -> None:
        self._ask(Model.start, lambda client: client.start("a", 0, wait=False))

    @rule()
    def stop(self) -> None:
        self._ask(Model.stop, lambda client: client.stop("a"))

    @rule()
    def pause(self) -> None:
        self._ask(Model.pause, lambda client: client.pause("a"))

    @rule()
    def resume(self) -> None:
        self._ask(Model.resume, lambda client: client.resume("a"))

    @rule()
    def trigger(self) -> None:
        self._ask(Model.trigger, lambda client: client.trigger("a", wait=False))

    @rule()
    def retry(self) -> None:
        self._ask(Model.again, lambda client: client.retry("a", wait=False))

    @rule()
    def terminate(self) -> None:
        self._ask(Model.terminate, lambda client: client.terminate("a"))

    def _ask(self, change: Callable[[Model, int], bool], ask: Callable[[Any], Any]) -> None:
        """Ask the engine; let the model change if the write went through."""
        after = self.model.copy()
        writes = change(after, self.now_us)
        point = self.next_write if writes else None
        if point != "before_write":
            self.model = after
        assert self._died(lambda: ask(self.sim.continuous("job"))) == (point is not None)

    # -- time

    @rule(us=st.sampled_from(PASSES_US))
    def advance(self, us: int) -> None:
        crashes = self._pass(self.now_us, self.now_us + us)
        assert self._died(lambda: self.sim.advance(timedelta(microseconds=us))) == crashes

    @rule(us=st.sampled_from(PASSES_US))
    def outage(self, us: int) -> None:
        """No worker lives for so long."""
        self.sim.clock.move_to(self.now_us + us)

    def _pass(self, now_us: int, until_us: int) -> bool:
        """Let the model live until then; answers whether there was a crash on the way."""
        model = self.model
        while (at_us := model.claimable_us()) is not None and at_us <= until_us:
            now_us = max(now_us, at_us)
            if self.next_write == "before_write":
                return True
            begun = model.claim(now_us)
            if self.next_write == "after_write":
                return True
            if not begun:
                continue
            if self.in_handler == "before_write":
                return True
            model.finish(self.word, now_us)
            if self.in_handler == "after_write":
                return True
        return False

    def _died(self, ask: Callable[[], Any]) -> bool:
        """Whether the process died of it; then it begins again."""
        try:
            ask()
        except SimulatedCrash:
            self.restart()
            return True
        return False

    # -- what seldom comes by chance

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(word=st.sampled_from(WORDS))
    def begin_anew(self, word: str) -> None:
        self.terminate()
        self.runs_will(word)
        self.start()
        self.advance(0)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(verbs=st.lists(st.sampled_from(["stop", "pause", "start", "resume"]), max_size=3))
    def die_in_a_run(self, verbs: list[str]) -> None:
        """And ask for this and that before anybody finds that the run is lost."""
        self.begin_anew("count")
        self.crash_soon("before_write", False)
        self.advance(3_600_000_000)
        for verb in verbs:
            getattr(self, verb)()
        self.advance(30_000_000)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(times=st.integers(2, MAX_ATTEMPTS))
    def die_in_each_attempt(self, times: int) -> None:
        """Where none is left there is nobody whose failure could be told."""
        self.begin_anew("count")
        for _ in range(times):
            self.crash_soon("before_write", False)
            self.advance(3_600_000_000)
        self.advance(30_000_000)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(us=st.sampled_from([17 * 60_000_000, 3_600_000_000, 19_800_000_000]))
    def trigger_what_is_late(self, us: int) -> None:
        """Both are owed a run: what was due before, and what is asked for."""
        self.begin_anew("count")
        self.advance(1)
        self.outage(3_600_000_000 + us)
        self.trigger()
        self.advance(0)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(word=st.sampled_from(["raise", "again"]), us=st.sampled_from(PASSES_US))
    def try_again_late(self, word: str, us: int) -> None:
        self.begin_anew(word)
        self.outage(us)
        self.runs_will("count")
        self.advance(0)

    # -- what must hold

    @invariant()
    def all_agree(self) -> None:
        if self.next_write is not None or not hasattr(self, "sim"):
            return
        status, model = self.sim.continuous("job").status("a"), self.model
        assert status.status == model.word
        assert self._us(status.next_run_at) == model.due_us
        assert self._us(status.retry_at) == (model.retry[1] if model.retry else None)
        assert (status.running, status.run_count) == (model.running, model.runs)
        state = self.sim.continuous("job").get_state("a")
        assert state == (model.state if model.alive else None)

    @invariant()
    def nothing_is_dormant(self) -> None:
        """What was started and is neither stopped, paused nor failed runs or has an alarm."""
        if self.next_write is not None or not hasattr(self, "sim"):
            return
        status = self.sim.continuous("job").status("a")
        if status.status not in ("not_found", "stopped", "paused", "failed"):
            assert status.running or self.sim.alarms()

    @invariant()
    def runs_are_counted_and_never_early(self) -> None:
        if self.next_write is not None or not hasattr(self, "sim"):
            return
        numbers: list[int] = []
        for recorded in audit(self.sim.application.store, INSTANCE):
            if isinstance(recorded.event, Cleared):
                numbers = []
            if isinstance(recorded.event, RunStarted) and recorded.event.run not in numbers:
                numbers.append(recorded.event.run)
        assert numbers == [*range(1, self.model.runs + 1)]

    @staticmethod
    def _us(moment: Any) -> int | None:
        return None if moment is None else moment_us(moment)


class OnSQLite(ContinuousMachine):
    """The same on a file."""

    def new_url(self) -> str:
        return f"sqlite:///{self.folder.name}/jobs.db"


def play(machine: type[ContinuousMachine], examples: int) -> None:
    """Let Hypothesis play."""
    bounds = settings(
        max_examples=examples,
        stateful_step_count=30,
    )
    run_state_machine_as_test(machine, settings=bounds)


@pytest.mark.parametrize(("machine", "examples"), [(ContinuousMachine, 150), (OnSQLite, 40)])
def test_continuous_does_what_the_reference_says(
    machine: type[ContinuousMachine], examples: int
) -> None:
    play(machine, examples)


def test_continuous_does_so_on_a_server(postgres_server: str) -> None:
    with new_stores(postgres_server) as new_store:

        class OnServer(ContinuousMachine):
            def new_url(self) -> str:
                return new_store()

        play(OnServer, 10)
