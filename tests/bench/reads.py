"""W8: `status` and `get_state`, 256 in flight, fresh from the store and with `stale_ok`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tests.bench.measuring import Plan, Round, Row, call_all, fresh_heap, opened, row
from tests.bench.sample import Order, Placed, orders
from wakelog.client.task import TaskClient

__all__ = ["measure"]

IN_FLIGHT = 256
INSTANCES = 1_000
READS = 20_000
TARGETS = {True: "≥ 10,000/s", False: "≥ 3,000/s"}


def measure(plan: Plan) -> Iterator[Row]:
    """A row for each method, fresh and stale."""
    for size in plan.sized(READS):
        for method in ("status", "get_state"):
            for stale_ok in (False, True):
                rounds = [
                    asyncio.run(_round(plan, size, method, stale_ok)) for _ in range(plan.rounds)
                ]
                how = "stale_ok" if stale_ok else "fresh"
                case = f"{method}, {how}, {IN_FLIGHT} in flight"
                yield row(plan, "W8 reads", case, size, "reads/s", rounds, TARGETS[stale_ok])


async def _round(plan: Plan, size: int, method: str, stale_ok: bool) -> Round:
    fresh_heap()
    right = 0
    async with opened(orders(), plan.storage.fresh()) as (app, _):
        client: TaskClient[Order, Placed] = app.task("order")
        instances = min(INSTANCES, size)
        await call_all(lambda n: client.send(f"o-{n}", Placed(items=n)), instances, 64)

        async def status(number: int) -> None:
            nonlocal right
            found = await client.status(f"o-{number % instances}", stale_ok=stale_ok)
            right += found.status == "active"

        async def get_state(number: int) -> None:
            nonlocal right
            found = await client.get_state(f"o-{number % instances}", stale_ok=stale_ok)
            right += found is not None and found.items == number % instances

        read = status if method == "status" else get_state
        elapsed_s, each_s = await call_all(read, size, IN_FLIGHT)
    return Round(size / elapsed_s, latencies_s=each_s, counts={"right": right})
