"""What a handler gets and may ask for: the context (U6, U7, U8 and the table of its members)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from tests.support import START, Ctx, Staging, staged, task_of
from wakelog import ExecutionError, InvalidStateError, Jobs, ValidationError
from wakelog.core.events import MessageSent, StateSet
from wakelog.testing import Simulation


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")

    order_id: int = Field(alias="orderId")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.order_id


@dataclass
class Point:
    x: int
    y: tuple[int, ...] = ()


class Row(TypedDict):
    a: int


class Cat(BaseModel):
    lives: int


class Dog(BaseModel):
    barks: bool


# -- U7: the state ---------------------------------------------------------------------------------


def test_U7_the_state_is_live_and_none_until_it_is_set(stage: Staging) -> None:
    # given
    seen: list[Any] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        seen.append(ctx.state)
        ctx.set_state(1)
        seen.append(ctx.state)
        ctx.update_state(lambda n: n + 1)
        seen.append(ctx.state)
        ctx.clear_state()
        seen.append(ctx.state)
        ctx.set_state(5)

    job = stage(on_event, execute=lambda ctx: seen.append(ctx.state))
    # when
    job.send()
    job.trigger()
    # then
    assert seen == [None, 1, 2, None, 5]


def test_U7_a_state_that_is_changed_in_place_is_not_changed(stage: Staging) -> None:
    # given
    seen: list[list[int]] = []

    def on_event(ctx: Ctx, event: str) -> None:
        if event == "set":
            mine = [1]
            ctx.set_state(mine)
            mine.append(2)  # after the call: too late
        elif event == "mutate":
            ctx.state.append(3)
        seen.append(list(ctx.state))

    job = stage(on_event, state=list[int])
    # when
    job.send("set")
    job.send("mutate")
    job.send("look")
    # then
    assert seen == [[1], [1, 3], [1]]
    assert job.state() == [1]


def test_U7_nor_can_a_caller_change_what_it_was_shown_or_what_it_sent(stage: Staging) -> None:
    # given
    def on_event(ctx: Ctx, event: dict[str, Any]) -> None:
        ctx.set_state(event)
        event["changed"] = True

    job = stage(on_event)
    sent = {"a": [1]}
    job.send(sent)
    # when
    job.state()["a"].append(2)
    # then
    assert sent == {"a": [1]}
    assert job.state() == {"a": [1]}


def test_U7_on_error_and_on_idle_get_copies_of_their_own(stage: Staging) -> None:
    # given handlers that mutate what they get
    def on_event(ctx: Ctx, event: Any) -> None:
        if ctx.state is None:
            ctx.set_state([1])
            return
        ctx.state.append(9)
        raise ValueError("boom")

    def on_error(ctx: Ctx, error: BaseException) -> None:
        seen.append(list(ctx.state))
        ctx.state.append(8)

    seen: list[Any] = []
    job = stage(on_event, on_error=on_error, on_idle=lambda ctx: seen.append(list(ctx.state)))
    # when
    job.send()
    job.send()
    # then
    assert seen == [[1], [1], [1]]


def test_U7_now_stands_still_in_a_handler_and_is_what_is_recorded(stage: Staging) -> None:
    # given a handler that takes its time
    seen: list[Any] = []

    async def execute(ctx: Ctx) -> None:
        seen.append(ctx.now)
        await asyncio.sleep(60)
        seen.append(ctx.now)
        ctx.schedule("1m")
        seen.append(ctx.scheduled_at)

    job = stage(execute=execute)
    job.send({"schedule": "5m"})
    # when
    job.sim.advance("5m")
    # then
    began = START + timedelta(minutes=5)
    assert seen == [began, began, began + timedelta(minutes=1)]
    started = next(e for e in job.sim.history("task:job:a") if e.event == "RunStarted")
    assert started.at == began


def test_U7_chance_is_seeded_from_stream_and_version(stage: Staging) -> None:
    # given
    seen: list[Any] = []

    def on_event(ctx: Ctx, event: str) -> None:
        seen.append((ctx.random.random(), str(ctx.uuid())))
        if event == "bad":
            raise ValueError("boom")

    job = stage(on_event)
    # when: on another instance, on another version, and again on a version that was refused
    job.send("good", id="a")
    job.send("good", id="b")
    job.send("good", id="a")
    for _ in range(2):
        with pytest.raises(ExecutionError):
            job.send("bad", id="b")
    # then
    assert len(set(seen)) == 5
    again: list[Any] = []

    def same(ctx: Ctx, event: str) -> None:
        again.append((ctx.random.random(), str(ctx.uuid())))

    with staged(task_of(same), "memory://").sim as sim:
        sim.task("job").send("a", "good")
    assert again == seen[:1]


# -- U8: what fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "state"),
    [
        (int, 0),
        (bool, False),
        (str, ""),
        (str, "🦄\x00"),
        (float, 0.1),
        (list[int], []),
        (dict[int, str], {1: "a"}),
        (tuple[int, ...], (1, 2)),
        (set[str], {"a"}),
        (Tree, Tree(name="a", children=[Tree(name="b", children=[Tree(name="c")])])),
        (Aliased, Aliased(orderId=3)),
        (Point, Point(1, (2, 3))),
        (Row, {"a": 1}),
        (Cat | Dog, Dog(barks=True)),
        (int | str | None, "5"),
        (Any, {"a": [1, None, {"b": 2.5}]}),
    ],
)
def test_U8_states_and_events_may_be_of_any_type(stage: Staging, type_: Any, state: Any) -> None:
    # given
    seen: list[Any] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        seen.append(event)
        ctx.set_state(event)

    job = stage(on_event, state=type_, event=type_, execute=lambda ctx: seen.append(ctx.state))
    # when
    job.send(state)
    job.trigger()
    # then
    assert seen == [state, state]
    assert [type(each) for each in seen] == [type(state)] * 2
    job.sim.restart()
    assert job.state() == state


@pytest.mark.parametrize(
    ("type_", "state"),
    [
        (int, "many"),
        (int, None),
        (float, float("nan")),
        (Tree, {"name": 5}),
        (str, "\ud800"),
        (Any, object()),
        (Any, b"\xff"),
        (Any, {"a": {1, 2}, "b": object()}),
    ],
)
def test_U8_set_state_validates_at_the_call_and_raises_there(
    stage: Staging, type_: Any, state: Any
) -> None:
    # given a handler that goes on without the state that did not fit
    raised: list[ValidationError] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        try:
            ctx.set_state(state)
        except ValidationError as error:
            raised.append(error)

    job = stage(on_event, state=type_)
    # when
    job.send()
    # then
    assert raised[0].issues
    str(raised[0]).encode(errors="strict")
    assert job.state() is None
    assert job.found(StateSet) == []


def test_U8_none_is_no_state_not_even_where_the_type_allows_it(stage: Staging) -> None:
    job = stage(lambda ctx, event: ctx.set_state(None), state=int | None)
    with pytest.raises(ExecutionError, match="clear_state"):
        job.send()


def test_U8_clear_state_unsets_and_update_state_needs_one(stage: Staging) -> None:
    # given
    job = stage(lambda ctx, event: getattr(ctx, event[0])(*event[1:]), event=list[Any])
    job.send(["set_state", 1])
    # when
    job.send(["clear_state"])
    # then
    assert job.state() is None
    assert job.found(StateSet)[-1].state is None
    plus = stage(lambda ctx, event: ctx.update_state(lambda n: n + 1))
    with pytest.raises(ExecutionError, match="no state to update yet"):
        plus.send(id="b")


def test_U8_an_update_that_answers_nothing_is_refused(stage: Staging) -> None:
    def on_event(ctx: Ctx, event: Any) -> None:
        ctx.set_state([1])
        ctx.update_state(lambda state: state.append(2))

    job = stage(on_event)
    with pytest.raises(ExecutionError, match="clear_state"):
        job.send()


def test_U8_a_huge_payload_goes_through(stage: Staging) -> None:
    job = stage()
    job.send({"set_state": "x" * 5_000_000})
    job.sim.restart()
    assert len(job.state()) == 5_000_000
    assert len(job.sim.history("task:job:a")[1].description) < 200


# -- the members -----------------------------------------------------------------------------------


def test_every_handler_is_told_who_it_is_and_when(stage: Staging) -> None:
    # given
    seen: dict[str, tuple[Any, ...]] = {}

    def look(name: str, *arguments: Any) -> Callable[..., Any]:
        def handler(ctx: Ctx, *given: Any) -> Any:
            seen[name] = (ctx.id, ctx.instance_id, ctx.job_name, ctx.now, ctx.created_at)
            assert ctx.execution_started_at == ctx.now
            assert ctx.resources == "services"
            if name == "on_event":
                raise ValueError("boom")
            return given[0] if given else None

        return handler

    names = ("on_event", "execute", "on_idle", "on_error", "on_client_get_state")
    handlers = {name: look(name) for name in names[1:]}
    job = stage(look("on_event"), **handlers)
    with Simulation(Jobs(job=job.task, resources="services")) as sim:
        # when
        sim.task("job").send("a:b", 1)
        sim.advance("1h")
        sim.task("job").trigger("a:b")
        assert sim.task("job").get_state("a:b") is None
    # then
    who = ("a:b", "task:job:a:b", "job")
    assert {entry[:3] for entry in seen.values()} == {who}
    assert seen["on_event"][3:] == (START, START)
    assert seen["execute"][3:] == (START + timedelta(hours=1), START)


def test_an_event_handler_is_told_about_its_event(stage: Staging) -> None:
    # given
    seen: list[Any] = []
    job = stage(
        lambda ctx, event: seen.append((event, ctx.event_id, ctx.event_count, ctx.is_first_event))
    )
    # when
    job.send(1, event_id="k1")
    job.send(2)
    job.send(3, event_id="k3", delay="1m")
    job.sim.advance("1m")
    # then (no state was ever set)
    assert seen == [(1, "k1", 1, True), (2, None, 2, True), (3, "k3", 3, True)]


def test_a_run_is_told_about_itself(stage: Staging) -> None:
    # given
    seen: list[Any] = []

    def execute(ctx: Ctx) -> None:
        seen.append((ctx.run_count, ctx.execute_count, ctx.attempt, ctx.is_retry))
        seen.append((ctx.trigger, ctx.scheduled_for, ctx.event_count))

    job = stage(execute=execute)
    # when
    job.send({"schedule": "5m"})
    job.sim.advance("1h")
    job.trigger()
    # then
    assert seen == [
        (1, 1, 1, False),
        ("alarm", START + timedelta(minutes=5), 1),
        (2, 2, 1, False),
        ("manual", START + timedelta(hours=1), 1),
    ]


def test_what_belongs_to_another_handler_says_to_which(stage: Staging) -> None:
    # given
    said: list[str] = []

    def ask(ctx: Ctx, *members: str) -> None:
        for member in members:
            with pytest.raises(InvalidStateError) as raised:
                getattr(ctx, member)
            said.append(str(raised.value))

    runs = ("attempt", "is_retry", "scheduled_for", "trigger")
    job = stage(
        lambda ctx, event: ask(ctx, *runs, "idle_reason", "error_source"),
        execute=lambda ctx: ask(ctx, "is_first_event", "event_id", "idle_reason"),
        on_idle=lambda ctx: ask(ctx, "attempt", "event_id", "error_source"),
    )
    # when
    job.send()
    job.trigger()
    # then
    assert said[:2] == [
        "ctx.attempt is for execute, not for on_event",
        "ctx.is_retry is for execute, not for on_event",
    ]
    assert len(said) == 6 + 3 + 3 + 3


def test_a_log_line_says_which_instance_and_run_speaks(
    stage: Staging, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    job = stage(execute=lambda ctx: ctx.log.info("reminding %s", ctx.id))
    job.send({"schedule": "1m"})
    # when
    with caplog.at_level(logging.INFO, "wakelog.job"):
        job.sim.advance("1m")
    # then
    [record] = [r for r in caplog.records if r.name == "wakelog.job"]
    assert record.getMessage() == "reminding a"
    assert (record.__dict__["instance"], record.__dict__["run"]) == ("task:job:a", 1)


def test_services_of_the_definition_go_before_those_of_the_jobs() -> None:
    # given two jobs, one with services of its own
    seen: list[Any] = []
    plain = task_of(lambda ctx, event: seen.append(ctx.resources))
    own = plain.with_resources("own")
    # when
    with Simulation(Jobs(plain=plain, own=own, resources="common")) as sim:
        sim.task(plain).send("a", 1)
        sim.task(own).send("a", 1)
    # then
    assert seen == ["common", "own"]


def test_an_emitted_message_is_checked_at_the_call(stage: Staging) -> None:
    # given
    raised: list[Exception] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        wrong = (object(), float("nan"), {"deep": [float("inf")]}, 10**5_000, "\ud800", b"\xff")
        for topic, payload in (("", 1), ("\ud800", 1), (5, 1), *(("t", each) for each in wrong)):
            try:
                ctx.emit(topic, payload)
            except ValidationError as error:
                raised.append(error)
        ctx.emit("paid", {"id": "a"})

    job = stage(on_event)
    # when
    job.send()
    # then
    assert len(raised) == 9
    assert job.found(MessageSent) == [MessageSent(topic="paid", payload='{"id":"a"}')]


# -- U6: the end of a context ----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["returns", "raises", "clears"])
def test_U6_a_context_is_closed_when_its_handler_ends(stage: Staging, ending: str) -> None:
    # given a handler that lets its context get away
    kept: list[Ctx] = []

    def on_event(ctx: Ctx, event: Any) -> None:
        kept.append(ctx)
        if ending == "raises":
            raise ValueError("boom")
        if ending == "clears":
            ctx.clear()

    job = stage(on_event)
    if ending == "raises":
        with pytest.raises(ExecutionError):
            job.send()
    else:
        job.send()
    # when it is used afterwards
    late: list[Callable[[Ctx], Any]] = [
        lambda ctx: ctx.state,
        lambda ctx: ctx.set_state(1),
        lambda ctx: ctx.update_state(lambda state: state),
        lambda ctx: ctx.clear_state(),
        lambda ctx: ctx.schedule("1h"),
        lambda ctx: ctx.cancel_schedule(),
        lambda ctx: ctx.scheduled_at,
        lambda ctx: ctx.emit("t", 1),
        lambda ctx: ctx.clear(),
    ]
    # then
    for use in late:
        with pytest.raises(InvalidStateError, match="closed"):
            use(kept[0])
    assert job.found(StateSet) == []


@pytest.mark.parametrize(
    "member", ["set_state", "update_state", "schedule", "emit", "clear_state", "cancel_schedule"]
)
def test_U6_after_a_clear_that_was_caught_every_command_ends_the_handler_again(
    stage: Staging, member: str
) -> None:
    # given a handler that catches whatever it can, and goes on
    arguments = {"set_state": (1,), "schedule": ("1h",), "emit": ("late", 1)}

    def on_event(ctx: Ctx, event: Any) -> None:
        ctx.emit("before", 1)
        with suppress(BaseException):
            ctx.clear("first")
        if member == "update_state":
            ctx.update_state(lambda state: state)
        else:
            getattr(ctx, member)(*arguments.get(member, ()))
        raise AssertionError("it went on")

    job = stage(on_event)
    job.send({})
    # then what it asked for afterwards is not there
    assert job.names() == ["Started", "EventReceived", "MessageSent", "Cleared"]
    assert job.sim.history("task:job:a")[-1].data["reason"] == "first"
