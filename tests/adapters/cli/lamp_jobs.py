"""Recurring jobs for the tests of the command line: lamps that are checked, beside a plain task."""

from __future__ import annotations

from pydantic import BaseModel

from wakelog import Continuous, ContinuousContext, Jobs, Task, TaskContext


class Lamp(BaseModel):
    checks: int = 0
    broken: bool = False


lamp = Continuous(state=Lamp, every="1h", mode="fixed_rate")


@lamp.execute
def check(ctx: ContinuousContext[Lamp]) -> None:
    print("a print of the job's own")
    if ctx.state is None or ctx.state.broken:
        raise ValueError("dark")
    ctx.set_state(Lamp(checks=ctx.state.checks + 1))


@lamp.on_client_get_state
def shown(ctx: ContinuousContext[Lamp], state: Lamp) -> Lamp:
    return state.model_copy(update={"checks": 10 * state.checks})


switch = Task(state=int, event=int)


@switch.on_event
def switched(ctx: TaskContext[int], event: int) -> None:
    ctx.set_state(event)


jobs = Jobs(lamp=lamp, switch=switch)
