"""I4: what a step may answer, what it may be called, and where there are steps."""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support import START, Ctx, Staging
from tests.support_steps import Way, World, both_ways, errors, executing, started
from wakelog import InvalidStateError, Retry, ValidationError
from wakelog.core.events import ExecutionFailed, StepCompleted

# -- results ---------------------------------------------------------------------------------------


class Receipt(BaseModel):
    number: int
    total: Decimal
    at: datetime


@dataclass(frozen=True)
class Line:
    text: str
    receipts: tuple[Receipt, ...] = ()


class Colour(enum.Enum):
    RED = "red"


RECEIPT = Receipt(number=1, total=Decimal("1.10"), at=START)


def receipt() -> Receipt:
    return RECEIPT


async def later() -> Receipt | None:
    return RECEIPT


def line() -> Line:
    return Line("a", (RECEIPT,))


def none() -> None:
    return None


def colours() -> dict[Colour, set[int]]:
    return {Colour.RED: {1, 2}}


def plain():  # type: ignore[no-untyped-def]
    return {"a": [1, 2.5, None, True, "x"]}


@pytest.mark.parametrize(
    ("fn", "result", "value"),
    [
        (receipt, None, RECEIPT),
        (later, None, RECEIPT),
        (line, None, Line("a", (RECEIPT,))),
        (none, None, None),
        (colours, None, {Colour.RED: {1, 2}}),
        (plain, None, {"a": [1, 2.5, None, True, "x"]}),
        (lambda: RECEIPT, Receipt, RECEIPT),
        (lambda: "1", int, 1),
        (functools.partial(Line, "b"), None, Line("b")),
        (lambda: None, None, None),
        (functools.partial(divmod, 7, 2), tuple[int, int], (3, 1)),
        (functools.wraps(receipt)(lambda: RECEIPT), None, RECEIPT),
    ],
)
def test_I4_a_result_reads_back_as_the_same_in_every_attempt(
    stage: Staging, fn: Callable[[], Any], result: Any, value: Any
) -> None:
    seen: list[Any] = []

    async def execute(ctx: Ctx) -> None:
        seen.append(await ctx.step("one", fn, result=result))
        if ctx.attempt == 1:
            raise ValueError("again")

    job = started(stage, execute, retry=Retry())
    job.sim.run_until_idle()
    assert seen == [value, value]
    assert {type(each) for each in seen} == {type(value)}


def unknown() -> Missing:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    raise AssertionError("it must not be called")


def a_function() -> Callable[[], int]:
    raise AssertionError("it must not be called")


def an_object() -> World:
    raise AssertionError("it must not be called")


@both_ways
@pytest.mark.parametrize(
    ("fn", "options"),
    [
        (unknown, {}),
        (a_function, {}),
        (an_object, {}),
        (unknown, {"result": World}),
        (unknown, {"result": int, "retry": 3}),
        ("unknown", {"result": int}),
    ],
)
def test_I4_what_cannot_be_kept_is_refused_before_the_call(
    stage: Staging, way: Way, fn: Any, options: dict[str, Any]
) -> None:
    def body(ctx: Ctx) -> Any:
        with pytest.raises(ValidationError):
            yield lambda step: step("one", fn, **options)
        ctx.set_state("told")

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    assert (job.state(), job.found(StepCompleted)) == ("told", [])


def says_int() -> int:
    return "three"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@both_ways
@pytest.mark.parametrize(
    "fn", [says_int, lambda: {1, 2}, lambda: START, lambda: float("nan"), lambda: RECEIPT]
)
def test_I4_a_result_that_does_not_read_back_is_not_recorded(
    stage: Staging, way: Way, fn: Callable[[], Any]
) -> None:
    def body(ctx: Ctx) -> Any:
        with pytest.raises(ValidationError, match="result of 'one'"):
            yield lambda step: step("one", fn)
        ctx.set_state("told")

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    assert (job.state(), job.found(StepCompleted)) == ("told", [])


def test_I4_one_that_was_recorded_as_another_type_says_so(stage: Staging) -> None:
    async def execute(ctx: Ctx) -> None:
        if ctx.attempt == 1:
            await ctx.step("one", lambda: "text")
            raise ValueError("deploy")
        await ctx.step("one", receipt)

    job = started(stage, execute, retry=Retry(max_attempts=2))
    job.sim.run_until_idle()
    assert errors(job) == ["ValueError", "ValidationError"]
    assert "of another type now" in job.found(ExecutionFailed)[-1].message


# -- names and places ------------------------------------------------------------------------------


