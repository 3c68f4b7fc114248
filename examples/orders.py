"""An order that reminds its customer until it is paid. Run it: python examples/orders.py

With a URL (python examples/orders.py sqlite:///orders.db) the order is kept in that store, and
`wakelog` can show it afterwards.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from wakelog import Jobs, Task, TaskContext
from wakelog.testing import Simulation


class Order(BaseModel):
    status: Literal["pending", "paid"]


class Placed(BaseModel):
    kind: Literal["placed"] = "placed"


class Paid(BaseModel):
    kind: Literal["paid"] = "paid"


order = Task(state=Order, event=Placed | Paid)


@order.on_event
def received(ctx: TaskContext[Order], event: Placed | Paid) -> None:
    match event:
        case Placed():
            ctx.set_state(Order(status="pending"))
            ctx.schedule("5m")
        case Paid():
            ctx.set_state(Order(status="paid"))
            ctx.cancel_schedule()


@order.execute
async def remind(ctx: TaskContext[Order]) -> None:
    await ctx.step("mail", send_reminder, ctx.id)
    ctx.schedule("1h")


async def send_reminder(order_id: str) -> None:
    """A stand-in for a mail. It is a step: once it is recorded, no later attempt sends it again."""
    print(f"  (mail: please pay {order_id})")


jobs = Jobs(order=order)


def in_a_store(url: str) -> None:
    """Send one event to one order, and read its status."""
    with jobs.open(url) as app:
        sent = app.task(order).send("o-17", Placed())
        print("created" if sent.created else "known already", sent.instance_id)
        print("status:", app.task(order).status("o-17").status)
        print("history:", ", ".join(entry.event for entry in app.history("task:order:o-17")))


def in_virtual_time() -> None:
    """The same order, and two hours of its life without waiting for them."""
    with Simulation(jobs, start=datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) as sim:
        sim.task(order).send("o-17", Placed())
        print("two hours pass:")
        sim.advance("2h")
        sim.task(order).send("o-17", Paid(), actor="till 3")
        print("status:", sim.task(order).status("o-17").status)
        print("alarms left:", len(sim.alarms()))
        for entry in sim.history("task:order:o-17"):
            print(entry)


if __name__ == "__main__":
    in_a_store(sys.argv[1] if len(sys.argv) > 1 else "memory://")
    print()
    in_virtual_time()
