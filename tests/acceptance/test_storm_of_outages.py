"""Long outages at default settings, clock steps, suspended workers and rolling deploys at once.

(K1, K2, K3, U2, C10.) `WAKELOG_CHAOS_SECONDS` and `WAKELOG_CHAOS_SEED` choose another storm.
"""

from __future__ import annotations

import os
import random
import secrets
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.jobs_in_outages import NEW, versions
from tests.acceptance.jobs_under_kill import Done
from tests.acceptance.outage_audits import Figures, Seen, check
from tests.acceptance.outage_stores import AwayFile, AwayStore, away_server
from tests.acceptance.outages import JOBS, Storm
from tests.acceptance.processes import Children, audited
from tests.support_pgbouncer import needs_pgbouncer
from wakelog import BlockingApp

pytestmark = pytest.mark.chaos

ALL_S = 180
"""In so many seconds there is room for each act."""


@needs_pgbouncer
def test_K1_K3_U2_outages_of_a_server_half_of_it_behind_a_pooler() -> None:
    with away_server() as store:
        figures = storm_of_outages(store)
    assert figures.seconds < ALL_S or any(act.startswith("outage") for act in figures.acts)


def test_K1_K3_U2_outages_of_a_file_that_is_also_moved_and_replaced(tmp_path: Path) -> None:
    figures = storm_of_outages(AwayFile(tmp_path))
    assert figures.seconds < ALL_S or any(act.startswith("file") for act in figures.acts)


def storm_of_outages(store: AwayStore) -> Figures:
    """Prints the seed first, and the figures at the end."""
    seconds = float(os.environ.get("WAKELOG_CHAOS_SECONDS", "180"))
    seed = int(os.environ.get("WAKELOG_CHAOS_SEED") or secrets.randbelow(1_000_000))
    print(f"outages: seed {seed}, {seconds:g} s")
    figures = Figures(seed, seconds)
    seen = Seen()
    try:
        states = weathered(store, seed, seconds, seen)
        figures.acts, figures.away_s = seen.acts, round(seen.away_s)
        figures.troubles = seen.troubled
        check(audited(store.patient), states, seen, figures)
    except BaseException:
        print("\n".join(seen.diary))
        raise
    finally:
        print(figures)
    return figures


def weathered(store: AwayStore, seed: int, seconds: float, seen: Seen) -> dict[str, Done | None]:
    """What the chores have come to when the storm has passed."""
    chore = versions[NEW].chore
    with Children(store.patient, JOBS) as children, ExitStack() as stack:

        def opened() -> BlockingApp:
            return stack.enter_context(versions[NEW].jobs.open(store.patient))

        storm = Storm(store, children, random.Random(seed), seen)
        with versions[NEW].jobs.open(store.patient) as app:
            storm.begin(app)
        storm.blow(seconds)
        storm.calm(opened, is_quiet)
        impatient = [call for call in seen.calls if call.ticket // 1_000_000 % 2]
        storm.troubles.check_tries(tried for call in impatient for tried in call.tries)
        app = opened()
        ids = [row.instance_id for row in app.list() if row.instance_id.startswith("task:")]
        return {id: app.task(chore).get_state(id.split(":")[2]) for id in ids}


def is_quiet(app: BlockingApp) -> bool:
    """Whether nothing runs, waits or is scheduled."""
    return all(row.status in ("idle", "stopped") and not row.executing for row in app.list())
