"""Bad input is refused at the call, with a typed error that says what to do (U4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wakelog import Jobs, ValidationError, WorkerPool
from wakelog.testing import Simulation

BAD: dict[str, Callable[[Any], object]] = {
    "a text for a list of events": lambda pool: pool.enqueue_many("abc"),
    "nothing for a list of events": lambda pool: pool.enqueue_many(None),
    "an iterator for a list of events": lambda pool: pool.enqueue_many(iter(["a"])),
    "a text for a list of ids": lambda pool: pool.requeue("abc"),
    "bytes for a list of ids": lambda pool: pool.discard(b"abc"),
    "a text for ids to move": lambda pool: pool.set_priority(1, "abc"),
    "ids and an error": lambda pool: pool.requeue(["x"], error="ValueError"),
    "no id": lambda pool: pool.get(None),
    "a number for an id": lambda pool: pool.why(5),
    "bytes for an id": lambda pool: pool.wait(b"x"),
    "a text for a partition": lambda pool: pool.pause("0"),
    "a truth for a partition": lambda pool: pool.pause(True),
    "a fraction for a partition": lambda pool: pool.resume(0.0),
    "no text for a dry run": lambda pool: pool.rebuild(dry_run=""),
    "nothing for a dry run": lambda pool: pool.discard(dry_run=None),
    "a number for a dry run of requeue": lambda pool: pool.requeue(dry_run=0),
    "a number for a dry run of dead_letter": lambda pool: pool.dead_letter(dry_run=0),
    "a number for a dry run of set_priority": lambda pool: pool.set_priority(1, dry_run=0),
    "a partition that is not there": lambda pool: pool.pause(5),
}


@pytest.mark.parametrize("name", BAD)
def test_U4_bad_input_is_refused_and_nothing_is_recorded(name: str) -> None:
    pool: WorkerPool[str] = WorkerPool(event=str)
    pool.execute(lambda ctx, event: None)
    with Simulation(Jobs(pool=pool)) as sim:
        with pytest.raises(ValidationError):
            BAD[name](sim.worker_pool("pool"))
        assert sim.application.store.pool_jobs() == []


async def tenant(event: str) -> str:
    return event


@pytest.mark.parametrize("fair", [tenant, lambda: "a", 5])
def test_I5_a_function_that_cannot_name_a_key_is_refused_where_it_is_written(fair: Any) -> None:
    with pytest.raises(ValidationError, match="must"):
        WorkerPool(event=str, fair=fair)


def test_I5_a_key_that_is_a_coroutine_is_refused_at_the_call() -> None:
    pool: WorkerPool[str] = WorkerPool(event=str, fair=lambda event: tenant(event))  # type: ignore[arg-type, return-value]  # pyright: ignore
    pool.execute(lambda ctx, event: None)
    with Simulation(Jobs(pool=pool)) as sim, pytest.raises(ValidationError, match="coroutine"):
        sim.worker_pool("pool").enqueue("a")
