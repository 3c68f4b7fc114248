"""A process of W5: opens a store, makes one call, says how long it took and what it found."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from tests.bench.measuring import opened
from tests.bench.sample import Tick, counting
from wakelog.ids import InstanceId

ID = InstanceId("task", "counter", "old")


async def main(url: str, call: str) -> None:
    """Print the milliseconds and the version that was found."""
    async with opened(counting(), url) as (app, application):
        client = app.task("counter")
        began = time.perf_counter()
        match call:
            case "get_state":
                await client.get_state(ID.id)
            case "status":
                await client.status(ID.id)
            case "send":
                await client.send(ID.id, Tick())
            case "load":
                await application.instances.load(str(ID))
            case _:
                raise SystemExit(f"no such call: {call}")
        ms = (time.perf_counter() - began) * 1000
        version = (await application.instances.load(str(ID))).instance.version
    print(json.dumps({"ms": ms, "version": version}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
