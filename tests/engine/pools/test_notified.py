"""A worker that hears of work in a pool from another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.engine.pools.live import JOB, ended, pool_of, until
from wakelog import Jobs
from wakelog.ports.pools import Plan, PoolLook
from wakelog.settings import WorkerSettings
from wakelog_adapters.alarm_scheduler import open_alarm_clock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_to_come", [False, True])
async def test_P7_a_worker_that_has_seen_what_it_hears_of_does_not_look_again(
    is_to_come: bool,
) -> None:
    pool = pool_of(lambda ctx, event: None, concurrency=1)
    async with Jobs(pool=pool).open("memory://notified") as app:
        store: Any = app.application.store
        call = store.pool_call
        told: list[Callable[[str, int], None]] = []
        calls: list[PoolLook] = []

        def watch(on_alarm: Callable[[int], None], on_pool: Callable[[str, int], None]) -> Any:
            told.append(on_pool)
            return lambda: None

        def counted(look: PoolLook, plan: Plan) -> Sequence[Any]:
            calls.append(look)
            slices: Sequence[Any] = call(look, plan)
            return slices

        store.watch_alarms, store.pool_call = watch, counted
        await app.start_worker(WorkerSettings(), open_alarm_clock)
        accepted = await app.worker_pool(pool).enqueue(1)
        await ended(app.worker_pool(pool), [accepted.event_id])
        await app.application.pools.drained()
        seen = store.pool_look(PoolLook(JOB, 0)).number - 1
        del calls[:]
        # when
        told[0](JOB, seen)
        for _ in range(20):
            await asyncio.sleep(0)
        # then
        assert calls == []
        told[0](JOB, 0 if is_to_come else seen + 2)

        async def has_looked() -> bool:
            return bool(calls)

        await until(has_looked)
