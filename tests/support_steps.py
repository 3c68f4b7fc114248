"""What tests of steps share: an `execute` of either kind, told in the same words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, Literal

import pytest

from tests.support import Ctx, Stage, Staging
from wakelog.core.events import ExecutionFailed

__all__ = ["Body", "Way", "World", "both_ways", "errors", "executing", "started"]

Way = Literal["async", "blocking"]
Body = Callable[[Ctx], Generator[Callable[[Any], Any], Any, None]]

both_ways = pytest.mark.parametrize("way", ["async", "blocking"])


def executing(way: Way, body: Body) -> Callable[..., Any]:
    """An `execute` of either kind. `body` yields its steps, and is sent or thrown how they end."""

    def blocking(ctx: Ctx) -> None:
        steps = body(ctx)
        answer = functools.partial(next, steps)
        while (asked := answer_of(answer)) is not None:
            try:
                answer = functools.partial(steps.send, asked(ctx.step_blocking))
            except BaseException as error:
                answer = functools.partial(steps.throw, error)

    async def on_loop(ctx: Ctx) -> None:
        steps = body(ctx)
        answer = functools.partial(next, steps)
        while (asked := answer_of(answer)) is not None:
            try:
                answer = functools.partial(steps.send, await asked(ctx.step))
            except BaseException as error:
                answer = functools.partial(steps.throw, error)

    def answer_of(answer: Callable[[], Any]) -> Any:
        try:
            return answer()
        except StopIteration:
            return None

    return on_loop if way == "async" else blocking


class World:
    """What lies outside: it notes what was done to it, under which key."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: dict[str, set[str]] = {}

    def do(self, what: str, key: str = "") -> str:
        self.done.append(what)
        self.keys.setdefault(what, set()).add(key)
        return f"{what} done"


def started(stage: Staging, execute: Callable[..., Any], **given: Any) -> Stage:
    """A stage whose instance has a run due in a minute."""
    job = stage(execute=execute, **given)
    job.send({"schedule": "1m"})
    return job


def errors(job: Stage) -> list[str]:
    return [failed.error_type for failed in job.found(ExecutionFailed)]
