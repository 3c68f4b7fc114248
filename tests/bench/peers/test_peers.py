"""That the programs run, with a few jobs each. No figure is asserted."""

from __future__ import annotations

import asyncio

import pytest

from tests.bench.peers.child import OURS, PEERS
from tests.bench.peers.compare import Figures, prepared
from tests.bench.peers.compare_pools import PoolFigures, PoolSizes, measured_as_pool
from tests.bench.peers.process import INSTALLED, child, fresh_database
from tests.bench.peers.run import COLUMNS, POOL_COLUMNS, main
from tests.bench.peers.table import as_markdown

needs_peers = pytest.mark.skipif(
    not INSTALLED, reason="needs the packages of the peers: make peers"
)
OTHERS = tuple(name for name in PEERS if name not in (*OURS, "pgqueuer-10"))
"""But one whose program is the same as another's, with another number."""
HAVE_BATCHES = ("pool", "pool-def", "pgqueuer-100", "procrastinate", "awa")


async def used(name: str, server: str) -> None:
    """Enqueue in each way, and drain, in one process."""
    with fresh_database(server) as url:
        async with prepared(name, url) as process:
            began_s, ended_s = await process.ask("send", 2, 1)
            assert began_s < ended_s
            in_batches = await process.ask("send_batches", 4, 2)
            assert (in_batches is not None) == (name in HAVE_BATCHES)
            began_s, ended_s = await process.ask("drain", 6 if in_batches else 2)
            assert began_s < ended_s


@pytest.mark.parametrize("name", OURS)
def test_wakelog_does_what_is_asked_of_the_peers(name: str, postgres_server: str) -> None:
    asyncio.run(used(name, postgres_server))


@needs_peers
def test_each_peer_runs_every_job_once(postgres_server: str) -> None:
    async def all_at_the_same_time() -> None:
        await asyncio.gather(*(used(name, postgres_server) for name in OTHERS))

    asyncio.run(all_at_the_same_time())


def test_an_idle_worker_reports_when_a_job_of_another_process_began(postgres_server: str) -> None:
    async def picked_up() -> None:
        with fresh_database(postgres_server) as url:
            async with child("wakelog", url) as worker, child("wakelog", url) as sender:
                assert await worker.ask("work") == "working"
                sent_s, _ = await sender.ask("send", 1, 1)
                assert await worker.answer() > sent_s
                assert await worker.ask("stop") == "idle"

    asyncio.run(picked_up())


def test_jobs_that_are_missing_are_no_figure(postgres_server: str) -> None:
    """The process that was to drain them ends with an error, and so does the comparison."""

    async def drained() -> None:
        with fresh_database(postgres_server) as url:
            async with child("wakelog", url) as process:
                await process.ask("send", 3, 1)
                await process.ask("drain", 2)

    with pytest.raises(EOFError):
        asyncio.run(drained())


def test_a_ratio_of_more_than_one_is_in_favour_of_wakelog() -> None:
    # given: a peer that is twice as fast at one thing, and half as fast at the others
    ours = Figures(alone=100, in_flight=1000, batches=None, drain=100, pick_up_ms=5)
    theirs = Figures(alone=200, in_flight=500, batches=500, drain=50, pick_up_ms=10)
    without = Figures(alone=100, in_flight=1000, batches=None, drain=100, pick_up_ms=5)
    # when
    said = as_markdown({}, COLUMNS, {"wakelog": [ours], "fast": [theirs], "plain": [without]})
    # then: where wakelog has no call for a batch, what it does with many at a time counts
    *_, first, fast, plain = said.splitlines()
    assert first == "| wakelog | 100 | 1.00 | 1,000 | 1.00 |  |  | 100 | 1.00 | 5 | 1.00 |"
    assert fast == "| fast | 200 | 0.50 | 500 | 2.00 | 500 | 2.00 | 50 | 2.00 | 10 | 2.00 |"
    assert plain == "| plain | 100 | 1.00 | 1,000 | 1.00 |  |  | 100 | 1.00 | 5 | 1.00 |"


@needs_peers
@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("name", ["pool", "pgqueuer-100"])
def test_W4_is_measured_alike_for_a_pool_and_for_its_peer(
    name: str, pinned: bool, postgres_server: str
) -> None:
    # when
    sizes = PoolSizes(events=12, pick_ups=1, calm_s=0.0, pinned=pinned)
    figures = asyncio.run(measured_as_pool(name, postgres_server, sizes))
    # then
    assert figures.batches is not None
    assert min(figures.batches, figures.completions, figures.pick_up_ms) > 0


def test_the_table_of_W4_has_a_ratio_for_each_figure() -> None:
    # given
    ours = PoolFigures(batches=300, completions=400, pick_up_ms=3)
    theirs = PoolFigures(batches=150, completions=100, pick_up_ms=6)
    without = PoolFigures(batches=None, completions=100, pick_up_ms=3)
    # when
    said = as_markdown({}, POOL_COLUMNS, {"pool": [ours], "fast": [theirs], "plain": [without]})
    # then
    *_, fast, plain = said.splitlines()
    assert fast == "| fast | 150 | 2.00 | 100 | 4.00 | 6 | 2.00 |"
    assert plain == "| plain |  |  | 100 | 4.00 | 3 | 1.00 |"


def test_the_command_refuses_a_peer_that_it_does_not_know() -> None:
    with pytest.raises(SystemExit):
        main(["--peers", "celery"])
