"""A run of three steps, and workers that kill themselves: `python -m …steps_under_kill`.

    worker URL LEASE FOLDER     works until it is killed; prints `ready PID` first

The id of an instance says where its worker is to die, once: `2-before` is just before the commit
of its write number 2 is on the disk, `2-after` just after it. Write 0 begins the run, 1 to 3 are
its steps, 4 is its outcome; `claimed` is just after the claim, which writes no event. What a step
does in the world is a line in the file of its instance: its name and its key. A death is a file
too, so that the next worker lives on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wakelog import Jobs, Task, TaskContext
from wakelog.ids import InstanceId
from wakelog.ports.rows import Due
from wakelog.ports.units import Appended, ClaimRequest, NothingDue, Unit
from wakelog_adapters.postgres.store import PostgresStore
from wakelog_adapters.sqlite import SQLiteStore

__all__ = ["ACCEPTED", "CLAIMED", "STEPS", "errand", "jobs", "world_of"]

STEPS = ("order", "pay", "mail")
CLAIMED = "claimed"
"""The instance whose worker dies between its claim and the beginning of its run."""
ACCEPTED = 3
"""The version before the run: `Started`, `EventReceived`, `Scheduled`."""

errand = Task(state=list[str], event=str)


@errand.on_event
def asked(ctx: TaskContext[list[str]], event: str) -> None:
    ctx.schedule(0)


@errand.execute
async def run(ctx: TaskContext[list[str]]) -> None:
    folder: Path = ctx.resources
    answers = [
        await ctx.step(STEPS[0], do, folder, ctx.id, STEPS[0], ctx.step_key(STEPS[0])),
        await ctx.step(STEPS[1], do_on_loop, folder, ctx.id, STEPS[1], ctx.step_key(STEPS[1])),
        await ctx.step(STEPS[2], do, folder, ctx.id, STEPS[2], ctx.step_key(STEPS[2])),
    ]
    ctx.set_state(answers)


def do(folder: Path, id: str, step: str, key: str) -> str:
    """What the world sees of a step."""
    with world_of(folder, id).open("a") as world:
        world.write(f"{step} {key}\n")
    return f"{step} done"


async def do_on_loop(folder: Path, id: str, step: str, key: str) -> str:
    return do(folder, id, step, key)


def world_of(folder: Path, id: str) -> Path:
    """The file that tells what was done for an instance."""
    return folder / f"{id}.done"


def jobs(folder: Path) -> Jobs:
    """The jobs; their world is in `folder`."""
    return Jobs(errand=errand, resources=folder)


def mortal(store_type: Any, folder: Path) -> None:
    """Let this process die at the writes that the ids of its instances name."""
    append, claim = store_type.append, store_type.claim

    def dying_append(store: Any, units: Sequence[Unit]) -> Appended:
        die_if_due(units, "before", folder)
        appended: Appended = append(store, units)
        die_if_due(units, "after", folder)
        return appended

    def dying_claim(store: Any, request: ClaimRequest) -> Sequence[Due] | NothingDue:
        claimed: Sequence[Due] | NothingDue = claim(store, request)
        for due in () if isinstance(claimed, NothingDue) else claimed:
            if InstanceId.parse(due.stream).id == CLAIMED:
                die_once(CLAIMED, folder)
        return claimed

    store_type.append, store_type.claim = dying_append, dying_claim
    if issubclass(store_type, PostgresStore):
        mortal_on_loop(store_type, folder)


def mortal_on_loop(store_type: Any, folder: Path) -> None:
    """The same for appends that an event loop starts and hears of."""
    start = store_type.start_append

    def dying_start(store: Any, units: Sequence[Unit]) -> Any:
        die_if_due(units, "before", folder)
        started = start(store, units)
        if started is None:
            return None
        result = started.result

        def dying_result() -> Appended | None:
            if (appended := result()) is not None:
                die_if_due(units, "after", folder)
            return appended  # type: ignore[no-any-return]

        started.result = dying_result
        return started

    store_type.start_append = dying_start


def die_if_due(units: Sequence[Unit], point: str, folder: Path) -> None:
    for unit in units:
        id = InstanceId.parse(unit.stream).id
        write = unit.base_version - ACCEPTED
        if id == f"{write}-{point}" and unit.events:
            die_once(id, folder)


def die_once(id: str, folder: Path) -> None:
    died = folder / f"{id}.died"
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)


async def worker(url: str, lease: str, folder: str) -> None:
    """Work, on one instance at a time."""
    mortal(SQLiteStore if url.startswith("sqlite:") else PostgresStore, Path(folder))
    opening = jobs(Path(folder)).open(url, worker=True, lease=lease, concurrency=1, max_lost=1_000)
    async with opening:
        print("ready", os.getpid(), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    assert sys.argv[1] == "worker"
    asyncio.run(worker(*sys.argv[2:]))
