"""Fixtures that all tests may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import Stage, Staging, numbers, staged, task_of
from tests.support_postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

_NUMBERS = numbers()

# How long an example takes depends on what else the machine does: that is for the benchmarks.
settings.register_profile("wakelog", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wakelog")


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio: the engine does."""
    return "asyncio"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A new SQLite file."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A new store of each kind; opened twice, it is the same one."""
    if request.param == "memory":
        return f"memory://test-{next(_NUMBERS)}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A new store that several processes can share, of each kind; opened twice, it is the same."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def stage(store_url: str) -> Iterator[Staging]:
    """Simulations of one Task each, all on the same store; at the end everything must add up."""
    stages: list[Stage] = []

    def build(
        *handlers: Callable[..., Any],
        task: Any = None,
        sim: Any = None,
        **given: Any,
    ) -> Stage:
        made = staged(task or task_of(*handlers, **given), store_url, **(sim or {}))
        stages.append(made)
        return made

    with ExitStack() as closing:
        yield build
        for each in stages:
            closing.enter_context(each.sim)
        for each in stages:
            each.audit()