@both_ways
def test_I4_a_name_comes_once_in_an_attempt(stage: Staging, way: Way) -> None:
    world = World()

    def body(ctx: Ctx) -> Any:
        yield lambda step: step("one", world.do, "first")
        with pytest.raises(InvalidStateError, match="was used before in this attempt"):
            yield lambda step: step("one", world.do, "second")
        if ctx.attempt == 1:
            raise ValueError("again")

    job = started(stage, executing(way, body), retry=Retry())
    job.sim.run_until_idle()
    assert world.done == ["first"]
    assert errors(job) == ["ValueError"]


@both_ways
@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "\ud800", 5, None, "b@12:c"])
def test_I4_a_name_is_a_text_that_fits_into_a_key(stage: Staging, way: Way, name: Any) -> None:
    def body(ctx: Ctx) -> Any:
        with pytest.raises(ValidationError, match="step name"):
            ctx.step_key(name)
        with pytest.raises(ValidationError, match="step name"):
            yield lambda step: step(name, str)

    job = started(stage, executing(way, body))
    job.sim.advance("1m")
    assert job.status().status == "idle"


@pytest.mark.parametrize("member", ["step", "step_blocking", "step_key"])
@pytest.mark.parametrize("handler", ["on_event", "on_idle", "on_error", "on_client_get_state"])
def test_I4_only_execute_has_steps(stage: Staging, handler: str, member: str) -> None:
    # given
    refused: list[str] = []

    def asks(ctx: Ctx, *_: Any) -> None:
        with pytest.raises(InvalidStateError) as error:
            getattr(ctx, member)("one") if member == "step_key" else getattr(ctx, member)(
                "one", str
            )
        refused.append(str(error.value))

    def fails(ctx: Ctx) -> None:
        raise ValueError("no")

    job = stage(**{"execute": fails, handler: asks})
    # when
    job.send({"set_state": 1})
    job.trigger()
    job.state()
    # then
    assert refused
    assert f"ctx.{member}" in refused[0]
    assert "execute" in refused[0] or "it only reads" in refused[0]


def test_I4_each_kind_of_execute_has_its_own_word(stage: Staging) -> None:
    async def execute(ctx: Ctx) -> None:
        with pytest.raises(InvalidStateError, match="await ctx"):
            ctx.step_blocking("one", str)
        ctx.set_state("told")

    job = started(stage, execute)
    job.sim.advance("1m")
    assert job.state() == "told"


def test_I4_a_blocking_step_takes_no_coroutine(stage: Staging) -> None:
    def execute(ctx: Ctx) -> None:
        with pytest.raises(ValidationError, match="give a `def`"):
            ctx.step_blocking("one", later)
        ctx.set_state("told")

    job = started(stage, execute)
    job.sim.advance("1m")
    assert job.state() == "told"


def test_I4_U6_a_context_that_is_closed_has_no_steps(stage: Staging) -> None:
    kept: list[Ctx] = []
    job = started(stage, kept.append)
    job.sim.advance("1m")
    for member in ("step", "step_blocking"):
        with pytest.raises(InvalidStateError, match="closed"):
            getattr(kept[0], member)("one", str)
    with pytest.raises(InvalidStateError, match="closed"):
        kept[0].step_key("one")


def test_I4_steps_may_go_on_side_by_side(stage: Staging) -> None:
    # given steps that wait for each other
    async def execute(ctx: Ctx) -> None:
        told = [asyncio.Event() for _ in range(3)]

        async def wait(number: int) -> int:
            if number < 2:
                await told[number + 1].wait()
            told[number].set()
            return number

        steps = (ctx.step(f"step {number}", wait, number) for number in range(3))
        ctx.set_state(await asyncio.gather(*steps))
        if ctx.attempt == 1:
            raise ValueError("again")

    job = started(stage, execute, retry=Retry())
    # when
    job.sim.run_until_idle()
    # then
    assert job.state() == [0, 1, 2]
    assert [e.step for e in job.found(StepCompleted)] == ["step 2", "step 1", "step 0"]


def test_I4_virtual_time_passes_in_a_step(stage: Staging) -> None:
    async def slow() -> datetime:
        await asyncio.sleep(90)
        return job.sim.now

    async def execute(ctx: Ctx) -> None:
        ctx.set_state((await ctx.step("slow", slow)).isoformat())

    job = started(stage, execute)
    job.sim.advance("1m")
    assert datetime.fromisoformat(job.state()) == datetime(2026, 1, 1, 0, 2, 30, tzinfo=UTC)
