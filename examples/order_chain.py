"""An order that charges, ships and notifies: three Tasks and a pool that send each other messages.

Run it: python examples/order_chain.py

The card is refused at first, the parcel service is away for an hour, and the worker is killed
twice. Each step is done once all the same, and the history of the order says what it has sent, and
what became of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from wakelog import Backoff, Jobs, Retry, Task, TaskContext, WorkerPool, WorkerPoolContext
from wakelog.testing import SimulatedCrash, Simulation


class Placed(BaseModel):
    kind: Literal["placed"] = "placed"
    amount: int


class Paid(BaseModel):
    kind: Literal["paid"] = "paid"


class Shipped(BaseModel):
    kind: Literal["shipped"] = "shipped"
    parcel: str


class Charge(BaseModel):
    amount: int


class Ship(BaseModel):
    to: str


world = {"cards_refused": 1, "parcels_are_away": True}
AGAIN = Retry(max_attempts=100, delay=Backoff.exponential("1m", max="15m"), jitter=0)

order = Task(state=str, event=Placed | Paid | Shipped)
payment = Task(state=int, event=Charge, retry=AGAIN)
shipment = Task(state=str, event=Ship, retry=AGAIN)
mails = WorkerPool(event=str)


@order.on_event
def ordered(ctx: TaskContext[str], event: Placed | Paid | Shipped) -> None:
    match event:
        case Placed():
            ctx.set_state("placed")
            ctx.send(payment, ctx.id, Charge(amount=event.amount))
        case Paid():
            ctx.set_state("paid")
            ctx.send(shipment, ctx.id, Ship(to="Ada"))
            ctx.enqueue(mails, f"{ctx.id}: thank you")
        case Shipped():
            ctx.set_state(f"shipped as {event.parcel}")
            ctx.enqueue(mails, f"{ctx.id}: on its way as {event.parcel}")


@payment.on_event
def asked(ctx: TaskContext[int], event: Charge) -> None:
    ctx.set_state(event.amount)
    ctx.schedule(0)


@payment.execute
async def charge(ctx: TaskContext[int]) -> None:
    if world["cards_refused"]:
        world["cards_refused"] = 0
        raise ConnectionError("the bank does not answer")
    print(f"  {ctx.now:%H:%M} charged {ctx.state}")
    ctx.send("order", ctx.id, Paid())


@shipment.on_event
def packed(ctx: TaskContext[str], event: Ship) -> None:
    ctx.set_state(event.to)
    ctx.schedule(0)


@shipment.execute
async def ship(ctx: TaskContext[str]) -> None:
    if world["parcels_are_away"]:
        raise ConnectionError("nobody is there")
    parcel = await ctx.step("hand over", hand_over, ctx.step_key("hand over"))
    print(f"  {ctx.now:%H:%M} shipped to {ctx.state}: {parcel}")
    ctx.send("order", ctx.id, Shipped(parcel=parcel))


async def hand_over(key: str) -> str:
    """The parcel service knows the key: the same parcel, however often it is asked."""
    return "P-" + key.partition("@")[2].replace(":hand over", "")


@mails.execute
async def mail(ctx: WorkerPoolContext, text: str) -> None:
    print(f"  {ctx.now:%H:%M} mailed {text!r}")


jobs = Jobs(order=order, payment=payment, shipment=shipment, mails=mails)
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def main() -> None:
    with Simulation(jobs, start=START) as sim:
        client = sim.task(order)
        print("an order is placed:")
        client.send("o-17", Placed(amount=12))
        for _ in range(2):
            sim.crash_next("before_write")
            try:
                sim.advance("1h")
            except SimulatedCrash:
                print("  the worker is killed")
                sim.restart()
        sim.advance("1h")

        print("the parcel service is back:")
        world["parcels_are_away"] = False
        sim.advance("1h")
        print("order:", client.get_state("o-17"))

        print("what it has sent:")
        for entry in sim.history("task:order:o-17"):
            if entry.event == "MessageSent":
                print(" ", entry.description)


if __name__ == "__main__":
    main()
