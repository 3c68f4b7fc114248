"""Stores that several processes can open: a file, and a schema on a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.jobs_under_kill import jobs
from tests.acceptance.processes import Children
from tests.support_postgres import postgres_server, postgres_url
from wakelog import BlockingApp

__all__ = ["app", "children", "postgres_server", "postgres_url", "shared_url"]


@pytest.fixture(params=["sqlite", "postgres"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A new store of each kind that processes share."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def app(shared_url: str) -> Iterator[BlockingApp]:
    """This process is a client only."""
    with jobs.open(shared_url) as app:
        yield app


@pytest.fixture
def children(shared_url: str) -> Iterator[Children]:
    with Children(shared_url) as children:
        yield children
