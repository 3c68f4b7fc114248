"""The job of `wakelog demo`: an order that reminds its buyer until it is paid, then is packed."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel

from wakelog import Jobs, Task, TaskContext

__all__ = ["PACKING_S", "REMIND_EVERY", "Cancelled", "Order", "Paid", "Placed", "jobs", "order"]

REMIND_EVERY = "1d"
PACKING_S = 1.5
"""Long enough for a worker to be killed in the middle of it."""


class Order(BaseModel):
    status: Literal["unpaid", "paid", "packed"]
    item: str
    reminders: int = 0


class Placed(BaseModel):
    kind: Literal["placed"] = "placed"
    item: str
    remind_after: str = REMIND_EVERY


class Paid(BaseModel):
    kind: Literal["paid"] = "paid"


class Cancelled(BaseModel):
    kind: Literal["cancelled"] = "cancelled"


order = Task(state=Order, event=Placed | Paid | Cancelled)


@order.on_event
def received(ctx: TaskContext[Order], event: Placed | Paid | Cancelled) -> None:
    match event:
        case Placed():
            ctx.set_state(Order(status="unpaid", item=event.item))
            ctx.schedule(event.remind_after)
        case Paid():
            ctx.update_state(lambda now: now.model_copy(update={"status": "paid"}))
            ctx.schedule("0s")
        case Cancelled():
            ctx.clear("cancelled by the buyer")


@order.execute
async def act(ctx: TaskContext[Order]) -> None:
    if ctx.state is None or ctx.state.status == "packed":
        return
    if ctx.state.status == "unpaid":
        ctx.update_state(lambda now: now.model_copy(update={"reminders": now.reminders + 1}))
        ctx.schedule(REMIND_EVERY)
        return
    await asyncio.sleep(PACKING_S)
    ctx.update_state(lambda now: now.model_copy(update={"status": "packed"}))


jobs = Jobs(order=order)
