"""A command line on a store of its own, and a worker there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.cli.command_line import CommandLine
from tests.adapters.cli.parcel_jobs import jobs
from wakelog.blocking import BlockingApp
from wakelog.testing import Simulation


@pytest.fixture
def wakelog(sqlite_url: str) -> CommandLine:
    """On a store that does not exist yet, with the jobs of `parcel_jobs`."""
    return CommandLine(sqlite_url)


@pytest.fixture
def worker(sqlite_url: str) -> Iterator[BlockingApp]:
    """Works on the store of `wakelog`."""
    with jobs.open(sqlite_url, worker=True, grace="0s") as app:
        yield app


@pytest.fixture
def two_parcels(sqlite_url: str) -> CommandLine:
    """On a store with p-1, whose run has failed, and p-2, which waits for its run."""
    with Simulation(jobs, url=sqlite_url) as sim:
        sim.task("parcel").send("p-1", {"kind": "weighed", "grams": 5000})
        sim.advance("1h")
        sim.task("parcel").send("p-2", {"kind": "weighed", "grams": 500})
    return CommandLine(sqlite_url)
