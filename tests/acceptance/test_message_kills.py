"""Chains of messages between jobs, whose processes are killed with `kill -9` (I2)."""

from __future__ import annotations

import pytest

from tests.acceptance.messages_under_kill import EVERY
from tests.acceptance.processes import Children, audited, wait_until

MODULE = "tests.acceptance.messages_under_kill"
LEASE = "300ms"
LEAST_WRITES = 6
"""Fewer writes than such a chain has, however much of it is written together."""
MANY_S = 60.0
SENDERS, WORKERS = 2, 4
"""Processes that send, and that work."""
IDS = 50
"""Instances to which each sends in turn."""


def test_I2_K1_killed_at_every_commit_a_chain_comes_to_the_same_end(shared_url: str) -> None:
    with EVERY.open(shared_url) as app, Children(shared_url, MODULE) as children:
        # given a chain for each boundary, whose process dies there
        parent = children.start("lives", LEASE)
        lives = 0
        while (line := parent.line(MANY_S)).startswith("killed"):
            lives += 1
        assert line == f"whole {lives}"
        assert lives >= 2 * LEAST_WRITES
        # when each caller asks again, and a worker lives on
        begun = [app.task(f"a{life}").send("x", "go", event_id="go") for life in range(lives + 1)]
        assert [each.duplicate for each in begun] == [False] + [True] * lives
        worker = children.start("worker", LEASE).ready()
        parcels = [app.task(f"c{life}") for life in range(lives + 1)]
        wait_until(
            lambda: all(sorted(each.get_state("x") or []) == ["go", "mailed"] for each in parcels),
            worker,
            MANY_S,
        )
        # then each has had each of its messages once
        charged = [app.task(f"b{life}").get_state("x") for life in range(lives + 1)]
        assert charged == [["go"]] * (lives + 1)
    audited(shared_url)


def test_I2_K1_many_messages_over_workers_that_are_killed_come_once_and_in_order(
    shared_url: str,
) -> None:
    storm(shared_url, 250, MANY_S)


@pytest.mark.chaos
def test_I2_K1_ten_thousand_messages_over_workers_that_are_killed(shared_url: str) -> None:
    storm(shared_url, 700, 5 * MANY_S)  # each further on with all before it: 14,000 messages


def storm(shared_url: str, sent: int, within_s: float) -> None:
    """Each sender sends so many, and each of them is a message further on; workers are killed."""
    with EVERY.open(shared_url) as app, Children(shared_url, MODULE) as children:
        workers = [children.start("worker", LEASE).ready() for _ in range(WORKERS)]
        senders = [
            children.start("sender", str(number), str(sent)).ready() for number in range(SENDERS)
        ]
        for sender in senders:
            workers.pop(0).kill()
            workers.append(children.start("worker", LEASE).ready())
            assert sender.line(within_s) == f"sent {sent}"
        workers.pop(0).kill()
        expected = {
            f"s{number}-{each}": [str(n) for n in range(sent) if n % IDS == each]
            for number in range(SENDERS)
            for each in range(IDS)
        }
        wait_until(
            lambda: all(app.task("b").get_state(id) == said for id, said in expected.items()),
            workers[0],
            within_s,
        )
    audited(shared_url)
