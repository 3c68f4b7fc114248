"""The head that a status row keeps for the next claim is believed only if it is that of the log."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from wakelog.core.events import Scheduled
from wakelog.log.rebuild import MANY, MAX_KEPT_HEAD, Head, kept_head, read_kept_head
from wakelog_adapters.conformance.units import NOW, UnitBuilder


@pytest.fixture
def due() -> UnitBuilder:
    builder = UnitBuilder()
    builder.begin(NOW)
    return builder


def test_what_was_kept_is_read_with_its_newest_event(due: UnitBuilder) -> None:
    newest = due.unit(Scheduled(due_us=NOW + 1)).events[-1]
    kept = kept_head(due.instance, due.hash)
    assert kept is not None
    assert read_kept_head(due.stream, kept, newest) == Head(due.instance, due.hash)


def test_what_was_changed_or_is_not_of_the_newest_event_is_not_used(due: UnitBuilder) -> None:
    before = due.unit(Scheduled(due_us=NOW + 1)).events[-1]
    newest = due.unit(Scheduled(due_us=NOW + 2)).events[-1]
    kept = kept_head(due.instance, due.hash)
    assert kept is not None
    for text, event in (
        (kept.replace("pending", "changed"), newest),
        (kept, before),
        (kept, replace(newest, topic="wakelog.Other")),
        ("", newest),
    ):
        assert read_kept_head(due.stream, text, event) is None
    assert read_kept_head("task:order:other", kept, newest) is None


def test_what_is_large_is_not_kept(due: UnitBuilder) -> None:
    for state in (json.dumps("x" * MAX_KEPT_HEAD), json.dumps("é" * (MAX_KEPT_HEAD // 2))):
        assert kept_head(replace(due.instance, state=state), due.hash) is None
    waiting = due.instance
    for number in range(MANY + 1):
        waiting = replace(waiting, dead=(*waiting.dead, number))
    assert kept_head(waiting, due.hash) is None
