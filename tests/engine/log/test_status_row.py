"""Given this log, the status row of an instance has these columns."""

from __future__ import annotations

import json

from wakelog.core import events as e
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance, next_wake
from wakelog.ids import InstanceId, Kind
from wakelog.log.status_row import status_of, status_row
from wakelog.ports.rows import StatusRow

NOW = 1_800_000_000_000_000
RUN = e.RunStarted(run=1, due_us=NOW, worker="w")


def row_after(*events: e.Event, kind: Kind = "task") -> StatusRow:
    """The row of an instance with these events after its first, each a microsecond later."""
    instance = Instance(InstanceId(kind, "order", "o:17"))
    for at_us, event in enumerate((e.Started(kind=kind, name="order", id="o:17"), *events), NOW):
        instance = fold(instance, [event], at_us)
    return status_row(instance, "h", next_wake(instance))


def test_T10_a_status_row_tells_how_the_instance_is() -> None:
    failed = e.ExecutionFailed(handler="execute", error_type="LookupError", message="ö", run=1)
    received = e.EventReceived(payload="1")
    row = row_after(received, e.StateSet(state='"x"'), e.Scheduled(due_us=NOW + 5), RUN, failed)
    assert (row.stream, row.kind, row.name, row.id) == ("task:order:o:17", "task", "order", "o:17")
    assert (row.version, row.hash, row.status, row.executing) == (6, "h", "failed", False)
    assert (row.event_count, row.run_count, row.failure_count) == (1, 1, 1)
    assert (row.created_us, row.updated_us, row.last_run_us) == (NOW, NOW + 5, NOW + 5)
    assert (row.state, row.error_type) == ('"x"', "LookupError")
    error = json.loads(row.last_error or "")
    assert (error["error_type"], error["message"], error["at_us"]) == ("LookupError", "ö", NOW + 5)


def test_T10_times_are_those_of_the_instance() -> None:
    retry = e.RetryScheduled(run=1, attempt=2, due_us=NOW + 7)
    failed = e.ExecutionFailed(
        handler="execute", error_type="E", message="", run=1, will_retry=True
    )
    row = row_after(e.Scheduled(due_us=NOW + 8), RUN, e.Scheduled(due_us=NOW + 9), failed, retry)
    assert (row.status, row.due_us, row.retry_us, row.wake_us) == (
        "retrying",
        NOW + 9,
        NOW + 7,
        NOW + 7,
    )
    clear = row_after(e.Scheduled(due_us=NOW + 9, action="clear"))
    assert (clear.due_us, clear.clear_us, clear.wake_us) == (None, NOW + 9, NOW + 9)
    assert row_after(RUN).executing is True


def test_T8_a_cleared_instance_keeps_its_row_without_what_was_its_life() -> None:
    received = e.EventReceived(payload="1")
    row = row_after(received, e.StateSet(state="1"), e.Scheduled(due_us=NOW), e.Cleared())
    assert (row.status, row.state, row.due_us, row.created_us) == ("not_found", None, None, None)
    assert (row.version, row.event_count, row.last_run_us) == (5, 0, None)


def test_T15_deferred_events_are_counted_and_not_done_with() -> None:
    waits = e.EventReceived(payload="1", deferred=True)
    row = row_after(RUN, waits, waits)
    assert (row.deferred_count, row.unfinished_count, row.window_count) == (2, 2, 0)


def test_D8_windows_are_shown_until_they_are_flushed() -> None:
    def added(window: int, due_us: int) -> tuple[e.Event, ...]:
        flush = e.Scheduled(due_us=due_us, action="flush", window=window)
        return e.EventReceived(payload="1", window=window), flush

    events = (*added(1, NOW + 50), *added(1, NOW + 60), *added(2, NOW + 90))
    row = row_after(*events, kind="debounce")
    assert (row.status, row.unfinished_count, row.window_count) == ("debouncing", 3, 2)
    assert (row.window_opened_us, row.flush_due_us, row.due_us) == (NOW + 1, NOW + 60, NOW + 60)
    flush = e.RunStarted(run=1, due_us=NOW + 60, worker="w", events=(2, 4))
    row = row_after(*events, flush, kind="debounce")
    assert (row.status, row.window_count, row.window_opened_us) == ("flushing", 2, NOW + 1)
    assert (row.flush_due_us, row.due_us) == (NOW + 90, None)
    done = e.Executed(run=1, started_us=NOW + 60, duration_us=1, result=None)
    flushed = e.Flushed(events=(2, 4), reason="flush_after")
    row = row_after(*events, flush, done, flushed, kind="debounce")
    assert (row.unfinished_count, row.window_count, row.window_opened_us) == (1, 1, NOW + 5)
    assert (row.flush_due_us, row.last_run_us) == (NOW + 90, NOW + 8)


def test_a_reason_is_written_as_every_store_takes_it() -> None:
    row = row_after(e.Paused(reason="a\0b"))
    assert (row.status, row.reason) == ("paused", "a\\x00b")


def test_the_type_of_an_error_is_stored_without_a_nul() -> None:
    failed = e.ExecutionFailed(handler="execute", error_type="B\0d", message="", run=1)
    row = row_after(e.Scheduled(due_us=NOW), RUN, failed)
    assert row.error_type == "B\\x00d"


def test_the_stream_id_may_be_handed_in() -> None:
    instance = fold(
        Instance(InstanceId("task", "order", "a")),
        [e.Started(kind="task", name="order", id="a")],
        1,
    )
    assert status_row(instance, "h", None, "task:order:a") == status_row(instance, "h", None)
    assert status_of(instance) == "idle"
