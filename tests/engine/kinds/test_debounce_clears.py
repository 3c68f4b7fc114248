"""Handlers of a Debounce that end its life: what becomes of its events (D4, D8, T9)."""

from __future__ import annotations

from typing import Any

from tests.engine.kinds.debouncing import Staging, after, stages
from wakelog.core.events import Cleared, Flushed

__all__ = ["stages"]


def test_d8_a_handler_may_clear_and_what_waits_opens_the_next_life(stages: Staging) -> None:
    def execute(ctx: Any) -> None:
        batches.append(ctx.events)
        ctx.clear("done")

    batches: list[Any] = []
    job = stages(execute=execute, event=int, max_events=2)
    job.add(1, 2, 3)
    job.sim.advance(0)
    assert batches == [[1, 2]]
    status = job.status()
    assert (status.event_count, status.will_flush_at) == (1, after(5))
    assert job.client.flush("a").flushed
    assert batches == [[1, 2], [3]]
    assert job.names().count("Started") == 2


def test_d4_a_batch_is_flushed_though_its_handler_ended_the_life(stages: Staging) -> None:
    job = stages(execute=lambda ctx: ctx.clear("done"), event=int)
    job.add(1, 2)
    flush = job.client.flush("a")
    assert (flush.flushed, flush.event_count, flush.reason) == (True, 2, "manual")
    assert job.names()[-3:] == ["Executed", "Flushed", "Cleared"]
    assert [each.events for each in job.found(Flushed)] == [(2, 5)]
    assert [each.discarded for each in job.found(Cleared)] == [0]


def test_d4_who_recovers_a_flush_by_a_clear_has_handed_it_over(stages: Staging) -> None:
    def execute(ctx: Any) -> None:
        raise LookupError

    job = stages(execute=execute, on_error=lambda ctx, error: ctx.clear(), event=int)
    job.add(1)
    assert job.client.flush("a").flushed is True
    assert job.names()[-3:] == ["ExecutionFailed", "Flushed", "Cleared"]


def test_d8_a_reducer_that_clears_says_how_many_events_went_with_it(stages: Staging) -> None:
    def reduce(ctx: Any, event: int) -> int:
        if event < 0:
            ctx.clear("enough")
        return event

    job = stages(on_event=reduce, state=int, event=int)
    job.add(1, 2, -1)
    assert job.status().status == "not_found"
    job.add(1)
    job.client.pause("a")
    job.add(-1, 5)
    job.client.resume("a")
    job.sim.advance("5s")
    assert [each.discarded for each in job.found(Cleared)] == [3, 2]
    assert job.seen.events == [[5]]
