"""Webhooks that come in bursts, delivered in batches. Run it: python examples/webhook_batcher.py

Each customer has a window: it is open for five seconds from its first event, or until it has
four events. The receiver is down for a while: its batch is retried, the same events in the same
order, while new events are accepted and deferred.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from wakelog import Debounce, DebounceContext, Jobs, Retry
from wakelog.testing import Simulation


class Changed(BaseModel):
    kind: Literal["changed"] = "changed"
    product: str
    price: float


class Prices(BaseModel):
    """What is delivered: the newest price of each product, however often it changed."""

    newest: dict[str, float] = {}


webhook = Debounce(
    event=Changed,
    state=Prices,
    flush_after="5s",
    max_events=4,
    retry=Retry.patient(max_attempts=3),
)


@webhook.on_event
def collect(ctx: DebounceContext[Prices, Changed], event: Changed) -> Prices:
    before = ctx.state or Prices()
    return Prices(newest={**before.newest, event.product: event.price})


@webhook.execute
async def deliver(ctx: DebounceContext[Prices, Changed]) -> None:
    said = f"{ctx.now:%M:%S}  {ctx.id}: {ctx.event_count} events ({ctx.flush_reason})"
    if receiver.is_down:
        print(f"  {said}: not delivered, attempt {ctx.attempt}")
        raise ConnectionError("the receiver is down")
    print(f"  {said}: {ctx.state.newest if ctx.state else {}}")


class Receiver:
    """A stand-in for a server of the customer."""

    is_down = False


receiver = Receiver()
jobs = Jobs(webhook=webhook)


def main() -> None:
    """A minute of webhooks, without waiting for it."""
    with Simulation(jobs, start=datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) as sim:
        hooks = sim.debounce(webhook)
        print("a burst of three, and one of five:")
        for price in (10.0, 9.5, 9.0):
            hooks.add("acme", Changed(product="tea", price=price))
        for product in ("tea", "milk", "rice", "salt", "soap"):
            added = hooks.add("zeta", Changed(product=product, price=1.0))
        print(f"  the fifth of zeta is the first of a new window: {added.created}")
        sim.advance("6s")
        print("the receiver is down, and events go on coming:")
        receiver.is_down = True
        hooks.add("acme", Changed(product="milk", price=2.0))
        sim.advance("6s")
        late = hooks.add("acme", Changed(product="milk", price=3.0))
        print(f"  accepted meanwhile: {late.deferred}, status: {hooks.status('acme').status}")
        receiver.is_down = False
        sim.advance("6s")
        print("ann does not want to wait:")
        hooks.add("acme", Changed(product="tea", price=8.5))
        for flush in (hooks.flush("acme", actor="ann"), hooks.flush("acme", actor="ann")):
            print(f"  flushed: {flush.flushed} ({flush.reason})")


if __name__ == "__main__":
    main()
