"""The jobs that the other files here embed: an order that is confirmed in the background."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel

from wakelog import Jobs, Task, TaskContext

URL = os.environ.get("SHOP_URL", "sqlite:///shop.db")


class Order(BaseModel):
    item: str
    status: Literal["placed", "confirmed"] = "placed"


class Placed(BaseModel):
    item: str


order = Task(state=Order, event=Placed)


@order.on_event
def placed(ctx: TaskContext[Order], event: Placed) -> None:
    ctx.set_state(Order(item=event.item))
    ctx.schedule(0)


@order.execute
def confirm(ctx: TaskContext[Order]) -> None:
    ctx.update_state(lambda state: state.model_copy(update={"status": "confirmed"}))


jobs = Jobs(order=order)
