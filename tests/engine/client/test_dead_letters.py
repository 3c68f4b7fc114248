"""Dead letters are counted, listed, requeued and discarded, on every type of job (A9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.auditing import audit_all
from tests.support import START
from wakelog import Continuous, Debounce, Jobs, QueueFullError, Retry, Task, ValidationError
from wakelog.core.events import Cleared, DeadLettered, Discarded, Requeued
from wakelog.testing import Simulation

Making = Callable[..., Simulation]


class Mood:
    """Handlers that fail as long as `broken`, and tell what they handled."""

    def __init__(self) -> None:
        self.broken = True
        self.seen: list[Any] = []

    def told(self, ctx: Any, event: int) -> int:
        if self.broken and event >= 0:
            raise LookupError(f"no {event}")
        self.seen.append(event)
        return event

    def flushed(self, ctx: Any) -> None:
        if self.broken:
            raise LookupError("no route")
        self.seen.append(ctx.events)

    def jobs(self, **options: Any) -> Jobs:
        task: Any = Task(state=int, event=int, **options)
        batch: Any = Debounce(event=int, flush_after="1h", retry=Retry(max_attempts=1))
        tick: Any = Continuous(state=int, every="1h")

        def told(ctx: Any, event: int) -> None:
            self.told(ctx, event)
            if event == 99:
                ctx.clear()

        task.on_event(told)
        task.execute(lambda ctx: None)
        batch.execute(self.flushed)
        tick.execute(lambda ctx: None)
        return Jobs(job=task, batch=batch, tick=tick)


@pytest.fixture
def mood() -> Mood:
    return Mood()


@pytest.fixture
def sim(store_url: str, mood: Mood) -> Iterator[Simulation]:
    """A simulation of all types of job; at the end everything must add up."""
    with ExitStack() as closing:
        made = closing.enter_context(Simulation(mood.jobs(), url=store_url, start=START))
        yield made
        audit_all(made.application.store)


def found(sim: Simulation, kind: type[Any], id: str = "task:job:a") -> list[Any]:
    return [each.event for each in sim.events(id) if isinstance(each.event, kind)]


def dead_events(sim: Simulation, *events: int, id: str = "a") -> None:
    """Accepted events whose handlers have failed for good."""
    for event in events:
        sim.task("job").send(id, event, delay=0)
    sim.advance(0)


def test_A9_dead_letters_are_counted_and_listed_with_their_errors(sim: Simulation) -> None:
    dead_events(sim, 1, 2)
    status = sim.task("job").status("a")
    assert (status.dead_letter_count, status.deferred_count) == (2, 0)
    assert [job.dead_letters for job in sim.counts()] == [2]
    first, second = sim.task("job").dead_letters("a")
    assert (first.event, first.events, first.reason) == (2, (2,), "handler_failed")
    assert (first.error_type, first.error_message) == ("LookupError", "no 1")
    assert (first.payload, first.attempts, first.accepted_at) == (1, 1, START)
    assert second.payload == 2
    assert sim.dead_letters() == [first, second]
    assert [row.instance_id for row in sim.list(dead_letters=True)] == ["task:job:a"]
    assert sim.dead_letters(name="batch") == sim.dead_letters(after="task:job:a") == []


def test_A9_one_is_requeued_and_handled_behind_what_waits(sim: Simulation, mood: Mood) -> None:
    dead_events(sim, 1, 2)
    mood.broken = False
    client = sim.task("job")
    client.pause("a")
    client.send("a", 3)
    sim.advance("1s")
    again = client.requeue("a", 3, actor="op", idempotency_key="k")
    assert (again.events, again.done, again.reason) == ((3,), True, None)
    assert client.requeue("a", 3, actor="op", idempotency_key="k").duplicate is True
    client.resume("a")
    sim.advance(0)
    assert mood.seen == [3, 2]
    assert [each.event for each in client.dead_letters("a")] == [2]
    assert client.status("a").dead_letter_count == 1
    assert client.requeue("a", 3).reason == "not_found"
    assert [each.event_version for each in found(sim, Requeued)] == [3]


def test_A9_all_of_an_instance_are_requeued_and_may_die_again(sim: Simulation, mood: Mood) -> None:
    dead_events(sim, 1, 2)
    client = sim.task("job")
    assert client.requeue("a").events == (2, 3)
    sim.advance(0)
    assert [each.payload for each in client.dead_letters("a")] == [1, 2]
    assert len(found(sim, DeadLettered)) == 4
    mood.broken = False
    client.requeue("a")
    sim.advance(0)
    assert (mood.seen, client.dead_letters("a")) == ([1, 2], [])


def test_A9_a_dead_letter_is_discarded_for_good(sim: Simulation) -> None:
    dead_events(sim, 1, 2)
    client = sim.task("job")
    assert client.discard("a", 2, reason="spam").events == (2,)
    assert client.discard("a", 2).reason == "not_found"
    assert [each.event for each in client.dead_letters("a")] == [3]
    assert [each.reason for each in found(sim, Discarded)] == ["spam"]
    assert client.discard("a").events == (3,)
    assert (client.dead_letters("a"), sim.dead_letters()) == ([], [])


def test_A9_a_batch_is_requeued_as_a_batch_of_its_own(sim: Simulation, mood: Mood) -> None:
    # given
    client = sim.debounce("batch")
    client.add("a", 1)
    client.add("a", 2)
    sim.advance("1h")
    [dead] = client.dead_letters("a")
    assert (dead.event, dead.events, dead.payload) == (2, (2, 5), 1)
    assert (dead.reason, dead.error_message) == ("flush_failed", "no route")
    assert client.status("a").dead_letter_count == 1
    # when there is an open window by then
    mood.broken = False
    client.add("a", 3)
    assert client.requeue("a").events == (2,)
    status = client.status("a")
    assert (status.event_count, status.window_count) == (3, 2)
    client.add("a", 4)  # opens one behind it
    sim.advance("2h")
    # then
    assert mood.seen == [[3], [1, 2], [4]]
    assert (client.status("a").status, client.dead_letters("a")) == ("idle", [])


def test_A9_a_flush_includes_the_window_before_a_requeued_batch(
    sim: Simulation, mood: Mood
) -> None:
    client = sim.debounce("batch")
    client.add("a", 1)
    sim.advance("1h")
    mood.broken = False
    client.add("a", 2)
    client.requeue("a")
    assert client.flush("a").flushed is True
    assert mood.seen == [[2], [1]]


def test_A9_a_job_without_events_has_none(sim: Simulation) -> None:
    sim.continuous("tick").start("a", 0)
    client = sim.continuous("tick")
    assert client.dead_letters("a") == []
    for answer in (client.requeue("a"), client.discard("a"), client.dead_letter("a")):
        assert (answer.done, answer.reason) == (False, "not_found")
    assert client.requeue("never").reason == "not_found"


def test_A9_they_outlive_a_handlers_clear_and_open_the_next_life(
    sim: Simulation, mood: Mood
) -> None:
    dead_events(sim, 1)
    mood.broken = False
    sim.task("job").send("a", 99)
    status = sim.task("job").status("a")
    assert (status.status, status.dead_letter_count) == ("not_found", 1)
    assert sim.list() == []
    assert [each.payload for each in sim.dead_letters()] == [1]
    assert [(job.total, job.dead_letters) for job in sim.counts()] == [(0, 1)]
    assert sim.bulk("requeue", name="job").done == 1
    sim.advance(0)
    assert mood.seen == [99, 1]
    assert sim.task("job").status("a").event_count == 1


def test_A9_a_clear_from_outside_ends_them_with_the_life(sim: Simulation) -> None:
    dead_events(sim, 1)
    sim.task("job").clear("a")
    assert (sim.dead_letters(), sim.task("job").status("a").dead_letter_count) == ([], 0)
    assert len(found(sim, DeadLettered)) == len(found(sim, Cleared)) == 1


def test_A9_those_of_all_that_match_are_requeued_or_discarded(sim: Simulation, mood: Mood) -> None:
    dead_events(sim, 1, 2)
    dead_events(sim, 3, id="b")
    sim.task("job").send("c", -1)
    preview = sim.bulk("requeue", dry_run=True)
    assert (preview.matched, preview.done) == (2, 0)
    assert sim.bulk("discard", id_prefix="b", reason="old").instance_ids == ("task:job:b",)
    mood.broken = False
    done = sim.bulk("requeue")
    assert (done.matched, done.done, done.not_done) == (1, 1, ())
    sim.advance(0)
    assert mood.seen == [-1, 1, 2]
    assert [job.dead_letters for job in sim.counts()] == [0]


def test_A9_a_requeue_keeps_to_the_bound_of_the_queue(store_url: str, mood: Mood) -> None:
    with Simulation(mood.jobs(max_waiting=2), url=store_url, start=START) as sim:
        dead_events(sim, 1, 2)
        sim.task("job").send("a", 3, delay="1h")
        with pytest.raises(QueueFullError):
            sim.task("job").requeue("a")
        assert sim.bulk("requeue").done == 0
        assert len(sim.task("job").dead_letters("a")) == 2


def test_A9_a_number_that_cannot_be_is_refused(sim: Simulation) -> None:
    for call in (sim.task("job").requeue, sim.task("job").discard, sim.task("job").dead_letter):
        with pytest.raises(ValidationError):
            call("a", 0)
