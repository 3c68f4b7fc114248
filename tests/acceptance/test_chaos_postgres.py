"""Several workers and clients on one PostgreSQL, that are killed and restarted (K1, K3, U2, A1)."""

from __future__ import annotations

import os
import secrets

import pytest

from tests.acceptance.chaos import storm
from tests.acceptance.troubles import OF_A_SERVER
from tests.support_postgres import running_server

SHORT_S = 15.0


def test_K1_K3_a_short_storm() -> None:
    with running_server() as server:
        report = storm(server, seconds=SHORT_S, seed=1)
    print(report)
    assert min(report.kills, report.restarts.total(), report.lost_attempts, report.runs) > 0
    assert min(report.troubles.counts[each] for each in OF_A_SERVER) > 0


@pytest.mark.chaos
def test_K1_K3_a_storm_of_minutes() -> None:
    """`WAKELOG_CHAOS_SECONDS` and `WAKELOG_CHAOS_SEED` choose another one."""
    seconds = float(os.environ.get("WAKELOG_CHAOS_SECONDS", "180"))
    seed = int(os.environ.get("WAKELOG_CHAOS_SEED") or secrets.randbelow(1_000_000))
    with running_server(safe=True) as server:
        report = storm(server, seconds=seconds, seed=seed)
    print(report)
    assert report.kills >= 10
    assert set(report.restarts) == {"fast", "immediate", "kill"}
