"""Workers of pools are killed with `kill -9`: at every commit boundary, and by a handler."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.pool_under_kill import EVENTS, jobs, killers, lines_of
from tests.acceptance.processes import Children
from tests.auditing_pools import PoolAudit, audit_pool
from tests.support import WAIT_S
from wakelog import App
from wakelog.core.events import StepCompleted
from wakelog.jobs import open_store
from wakelog.pools.state import partition_stream

pytestmark = pytest.mark.anyio

MODULE = "tests.acceptance.pool_under_kill"
LEASE = "300ms"
LEAST_WRITES = 8
"""Fewer writes than a life of such a pool has."""
MANY_S = 60.0


def audits(url: str, names: list[str]) -> dict[str, PoolAudit]:
    """What became of the pools, after all of it was found to add up."""
    with closing(open_store(url)) as factory:
        store = factory.application_recorder()
        return {name: audit_pool(store, f"workerPool:{name}") for name in names}


def steps_in(audit: PoolAudit, name: str) -> list[str]:
    """The steps that are recorded."""
    history = audit.events.get(partition_stream(f"workerPool:{name}", 0), [])
    return [r.event.step for r in history if isinstance(r.event, StepCompleted)]


async def test_K1_P6_I4_killed_at_every_commit_nothing_is_lost_or_recorded_twice(
    shared_url: str, tmp_path: Path
) -> None:
    # given a pool for each boundary, whose worker dies there
    names = await accepted(shared_url, tmp_path)
    with Children(shared_url, MODULE) as children:
        parent = children.start("lives", LEASE, str(tmp_path))
        lives = 0
        while (line := parent.line(MANY_S)).startswith("killed"):
            lives += 1
        assert line == f"whole {lives}"
    assert lives >= 2 * LEAST_WRITES
    names = names[: lives + 1]
    left = audits(shared_url, names)
    before = {name: lines_of(tmp_path, name) for name in names}
    reasons: dict[str, str] = {}
    # when a worker that lives on has all of them
    opening = jobs(tmp_path).open(shared_url, worker=True, lease=LEASE, only=tuple(names))
    async with opening as app, asyncio.timeout(MANY_S):
        for name in names:
            pool = app.worker_pool(name)
            steps, flaky, bad = [await pool.wait(event) for event in EVENTS]
            assert (steps.result, flaky.result) == ("steps done", "flaky done")
            assert bad.status == "dead"
            [letter] = await pool.dead_letters()
            reasons[name] = letter.reason
    # then each event has one end, and no step that was recorded is done again
    for name, audit in audits(shared_url, names).items():
        assert audit.ends() == {"completed": 2, "dead": 1}, name
        assert steps_in(audit, name) == ["one", "two"]
        assert audit.fate("steps").results == ["steps done"]
        again = lines_of(tmp_path, name)[len(before[name]) :]
        recorded = steps_in(left[name], name)
        assert not {f"step {step}" for step in recorded} & {*again}, name
        told = Counter(lines_of(tmp_path, name))
        assert max(told[f"step {step}"] for step in ("one", "two")) <= 2
        # also of what was lost in its last attempt
        assert 1 <= told["dead bad"] <= 2, name
    runs = sum(len(lines_of(tmp_path, name)) for name in names)
    print(f"kills {lives}, pools {len(names)}, lines of the world {runs}")


async def accepted(url: str, folder: Path) -> list[str]:
    """The pools of all lives, each with its events."""
    made = jobs(folder)
    async with made.open(url) as app:
        names = [definition.name for definition in app.application.registry]
        for name in names:
            for event in EVENTS:
                await app.worker_pool(name).enqueue(event, id=event)
    return names


async def test_R6_P6_an_event_that_kills_its_process_ends_alone(
    shared_url: str, tmp_path: Path
) -> None:
    async with killers(tmp_path).open(shared_url) as app:
        pool = app.worker_pool("killer")
        for event in ("a", "kill", "b"):
            await pool.enqueue(event, id=event)
        # when workers die as long as there are any that do
        with Children(shared_url, MODULE) as children:
            deaths = 0
            while True:
                worker = children.start("killer", LEASE, str(tmp_path))
                ends = asyncio.ensure_future(over(app, ["a", "kill", "b"]))
                death = asyncio.ensure_future(asyncio.to_thread(worker.killed))
                done, _ = await asyncio.wait(
                    {ends, death}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED
                )
                assert done
                if ends in done:
                    worker.kill()
                    await death
                    break
                ends.cancel()
                deaths += 1
        # then
        killed = await pool.get("kill")
        assert (killed.status, deaths) == ("dead", 2)
        [letter] = await pool.dead_letters()
        assert (letter.event_id, letter.reason) == ("kill", "lost")
    assert audits(shared_url, ["killer"])["killer"].ends() == {"completed": 2, "dead": 1}
    assert Counter(lines_of(tmp_path, "killer"))["kill"] == 2


async def over(app: App, ids: list[str]) -> None:
    """Wait until all of these have ended."""
    pool = app.worker_pool("killer")
    for id in ids:
        await pool.wait(id)
