"""Fixtures for the tests of pools."""

from __future__ import annotations

import pytest

from tests.support import numbers
from wakelog_adapters.postgres import PostgresStore

_NUMBERS = numbers()
STORES = ["memory", "sqlite", *(["postgres"] if hasattr(PostgresStore, "pool_call") else [])]


@pytest.fixture(params=STORES)
def pool_url(request: pytest.FixtureRequest) -> str:
    """A new store of each kind; opened twice, it is the same one."""
    if request.param == "memory":
        return f"memory://pools-{next(_NUMBERS)}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
