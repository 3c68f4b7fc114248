"""W5: the first call for an instance with a long history, by a process that has just started."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measuring import Plan, Round, Row, call_all, opened, row
from tests.bench.sample import Tick, counting

__all__ = ["CALLS", "measure"]

EVENTS = (100, 10_000, 100_000)
EVENTS_A_SEND = 3
CALLS = ("get_state", "status", "send", "load")
"""What is asked first; `load` is the rebuilding alone, as a turn does it."""
TARGET = "≤ 5 ms, whatever the length"
ROOT = Path(__file__).resolve().parents[2]


def measure(plan: Plan) -> Iterator[Row]:
    """A row for each length and call, on a store that outlives a process.

    Each figure is taken by a process of its own: the app is open, nothing was asked of it yet.
    Raises `AssertionError` where it did not find the whole history.
    """
    if plan.storage.name == "memory":
        return
    for events in plan.sized(*EVENTS):
        url = plan.storage.fresh()
        version = asyncio.run(_lived(url, events))
        for call in CALLS:
            rounds = [_round(url, call, version) for _ in range(plan.rounds)]
            yield row(plan, "W5 cold load", call, version, "ms", rounds, TARGET)


async def _lived(url: str, events: int) -> int:
    """Give an instance its history; answer its version."""
    async with opened(counting(), url) as (app, _):
        client = app.task("counter")
        sends = max(1, (events - 1) // EVENTS_A_SEND)
        await call_all(lambda _: client.send("old", Tick()), sends, 64)
        return (await client.status("old")).version


def _round(url: str, call: str, version: int) -> Round:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.cold_child", url, call],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout)
    if said["version"] < version:
        raise AssertionError(f"{call} found version {said['version']}, not {version}")
    return Round(said["ms"], counts={"version": said["version"]})
