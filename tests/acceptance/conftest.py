"""Several processes on one store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.jobs_under_kill import jobs
from tests.acceptance.processes import Children
from wakelog import BlockingApp


@pytest.fixture
def app(shared_url: str) -> Iterator[BlockingApp]:
    """This process is a client only."""
    with jobs.open(shared_url) as app:
        yield app


@pytest.fixture
def children(shared_url: str) -> Iterator[Children]:
    with Children(shared_url) as children:
        yield children
