"""Pools in virtual time: delays, retries, rates, emptyings, code that cannot read, and crashes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.auditing_pools import audit_pool
from tests.engine.pools.live import JOB, pool_of, simulated
from wakelog import Backoff, GiveUp, Jobs, NewEvent, Retry, RetryAfter
from wakelog.testing import SimulatedCrash, Simulation

MINUTE = timedelta(minutes=1)


class Old(BaseModel):
    """What the code of yesterday accepted."""

    name: str


class New(BaseModel):
    """What the code of a moment between needs."""

    name: str
    email: str


class Both(BaseModel):
    """Code that reads either."""

    name: str
    email: str = "none"


def retry(delay: str = "1m", attempts: int = 3) -> Retry:
    return Retry(max_attempts=attempts, delay=Backoff.constant(delay), jitter=0)


def test_P2_a_delayed_event_is_not_worked_on_before_its_time(pool_url: str) -> None:
    ran: list[tuple[Any, datetime]] = []
    pool = pool_of(lambda ctx, event: ran.append((event, ctx.now)), concurrency=1)
    with simulated(pool_url, pool) as sim:
        client, start = sim.worker_pool(pool), sim.now
        client.enqueue("later", delay="10m")
        client.enqueue("at", at=start + 5 * MINUTE)
        client.enqueue("now")
        sim.advance("1h")
        assert ran == [("now", start), ("at", start + 5 * MINUTE), ("later", start + 10 * MINUTE)]


def test_I4_a_step_of_a_def_is_recorded_at_once(pool_url: str) -> None:
    done: list[str] = []

    def step(event: str) -> str:
        done.append(event)
        return f"of {event}"

    def execute(ctx: Any, event: str) -> None:
        first: str = ctx.step_blocking("one", step, event)
        assert first == f"of {event}"
        if len(done) < 3:
            raise ValueError

    pool = pool_of(execute, concurrency=2, retry=retry())
    with simulated(pool_url, pool) as sim:
        client = sim.worker_pool(pool)
        ids = [client.enqueue(event).event_id for event in ("a", "b", "c")]
        sim.advance("1h")
        # then a step that was recorded is not done again by a retry
        assert sorted(done) == ["a", "b", "c"]
        assert [client.get(id).status for id in ids] == ["completed"] * 3


def test_P7_the_oldest_pending_age_is_that_of_an_event_that_is_pending(pool_url: str) -> None:
    pool = pool_of(lambda ctx, event: None, concurrency=1)
    with simulated(pool_url, pool) as sim:
        client = sim.worker_pool(pool)

        def age() -> timedelta | None:
            return client.status().oldest_pending_age

        # given four events, a minute apart but for the first two
        client.pause()
        client.enqueue_many([NewEvent(event=name, id=name) for name in "ab"])
        for name in "cd":
            sim.advance("1m")
            client.enqueue(name, id=name)
        assert age() == 2 * MINUTE
        # what was cancelled does not count, nor what was accepted with it if that was too
        client.cancel_event("a")
        assert age() == 2 * MINUTE
        client.cancel_event("b")
        assert age() == 1 * MINUTE
        # what was moved counts as it did, wherever it waits now
        client.set_priority(-1, ["c"])
        assert age() == 1 * MINUTE
        client.cancel_event("c")
        assert age() == 0 * MINUTE
        # what waits for its time, or for code, is not pending
        client.enqueue("later", delay="1h")
        client.cancel_event("d")
        assert age() is None


def test_P7_the_oldest_pending_age_has_a_bound() -> None:
    pool = pool_of(lambda ctx, event: None, concurrency=1)
    with simulated("memory://", pool) as sim:
        client = sim.worker_pool(pool)
        client.pause()
        many = [each.event_id for each in client.enqueue_many([*range(1_001)])]
        sim.advance("1m")
        client.enqueue("last")
        # when more were moved than a look shows, and cancelled then
        client.set_priority(1, many)
        for id in many[1:]:
            client.cancel_event(id)
        client.cancel_event(many[0])
        # then the next one counts though it is gone
        assert client.status().oldest_pending_age == MINUTE
        assert client.status().pending == 1


def test_I1_an_id_names_its_event_for_ever(pool_url: str) -> None:
    """`idempotency_window` ends nothing here: `get` finds an event by its id."""
    ran: list[Any] = []
    pool = pool_of(lambda ctx, event: ran.append(event), concurrency=1)
    with simulated(pool_url, pool) as sim:
        client = sim.worker_pool(pool)
        client.enqueue("a")
        first = client.enqueue("b", id="one")
        sim.advance("30d")
        again = client.enqueue("b", id="one")
        # then the answer is the first one
        assert again == replace(first, duplicate=True)
        assert again.position == 1
        assert client.get("one").status == "completed"
    assert ran == ["a", "b"]


def test_P5_retries_come_after_their_delays_and_then_it_is_dead(pool_url: str) -> None:
    ran: list[tuple[datetime, int]] = []
    told: list[Any] = []

    def execute(ctx: Any, event: Any) -> None:
        ran.append((ctx.now, ctx.attempts))
        raise ValueError("no")

    pool = pool_of(
        execute, retry=retry(), on_dead_letter=lambda ctx, event, error: told.append(event)
    )
    with simulated(pool_url, pool) as sim:
        start = sim.now
        sim.worker_pool(pool).enqueue("a", id="a")
        sim.advance("1h")
        assert ran == [(start + n * MINUTE, n + 1) for n in range(3)]
        assert told == ["a"]
        assert sim.worker_pool(pool).get("a").attempts == 3


def test_P5_a_handler_may_overrule_the_policy(pool_url: str) -> None:
    ran: list[tuple[Any, timedelta]] = []

    def execute(ctx: Any, event: Any) -> None:
        ran.append((event, ctx.now - start))
        if event == "hopeless":
            raise GiveUp(ValueError("no"))
        if ctx.attempts == 1:
            raise RetryAfter("7m", ValueError("busy"))

    pool = pool_of(execute, concurrency=1, retry=retry())
    with simulated(pool_url, pool) as sim:
        start = sim.now
        client = sim.worker_pool(pool)
        client.enqueue("hopeless", id="hopeless")
        client.enqueue("busy", id="busy")
        sim.advance("1h")
        assert ran == [("hopeless", 0 * MINUTE), ("busy", 0 * MINUTE), ("busy", 7 * MINUTE)]
        assert (client.get("hopeless").status, client.get("busy").status) == ("dead", "completed")


def test_P10_in_any_span_no_more_runs_start_than_the_rate(pool_url: str) -> None:
    starts: list[datetime] = []

    def execute(ctx: Any, event: Any) -> None:
        starts.append(ctx.now)
        if event == "bad":
            raise ValueError("no")

    pool = pool_of(execute, concurrency=2, rate_limit=(3, "1m"), retry=retry("10s", attempts=2))
    with simulated(pool_url, pool) as sim:
        client = sim.worker_pool(pool)
        client.enqueue_many([*("good" for _ in range(7)), "bad", "bad"])
        sim.advance("1h")
        status = client.status()
        assert (status.processed, status.dead, len(starts)) == (7, 2, 11)
        for at in starts:
            assert sum(at - MINUTE < other <= at for other in starts) <= 3
        # and it is not slower than that
        assert max(starts) - min(starts) <= 4 * MINUTE


def test_P1_on_empty_once_for_each_emptying(pool_url: str) -> None:
    told: list[str] = []
    broken = True

    def execute(ctx: Any, event: Any) -> None:
        told.append(event)
        if event == "bad" and broken:
            raise ValueError("no")

    pool = pool_of(execute, concurrency=1, on_empty=lambda ctx: told.append("EMPTY"))
    with simulated(pool_url, pool) as sim:
        client = sim.worker_pool(pool)
        sim.advance("1h")
        assert told == []
        client.enqueue_many(["a", "b"])
        client.enqueue("later", delay="10m")
        sim.advance("1h")
        assert told == ["a", "b", "later", "EMPTY"]
        client.enqueue("bad", id="bad")
        sim.advance("1h")
        assert told[4:] == ["bad", "EMPTY"]
        broken = False
        client.requeue(["bad"])
        sim.advance("1h")
        assert told[6:] == ["bad", "EMPTY"]


def test_P1_an_on_empty_that_fails_is_recorded_and_changes_nothing(pool_url: str) -> None:
    calls: list[int] = []

    def empty(ctx: Any) -> None:
        calls.append(1)
        raise ValueError("no")

    pool = pool_of(lambda ctx, event: None, on_empty=empty)
    with simulated(pool_url, pool) as sim:
        client = sim.worker_pool(pool)
        client.enqueue("a")
        sim.advance("1h")
        client.enqueue("b")
        sim.advance("1h")
        assert (len(calls), client.status().processed) == (2, 2)


def test_K4_what_this_code_cannot_read_waits_for_code_that_can(pool_url: str) -> None:
    seen: list[str] = []

    def of(type_: Any) -> Any:
        return pool_of(
            lambda ctx, event: seen.append(f"{event.name} {ctx.attempts}"),
            event=type_, concurrency=1, ordered=True, retry=retry(),
        )  # fmt: skip

    # given an event that the code of yesterday has accepted
    old = of(Old)
    with simulated(pool_url, old) as sim:
        sim.worker_pool(old).pause()
        sim.worker_pool(old).enqueue(Old(name="old"), id="old", partition_key="k")
        at = sim.now
    # when the code of today cannot read it
    new = of(New)
    with simulated(pool_url, new, start=at) as sim:
        client = sim.worker_pool(new)
        client.resume()
        client.enqueue(New(name="same key", email="a"), id="same", partition_key="k")
        client.enqueue(New(name="other", email="b"), id="other")
        sim.advance("10m")
        # then it waits, untouched, and what has its key behind it; others go on
        assert seen == ["other 1"]
        assert client.get("old").status == "waiting_for_code"
        assert client.why("old").cause == "waiting_for_code"
        assert client.why("same").cause == "behind_key"
        status = client.status()
        assert (status.waiting_for_code, status.pending, status.dead) == (1, 1, 0)
        assert client.get("old").attempts == 0
        assert client.why("old").text.endswith("ValidationError: email: Field required")
        # and no further try of it is recorded, however long it waits; of what is behind it few are
        tried = [entry.event for entry in client.history("old")]
        behind = len(client.history("same"))
        sim.advance("2d")
        assert [entry.event for entry in client.history("old")] == tried
        assert tried == ["EventsReceived", "RunsStarted", "RunsReturned"]
        assert len(client.history("same")) <= behind + 20  # taken and given back, ten times
        at = sim.now
    # and when there is code that can, both are done, in their order
    both = of(Both)
    with simulated(pool_url, both, start=at) as sim:
        sim.advance("10m")
        assert seen == ["other 1", "old 1", "same key 1"]


def test_K4_a_simulation_is_idle_if_all_waits_behind_what_waits_for_code(pool_url: str) -> None:
    seen: list[str] = []

    def of(type_: Any) -> Any:
        return pool_of(
            lambda ctx, event: seen.append(event.name), event=type_, ordered=True, concurrency=2
        )

    old, new, both = of(Old), of(New), of(Both)
    with simulated(pool_url, old) as sim:
        sim.worker_pool(old).pause()
        sim.worker_pool(old).enqueue(Old(name="one"), partition_key="k")
        at = sim.now
    with simulated(pool_url, new, start=at) as sim:
        client = sim.worker_pool(new)
        client.enqueue(New(name="two", email="a"), id="two", partition_key="k")
        client.enqueue(New(name="delayed", email="a"), partition_key="k", delay="2h")
        client.enqueue(New(name="other", email="a"), partition_key="l", delay="3h")
        client.resume()
        # then what can be done is done, and idle is reached, again and again
        for _ in range(2):
            sim.run_until_idle()
            assert seen == ["other"]
            assert client.why("two").cause == "behind_key"
        assert sim.now - at < timedelta(hours=4)
        at = sim.now
    # and with code that can read it all of it is done, in its order
    with simulated(pool_url, both, start=at) as sim:
        sim.run_until_idle()
    assert seen == ["other", "one", "two", "delayed"]


def test_K4_A9_an_operator_may_discard_it(pool_url: str) -> None:
    old = pool_of(lambda ctx, event: None, event=Old)
    with simulated(pool_url, old) as sim:
        sim.worker_pool(old).pause()
        sim.worker_pool(old).enqueue(Old(name="old"), id="old")
        at = sim.now
    new = pool_of(lambda ctx, event: None, event=New)
    with simulated(pool_url, new, start=at) as sim:
        client = sim.worker_pool(new)
        client.resume()
        sim.advance("10m")
        assert client.discard().events == ()
        assert client.discard(["old"]).events == ("old",)
        assert client.status().waiting_for_code == 0


def test_K4_A9_an_operator_may_make_a_dead_letter_of_it(pool_url: str) -> None:
    ran: list[Any] = []
    told: list[Any] = []

    def of(type_: Any) -> Any:
        return pool_of(
            lambda ctx, event: ran.append(event.name), event=type_, ordered=True,
            on_dead_letter=lambda ctx, event, error: told.append(event),
        )  # fmt: skip

    old, new, both = of(Old), of(New), of(Both)
    with simulated(pool_url, old) as sim:
        sim.worker_pool(old).pause()
        for id in ("one", "two"):
            sim.worker_pool(old).enqueue(Old(name=id), id=id, partition_key="k")
        at = sim.now
    with simulated(pool_url, new, start=at) as sim:
        client = sim.worker_pool(new)
        client.resume()
        client.enqueue(New(name="three", email="a"), id="three", partition_key="k")
        sim.advance("1m")
        # then what waits for code can be given up: by id, or all of it
        would = client.dead_letter(["one", "three", "four"], dry_run=True)
        assert (would.events, would.skipped, would.dry_run) == (
            ("one",), {"three": "unchanged", "four": "not_found"}, True,
        )  # fmt: skip
        assert client.status().dead == 0
        assert client.dead_letter(["one"], actor="ann").events == ("one",)
        sim.advance("1m")  # now the second one is tried
        assert client.get("two").status == "waiting_for_code"
        assert client.dead_letter().events == ("two",)
        assert client.dead_letter(["two"]).skipped == {"two": "unchanged"}
        sim.run_until_idle()
        assert (ran, told) == (["three"], [])  # the code that could be told cannot read it
        letters = client.dead_letters()
        assert [(each.event_id, each.reason, each.attempts) for each in letters] == [
            ("one", "waiting_for_code", 0), ("two", "waiting_for_code", 0),
        ]  # fmt: skip
        assert letters[0].error_type == "ValidationError"
        assert "(by ann)" in str(client.history("one")[-1])
        at = sim.now
    # and there is a way back, for code that can
    with simulated(pool_url, both, start=at) as sim:
        assert sim.worker_pool(both).requeue().events == ("one", "two")
        sim.run_until_idle()
    assert ran == ["three", "one", "two"]


@pytest.mark.parametrize("point", ["before_write", "after_write"])
def test_K1_a_crash_at_each_write_loses_nothing_and_records_nothing_twice(
    pool_url: str, point: Any
) -> None:
    def execute(ctx: Any, event: Any) -> Any:
        if event == "flaky" and ctx.attempts == 1:
            raise ValueError("no")
        if event == "bad":
            raise GiveUp(ValueError("no"))
        return f"{event} done"

    pool = pool_of(
        execute, concurrency=2, retry=retry(), keep_results=True, on_empty=lambda ctx: None
    )
    with Simulation(Jobs(pool=pool), url=pool_url) as sim:
        for number in range(12):
            accept(sim, pool, number)
            # when the next write but so many crashes
            crash_at(sim, point, number)
            sim.advance("1h")
            sim.advance("1h")
            audit = audit_pool(sim.application.store, JOB)
            assert audit.ends() == {"completed": 2 * (number + 1), "dead": number + 1}
            assert audit.fate(f"flaky{number}").results == ["flaky done"]


def accept(sim: Simulation, pool: Any, number: int) -> None:
    for event in ("quick", "flaky", "bad"):
        sim.worker_pool(pool).enqueue(event, id=f"{event}{number}")


def crash_at(sim: Simulation, point: Any, after: int) -> None:
    """Let time pass until a write crashes, after so many steps of time; then start anew."""
    for _ in range(after):
        sim.advance("5s")
    sim.crash_next(point)
    try:
        sim.advance("10m")
    except SimulatedCrash:
        sim.restart()
    else:
        sim.restart()


def test_P1_P7_a_pause_in_on_empty_pauses_the_pool(pool_url: str) -> None:
    ran: list[str] = []

    def execute(ctx: Any, event: Any) -> None:
        ran.append(event)
        if event == "clear":
            ctx.clear("that is all")

    pool = pool_of(execute, concurrency=1, on_empty=lambda ctx: ctx.pause("until the next batch"))
    with simulated(pool_url, pool) as sim:
        client = sim.worker_pool(pool)
        client.enqueue_many(["a", "clear", "b"])
        sim.advance("1m")
        client.enqueue("c")
        sim.advance("1m")
        assert ran == ["a", "clear", "b"]
        status = client.status()
        assert (status.paused, status.reason, status.pending) == (True, "until the next batch", 1)
        assert client.resume().done
        sim.advance("1m")
        assert ran[3:] == ["c"]
