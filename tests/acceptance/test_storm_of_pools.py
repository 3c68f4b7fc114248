"""Workers of pools are killed, and their server is restarted, while events come (K1, K3, P5, P6).

`WAKELOG_CHAOS_SECONDS` and `WAKELOG_CHAOS_SEED` choose another long storm.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.acceptance.outage_stores import AwayFile, RestartedServer
from tests.acceptance.pool_storm import LEASE, pool_storm
from tests.acceptance.troubles import OF_A_FILE, OF_A_SERVER
from tests.support_postgres import running_server, with_options

SHORT_S = 8.0
SHORT_LEASE = "1s"
DEFAULT_LEASE = "30s"


def test_K1_K3_P5_P6_a_short_storm_over_pools_of_a_server(tmp_path: Path) -> None:
    with running_server() as server:
        url = with_options(server.url, schema="pools")
        store = RestartedServer(server)
        report = pool_storm(store, url, tmp_path, seconds=SHORT_S, seed=1, lease=SHORT_LEASE)
    print(report)
    assert min(report.kills, report.restarts.total(), report.cuts, report.lost) > 0
    assert min(report.troubles.counts[each] for each in OF_A_SERVER) > 0


def test_K1_P5_P6_a_short_storm_over_pools_of_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    store = AwayFile(tmp_path)
    report = pool_storm(store, url, tmp_path, seconds=SHORT_S / 2, seed=1, lease=SHORT_LEASE)
    print(report)
    assert min(report.kills, report.lost, report.ends["dead"], report.ends["completed"]) > 0
    assert min(report.troubles.counts[each] for each in OF_A_FILE) > 0


@pytest.mark.chaos
@pytest.mark.parametrize("lease", [LEASE, DEFAULT_LEASE])
def test_K1_K3_P5_P6_a_storm_of_minutes_over_pools_of_a_server(tmp_path: Path, lease: str) -> None:
    seconds, seed = chosen()
    with running_server(safe=True) as server:
        url = with_options(server.url, schema="pools")
        store = RestartedServer(server)
        report = pool_storm(store, url, tmp_path, seconds=seconds, seed=seed, lease=lease)
    print(report)
    assert report.kills >= 10
    assert set(report.restarts) == {"fast", "immediate", "kill"}


@pytest.mark.chaos
def test_K1_P5_P6_a_storm_of_minutes_over_pools_of_a_file(tmp_path: Path) -> None:
    seconds, seed = chosen()
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    report = pool_storm(AwayFile(tmp_path), url, tmp_path, seconds=seconds, seed=seed)
    print(report)
    assert report.kills >= 10


def chosen() -> tuple[float, int]:
    """How long, and which one."""
    seconds = float(os.environ.get("WAKELOG_CHAOS_SECONDS", "180"))
    return seconds, int(os.environ.get("WAKELOG_CHAOS_SEED") or secrets.randbelow(1_000_000))
