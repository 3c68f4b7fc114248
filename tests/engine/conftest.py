"""Fixtures for the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clockwork import Winding, winding


@pytest.fixture
def wind(store_url: str) -> Iterator[Winding]:
    """Builds simulations of a Continuous job on one store; at the end all must add up."""
    with winding(store_url) as wind:
        yield wind
