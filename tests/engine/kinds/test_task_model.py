"""Task against a tiny reference: any sequence of calls, crashes and time gives what it says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
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

from tests.auditing import audit, audit_all
from tests.engine.kinds.reference import (
    MAX_LOST,
    WORDS,
    Act,
    Box,
    Model,
    after_error,
    when_idle,
)
from wakelog import ExecutionError, IdempotencyConflictError, Jobs, SendResult, Task, TaskContext
from wakelog.core.events import MessageSent, Started
from wakelog.core.time import moment_us
from wakelog.settings import Settings
from wakelog.testing import SimulatedCrash, Simulation

Point = Literal["before_write", "after_write"]
Name = tuple[str, str]

NAMES: list[Name] = [("plain", "a"), ("caring", "a")]
KEYS = ["k", None]
DELAYS_US = [None, None, 0, 10_000_000]
PASSES_US = [0, 10_000_000, 29_999_999, 30_000_000, 3_600_000_000]

scripts = st.lists(st.sampled_from(WORDS), max_size=3).map(tuple)
runs = scripts.filter(lambda script: "past" not in script)  # or it would run for ever
acts = st.builds(Act, now=scripts, later=st.none() | runs)


class Boom(Exception):
    """What a script's `raise` raises."""


def perform(ctx: TaskContext[Box], script: tuple[str, ...]) -> None:
    """Ask of the context what the script says."""
    for word in script:
        match word:
            case "add":
                box = ctx.state or Box()
                ctx.set_state(box.model_copy(update={"n": box.n + 1}))
            case "double" if ctx.state is not None:
                ctx.update_state(lambda box: box.model_copy(update={"n": 2 * box.n}))
            case "double":
                pass
            case "unset":
                ctx.clear_state()
            case "soon":
                ctx.schedule("10s")
            case "later":
                ctx.schedule(timedelta(hours=1))
            case "past":
                ctx.schedule(ctx.now - timedelta(days=1))
            case "cancel":
                ctx.cancel_schedule()
            case "emit":
                ctx.emit("said", {"by": ctx.id})
            case "clear":
                ctx.clear("the script says so")
            case _:
                raise Boom(ctx.id)


def make_jobs(called: Callable[[], None]) -> Jobs:
    """A Task without `on_error` and `on_idle`, and one with them. Handlers tell `called` first."""
    plain, caring = (Task(state=Box, event=Act) for _ in range(2))
    for task in (plain, caring):

        @task.on_event
        def received(ctx: TaskContext[Box], event: Act) -> None:
            called()
            if event.later is not None:
                ctx.set_state(Box(n=ctx.state.n if ctx.state else 0, later=event.later))
            perform(ctx, event.now)

        @task.execute
        async def run(ctx: TaskContext[Box]) -> None:
            called()
            perform(ctx, ctx.state.later if ctx.state else ())

    @caring.on_error
    def failed(ctx: TaskContext[Box], error: BaseException) -> None:
        assert isinstance(error, Boom)
        perform(ctx, after_error(ctx.state))

    @caring.on_idle
    async def idle(ctx: TaskContext[Box]) -> None:
        perform(ctx, when_idle(ctx.state))

    return Jobs(plain=plain, caring=caring)


def died(ask: Callable[[], Any]) -> bool:
    """Whether the process died of it. (Hypothesis shrinks no failure that is no `Exception`.)"""
    try:
        ask()
    except SimulatedCrash:
        return True
    return False


