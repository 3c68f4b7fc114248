"""A job of each type for the tests of the command line; their runs fail, and stay so."""

from __future__ import annotations

from typing import Any

from wakelog import Continuous, Debounce, Jobs, Retry, Task

stays = Retry(max_attempts=1, on_exhausted="fail")
chore = Task(state=int, event=int, retry=stays)
round_ = Continuous(state=int, every="1h", retry=stays)
heap = Debounce(event=int, flush_after="1h", max_events=1, retry=stays)


@chore.on_event
def told(ctx: Any, event: int) -> None:
    ctx.schedule(0)


def fails(ctx: Any) -> None:
    raise LookupError("nothing there")


chore.execute(fails)
round_.execute(fails)
heap.execute(fails)

jobs = Jobs(chore=chore, round=round_, heap=heap)
BEGINS = {"chore": "send", "round": "start", "heap": "add"}
TYPES = {"chore": "task", "round": "continuous", "heap": "debounce"}
