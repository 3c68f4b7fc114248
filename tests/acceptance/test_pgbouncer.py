"""More processes behind a real PgBouncer than it has connections to the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.jobs_under_kill import Chore, Done, chore, jobs
from tests.acceptance.processes import Children, audited, is_quiet, wait_until
from tests.auditing import runs_of
from tests.support_pgbouncer import needs_pgbouncer, pgbouncer
from tests.support_postgres import Server, running_server, with_options

pytestmark = needs_pgbouncer

WORKERS, SENDS, IDS = 4, 40, 10


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.mark.parametrize("connections", [3, 1])
def test_K1_nobody_waits_in_a_circle_for_a_connection(server: Server, connections: int) -> None:
    schema = f"behind_{connections}"
    with pgbouncer(server, connections=connections) as pooled:
        url = with_options(pooled, schema=schema)
        with jobs.open(url) as app, Children(url) as children:
            # given more workers that claim than there are connections
            workers = [children.worker("10s") for _ in range(WORKERS)]
            # when there is something to do for all of them, while others send
            task = app.task(chore)
            for number in range(SENDS):
                task.send(f"c-{number % IDS}", Chore(number=number, work_s=0.005))
            # then all of it comes to its end, once
            wait_until(lambda: is_quiet(app), workers[0])
            told = [(task.get_state(f"c-{n}") or Done()).told for n in range(IDS)]
    assert told == [SENDS // IDS] * IDS
    histories = audited(with_options(server.url, schema=schema))
    assert len(histories) == IDS
    assert all(runs_of(history) for history in histories.values())
