"""Given this log, the alarm view has this row of one instance."""

from __future__ import annotations

import pytest

from wakelog.core import events as e
from wakelog.core.evolve import fold
from wakelog.core.instance import Instance, next_wake
from wakelog.ids import InstanceId
from wakelog_projections.inline.alarms import AlarmRow, alarm_row

ID = InstanceId("task", "order", "o:17")
NOW = 1_800_000_000_000_000
BEGUN = (e.Started(kind="task", name="order", id="o:17"), e.EventReceived(payload="1"))
RUN = e.RunStarted(run=1, due_us=NOW, worker="w")


def after(*events: e.Event) -> Instance:
    return fold(Instance(ID), (*BEGUN, *events), NOW)


def alarm(instance: Instance) -> AlarmRow | None:
    return alarm_row(str(instance.id), instance.id.job, next_wake(instance))


@pytest.mark.parametrize(
    ("events", "due_us", "action"),
    [
        ((e.Scheduled(due_us=NOW + 5),), NOW + 5, "execute"),
        ((e.Scheduled(due_us=NOW + 5), e.Scheduled(due_us=NOW + 9)), NOW + 9, "execute"),
        ((e.Scheduled(due_us=NOW + 5), e.EventReceived(deferred=True)), NOW, "deferred"),
        (
            (e.EventReceived(deferred=True, handle_at_us=NOW + 9), e.Scheduled(due_us=NOW + 5)),
            NOW + 5,
            "execute",
        ),
        ((e.Scheduled(due_us=NOW + 9, action="clear"),), NOW + 9, "clear"),
        ((RUN, e.Scheduled(due_us=NOW + 9, action="clear")), NOW + 9, "clear"),
        ((e.Paused(), e.Scheduled(due_us=NOW + 9, action="clear")), NOW + 9, "clear"),
        (
            (RUN, e.ExecutionFailed(handler="execute", error_type="E", message="", will_retry=True),
             e.RetryScheduled(run=1, attempt=2, due_us=NOW + 7), e.Scheduled(due_us=NOW + 1)),
            NOW + 7,
            "execute",
        ),
    ],
)  # fmt: skip
def test_A2_an_instance_is_woken_for_the_next_thing_it_waits_for(
    events: tuple[e.Event, ...], due_us: int, action: str
) -> None:
    assert alarm(after(*events)) == AlarmRow("task:order:o:17", "task:order", due_us, action)


@pytest.mark.parametrize(
    "events",
    [
        (),
        (e.Scheduled(due_us=NOW), e.ScheduleCancelled()),
        (e.Scheduled(due_us=NOW), RUN),
        (e.Scheduled(due_us=NOW), e.Paused()),
        (e.Scheduled(due_us=NOW), e.Parked(reason="unreadable")),
        (e.Scheduled(due_us=NOW), e.Cleared()),
    ],
)
def test_A2_what_waits_for_nothing_has_no_alarm(events: tuple[e.Event, ...]) -> None:
    assert alarm(after(*events)) is None
