"""Jobs for the tests of the command line: parcels that can be weighed, shown, lost and sent."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel

from wakelog import Debounce, DebounceContext, Jobs, Task, TaskContext

INSTANCE = "task:parcel:p-1"
WEIGHED = '{"kind": "weighed", "grams": 500}'
HEAVY = '{"kind": "weighed", "grams": 5000}'
LOST = '{"kind": "lost", "why": "fell off"}'

nothing = Jobs()
a_number = 17


class Parcel(BaseModel):
    grams: int
    code: str = "1234"


class Weighed(BaseModel):
    kind: Literal["weighed"] = "weighed"
    grams: int
    at: AwareDatetime | None = None


class Lost(BaseModel):
    kind: Literal["lost"] = "lost"
    why: str


parcel = Task(state=Parcel, event=Weighed | Lost)


@parcel.on_event
def received(ctx: TaskContext[Parcel], event: Weighed | Lost) -> None:
    print("a print of the job's own")
    match event:
        case Weighed(grams=grams):
            ctx.set_state(Parcel(grams=grams))
            ctx.schedule("1h")
        case Lost(why=why):
            raise LookupError(why)


@parcel.execute
def deliver(ctx: TaskContext[Parcel]) -> None:
    print("a print of the job's own")
    if ctx.state is None or ctx.state.grams > 1000:
        raise ValueError("too heavy")


@parcel.on_client_get_state
def shown(ctx: TaskContext[Parcel], state: Parcel) -> Parcel:
    return state.model_copy(update={"code": "****"})


truck = Debounce(event=Weighed | Lost, flush_after="1h", max_events=3)


@truck.execute
def leave(ctx: DebounceContext[Weighed | Lost, Weighed | Lost]) -> None:
    for event in ctx.events:
        if isinstance(event, Lost):
            raise LookupError(event.why)


jobs = Jobs(parcel=parcel, truck=truck)
