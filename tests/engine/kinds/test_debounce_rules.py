"""A changed rule re-times the windows that are open when a worker opens (C10)."""

from __future__ import annotations

from tests.engine.kinds.debouncing import Stage, Staging, after, stages
from wakelog import Retry
from wakelog.core.events import Scheduled

__all__ = ["stages"]


def reopened(job: Stage, stages: Staging, at: float, **given: object) -> Stage:
    """The same instances under another rule, by a worker that opens so much later."""
    job.sim.close()
    return stages(sim={"start": after(at)}, **given)


def test_c10_a_changed_flush_after_retimes_a_pending_flush(stages: Staging) -> None:
    job = stages(flush_after="1h")
    job.add("x")
    sooner = reopened(job, stages, 60, flush_after="10m")
    assert sooner.status().will_flush_at == after(600)
    timed = sooner.found(Scheduled)[-1]
    assert (timed.by, timed.reason, timed.window) == ("policy", "flush_after", 1)
    version = sooner.status().version
    same = reopened(sooner, stages, 120, flush_after="10m")
    assert same.status().version == version, "under the same rule nothing more is recorded"
    same.sim.advance("8m")
    [batch] = same.seen.batches
    assert (batch.events, batch.reason, batch.at) == (["x"], "flush_after", after(600))


def test_c10_what_is_over_under_the_new_rule_is_flushed_at_once(stages: Staging) -> None:
    job = stages(flush_after="1h")
    job.add("x")
    job.add("y", "z", id="b")
    changed = reopened(job, stages, 900, flush_after="10m", max_events=2)
    changed.sim.advance(0)
    assert sorted(changed.seen.events) == [["x"], ["y", "z"]]
    assert {batch.at for batch in changed.seen.batches} == {after(900)}
    assert {batch.reason for batch in changed.seen.batches} == {"flush_after", "max_events"}


def test_c10_windows_behind_a_batch_that_is_retried_follow_too(stages: Staging) -> None:
    given = {"retry": Retry(max_attempts=9, delay="30m", jitter=0)}
    job = stages(flush_after="1h", **given)
    job.seen.raises.append(OSError("down"))
    job.add("x")
    job.sim.advance("1h")
    job.add("y")
    assert (job.status().status, job.status().will_flush_at) == ("retrying", after(7200))
    changed = reopened(job, stages, 3700, flush_after="10m", **given)
    assert (changed.status().status, changed.status().will_flush_at) == ("retrying", after(4200))
    changed.sim.advance("1h")
    assert changed.seen.events == [["x"], ["y"]], "the batch that is retried is as it was"
    assert changed.seen.batches[0].at == after(5400)


def test_c10_what_somebody_asked_for_stays(stages: Staging) -> None:
    job = stages(flush_after="1h")
    job.add("x")
    job.client.flush("a", wait=False)
    version = job.status().version
    changed = reopened(job, stages, 1, flush_after="10m")
    assert changed.status().version == version
    changed.sim.advance(0)
    assert [batch.reason for batch in changed.seen.batches] == ["manual"]