class TaskMachine(RuleBasedStateMachine):
    """The engine in a simulation beside the reference, asked the same things."""

    url = "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.in_handler: Point | None = None
        self.next_write: Point | None = None
        self.sim = Simulation(
            make_jobs(self._handler_called),
            url=self.url.format(folder=self.folder.name),
            settings=Settings(snapshot_every=3, cache=1, max_lost=MAX_LOST),
        )
        self.models = {name: Model(caring=name[0] == "caring") for name in NAMES}
        self.answers: dict[tuple[Name, str], tuple[Act, int | None, SendResult | None]] = {}
        self.touched: set[Name] = set(NAMES)

    def teardown(self) -> None:
        audit_all(self.sim.application.store)
        self.sim.close()
        self.folder.cleanup()

    # -- the world around

    @property
    def now_us(self) -> int:
        return moment_us(self.sim.now)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(point=st.sampled_from(["before_write", "after_write"]), where=st.booleans())
    def crash_soon(self, point: Point, where: bool) -> None:
        """With the next write; or with the one that follows the next call of a handler."""
        if where:
            self.next_write = point
            self.sim.crash_next(point)
        else:
            self.in_handler = point

    @rule()
    def restart(self) -> None:
        self._restart()

    def _handler_called(self) -> None:
        if self.in_handler is not None:
            self.sim.crash_next(self.in_handler)

    def _restart(self) -> None:
        self.next_write = self.in_handler = None
        self.sim.restart()

    def _asked(self, name: Name, change: Callable[[Model], bool], ask: Callable[[], Any]) -> Any:
        """Ask the engine, let the model change if the write went through; None after a crash."""
        after = self.models[name].copy()
        try:
            writes, raises = change(after), False
        except ValueError as error:
            writes, raises = "is written" in str(error) and "nothing" not in str(error), True
        calls = self.in_handler is not None and self._calls_handler
        point = self.next_write or (self.in_handler if calls else None)
        self.touched.add(name)
        if point is not None and writes:
            assert died(ask)
            if point == "after_write":
                self.models[name] = after
            self._restart()
            return None
        self.models[name] = after
        try:
            answer = ask()
        except ExecutionError as error:
            if not raises or not isinstance(error.__cause__, Boom):
                raise
            if calls:
                self._restart()  # nothing was written, but the next write would be the last
            return None
        except SimulatedCrash as crash:
            raise AssertionError("it died where nothing was to be written") from crash
        assert not raises
        return answer

    # -- requests

    @rule(
        name=st.sampled_from(NAMES),
        act=acts,
        delay_us=st.sampled_from(DELAYS_US),
        key=st.sampled_from(KEYS),
    )
    def send(self, name: Name, act: Act, delay_us: int | None, key: str | None) -> None:
        delay = None if delay_us is None else timedelta(microseconds=delay_us)
        client = self.sim.task(name[0])

        def ask() -> SendResult:
            return client.send(name[1], act, delay=delay, event_id=key)

        if key is not None and (name, key) in self.answers:
            self._send_again(name, key, act, delay_us, ask)
            return
        before = self.models[name]
        now_us = self.now_us
        self._calls_handler = delay_us is None and not before.is_busy(now_us)
        answer = self._asked(name, lambda model: model.send(act, delay_us, now_us), ask)
        accepted = self.models[name].accepted > before.accepted
        if key is not None and accepted:
            self.answers[name, key] = (act, delay_us, answer)
        if isinstance(answer, SendResult):
            self._check_answer(answer, before, self.models[name])

    def _send_again(
        self, name: Name, key: str, act: Act, delay_us: int | None, ask: Callable[[], SendResult]
    ) -> None:
        first_act, first_delay_us, first = self.answers[name, key]
        if (first_act, first_delay_us) != (act, delay_us):
            with pytest.raises(IdempotencyConflictError):
                ask()
            again = self.sim.task(name[0]).send(
                name[1],
                first_act,
                delay=None if first_delay_us is None else timedelta(microseconds=first_delay_us),
                event_id=key,
            )
        else:
            again = ask()
        assert again.duplicate
        assert first is None or again == replace(first, duplicate=True)

    def _check_answer(self, answer: SendResult, before: Model, after: Model) -> None:
        assert answer.created == (not before.alive)
        assert answer.deferred == (len(after.waiting) > len(before.waiting))
        assert not answer.duplicate
        if after.alive:
            assert answer.event_count == after.events
            assert self._us(answer.scheduled_at) == after.due_us

    @rule(name=st.sampled_from(NAMES), consume=st.booleans())
    def trigger(self, name: Name, consume: bool) -> None:
        before, self._calls_handler = self.models[name], False
        now_us = self.now_us
        answer = self._asked(
            name,
            lambda model: model.trigger(consume, now_us),
            lambda: self.sim.task(name[0]).trigger(name[1], consume_alarm=consume, wait=False),
        )
        if answer is not None:
            assert answer.reason == self._why_held(before)
            assert answer.triggered == (answer.reason is None)

    @rule(name=st.sampled_from(NAMES))
    def retry(self, name: Name) -> None:
        before, self._calls_handler = self.models[name], False
        now_us, client = self.now_us, self.sim.task(name[0])
        answer = self._asked(
            name, lambda model: model.retry(now_us), lambda: client.retry(name[1], wait=False)
        )
        if answer is not None:
            is_owed = before.failed or before.again is not None
            assert answer.reason == (self._why_held(before) or (None if is_owed else "not_failed"))
            assert answer.retried == (answer.reason is None)

    @staticmethod
    def _why_held(model: Model) -> str | None:
        if not model.alive:
            return "not_found"
        return "running" if model.running else "paused" if model.paused else None

    @rule(name=st.sampled_from(NAMES), on=st.booleans())
    def pause_or_resume(self, name: Name, on: bool) -> None:
        before, self._calls_handler = self.models[name], False
        client = self.sim.task(name[0])
        if on:
            answer = self._asked(name, Model.pause, lambda: client.pause(name[1]))
            assert answer is None or answer.paused == (before.alive and not before.paused)
        else:
            answer = self._asked(name, Model.resume, lambda: client.resume(name[1]))
            assert answer is None or answer.resumed == before.paused

    @rule(name=st.sampled_from(NAMES), after_us=st.sampled_from([None, None, 0, 20_000_000]))
    def clear(self, name: Name, after_us: int | None) -> None:
        after = None if after_us is None else timedelta(microseconds=after_us)
        before, self._calls_handler = self.models[name], False
        now_us = self.now_us
        answer = self._asked(
            name,
            lambda model: model.clear(after_us, now_us),
            lambda: self.sim.task(name[0]).clear(name[1], after=after),
        )
        if answer is not None:
            clears = after_us is None and (before.alive or bool(before.waiting))
            assert answer.cleared == clears
            assert answer.discarded == (len(before.waiting) if clears else 0)

    @rule(name=st.sampled_from(NAMES))
    def cancel_clear(self, name: Name) -> None:
        self._calls_handler = False
        client = self.sim.task(name[0])
        self._asked(name, Model.cancel_clear, lambda: client.cancel_clear(name[1]))

    # -- time

    @rule(us=st.sampled_from(PASSES_US))
    def advance(self, us: int) -> None:
        crashes = self._pass(self.now_us, self.now_us + us)
        duration = timedelta(microseconds=us)
        self.touched.update(NAMES)
        assert died(lambda: self.sim.advance(duration)) == crashes
        if crashes:
            self._restart()

    def _pass(self, now_us: int, until_us: int) -> bool:
        """Let the models live until then; answers whether there was a crash on the way."""
        while True:
            times = [model.claimable_us(now_us) for model in self.models.values()]
            next_us = min((at for at in times if at is not None), default=None)
            if next_us is None or next_us > until_us:
                return False
            now_us = max(now_us, next_us)
            due = [
                (at, f"task:{name[0]}:{name[1]}", name)
                for name, model in self.models.items()
                if (at := model.claimable_us(now_us)) is not None and at <= now_us
            ]
            name = min(due)[2]
            model, before = self.models[name], self.models[name].copy()
            left = model.claim(now_us)
            if self.next_write == "before_write":
                if left != "waiting":  # a claim for waiting events appends nothing by itself
                    self.models[name] = before
                return True
            if self.next_write == "after_write" and left == "waiting":
                model.handle_next(now_us)
            if self.next_write == "after_write" or (left and self._work(model, left, now_us)):
                return True

    def _work(self, model: Model, left: str, now_us: int) -> bool:
        """Do what a worker does with what it took; answers whether it died of it."""
        if self.in_handler == "before_write":
            return True
        if left == "run":
            model.finish_run(now_us)
        while left == "waiting" and model.handle_next(now_us) and self.in_handler is None:
            pass
        return self.in_handler is not None

    # -- what seldom comes by chance

    @rule(name=st.sampled_from(NAMES), several=st.lists(acts, min_size=2, max_size=3))
    def send_several_for_later(self, name: Name, several: list[Act]) -> None:
        for act in several:
            self.send(name, act, 0, None)

    @rule(name=st.sampled_from(NAMES), first=acts, second=acts, key=st.sampled_from(["k", "l"]))
    def send_two_with_one_key(self, name: Name, first: Act, second: Act, key: str) -> None:
        self.send(name, first, None, key)
        self.send(name, second, None, key)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(name=st.sampled_from(NAMES), point=st.sampled_from(["before_write", "after_write"]))
    def die_in_a_run(self, name: Name, point: Point) -> None:
        self.send(name, Act(now=("soon",)), None, None)
        self.crash_soon(point, False)
        self.advance(10_000_000)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(name=st.sampled_from(NAMES), paused=st.lists(st.booleans(), max_size=2))
    def lose_a_run_and_go_on(self, name: Name, paused: list[bool]) -> None:
        """A run is lost, perhaps while somebody pauses and resumes, and is started again."""
        self.die_in_a_run(name, "before_write")
        for on in paused:
            self.pause_or_resume(name, on)
            self.advance(30_000_000)
        self.retry(name)
        self.advance(0)

    @precondition(lambda self: self.next_write is None and self.in_handler is None)
    @rule(
        name=st.sampled_from(NAMES),
        now=st.sampled_from([("soon",), ("soon", "later"), ("add", "soon")]),
        verbs=st.lists(
            st.sampled_from(["retry", "trigger", "pause", "resume", "send"]), max_size=4
        ),
        us=st.sampled_from(PASSES_US),
    )
    def fail_a_run_and_go_on(
        self, name: Name, now: tuple[str, ...], verbs: list[str], us: int
    ) -> None:
        """A run fails; then it is started again, held, or passed over by events and alarms."""
        self.clear(name, None)
        self.send(name, Act(now=now, later=("raise",)), None, None)
        self.advance(10_000_000)
        for verb in verbs:
            match verb:
                case "retry":
                    self.retry(name)
                case "trigger":
                    self.trigger(name, False)
                case "send":
                    self.send(name, Act(now=("soon",)), None, None)
                case _:
                    self.pause_or_resume(name, verb == "pause")
        self.advance(us)

    # -- what must hold

    @invariant()
    def all_agree(self) -> None:
        if self.next_write is not None:
            return
        for name in self.touched:
            self._check(name, self.models[name])
        self.touched = set()

    def _check(self, name: Name, model: Model) -> None:
        client = self.sim.task(name[0])
        status = client.status(name[1])
        assert status.status == self._word(model)
        assert client.get_state(name[1]) == model.box
        assert status.executing == model.running
        assert self._us(status.scheduled_at) == model.due_us
        assert self._us(status.clear_at) == model.clear_us
        assert status.deferred_count == len(model.waiting)
        if model.alive:
            counts = (status.event_count, status.execute_count, status.failure_count)
            assert counts == (model.events, model.runs, model.failures)
        stream = f"task:{name[0]}:{name[1]}"
        application = self.sim.application
        history = audit(application.store, stream)
        assert sum(isinstance(r.event, MessageSent) for r in history) == model.emitted
        assert sum(isinstance(r.event, Started) for r in history) == model.lives
        live = application.instances.peek(stream)
        if live is not None and history:
            assert live.hash == history[-1].hash
            assert live.instance.version == history[-1].version

    def _word(self, model: Model) -> str:
        if not model.alive:
            return "not_found"
        if model.failed:
            return "failed"
        if model.paused:
            return "paused"
        if model.again is not None:
            return "retrying"
        active = model.due_us is not None or model.asked_us is not None or model.waiting
        return "active" if active else "idle"

    @staticmethod
    def _us(moment: Any) -> int | None:
        return None if moment is None else moment_us(moment)


class OnSQLite(TaskMachine):
    """The same on a file."""

    url = "sqlite:///{folder}/jobs.db"


def play(machine: type[TaskMachine], examples: int, steps: int) -> None:
    """Let Hypothesis play."""
    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
    )
    run_state_machine_as_test(machine, settings=bounds)


@pytest.mark.parametrize(("machine", "examples"), [(TaskMachine, 100), (OnSQLite, 40)])
def test_task_does_what_the_reference_says(machine: type[TaskMachine], examples: int) -> None:
    play(machine, examples, 30)


@pytest.mark.chaos
@pytest.mark.parametrize("machine", [TaskMachine, OnSQLite])
def test_task_does_what_the_reference_says_for_long(machine: type[TaskMachine]) -> None:
    play(machine, 1_000, 50)
