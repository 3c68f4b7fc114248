"""The rule of windows, on plain values (D2, C10)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from wakelog.core.time import MAX_US
from wakelog.core.windows import Window, WindowRule, WindowSlot, kept, without

S = 1_000_000
RULE = WindowRule(flush_after_us=5 * S, max_events=3)


def window(*events: int, number: int = 1, due_us: int = 5 * S, **given: Any) -> Window:
    opened = Window(number, events, opened_us=0, newest_us=0, due_us=due_us)
    return replace(opened, **given)


def test_d2_the_first_event_opens_the_next_window() -> None:
    slot = RULE.place((), 7, 10 * S)
    assert (slot.number, slot.must_wait) == (8, False)
    assert [(t.due_us, t.reason, t.window) for t in slot.timing] == [(15 * S, "flush_after", 8)]


@pytest.mark.parametrize(
    "closed",
    [
        window(1, due_us=2 * S),
        window(1, taken=True),
        window(1, reason="manual"),
        window(1, 2, 3, reason="max_events"),
    ],
)
def test_d2_an_event_that_finds_the_window_closed_waits_in_the_next(closed: Window) -> None:
    slot = RULE.place((closed,), 1, 2 * S)
    assert (slot.number, slot.must_wait) == (2, True)


def test_d2_an_event_joins_the_open_window_and_moves_only_a_sliding_one() -> None:
    assert RULE.place((window(1),), 1, 2 * S) == WindowSlot(1, False, ())
    [moved] = replace(RULE, mode="sliding").place((window(1),), 1, 2 * S).timing
    assert (moved.due_us, moved.reason) == (7 * S, "flush_after")
    [full] = RULE.place((window(1, 2),), 1, 2 * S).timing
    assert (full.due_us, full.reason) == (2 * S, "max_events")


def test_c10_another_rule_retimes_open_windows_and_leaves_closed_ones() -> None:
    closed, still_open = window(1, due_us=1 * S), window(2, number=2, opened_us=1 * S)
    slower = replace(RULE, flush_after_us=60 * S)
    [timed] = slower.retimed((closed, still_open), 3 * S, 4 * S)
    assert (timed.window, timed.due_us, timed.reason) == (2, 61 * S, "flush_after")
    assert timed.by == "policy"
    sooner = replace(RULE, flush_after_us=1 * S)
    [timed] = sooner.retimed((still_open,), 3 * S, 4 * S)
    assert timed.due_us == 2 * S, "it is due at once"
    assert RULE.retimed((window(2),), 3 * S, 4 * S) == ()
    [full] = replace(RULE, max_events=1).retimed((window(2, 4),), 3 * S, 4 * S)
    assert (full.due_us, full.reason) == (3 * S, "max_events")


def test_d4_an_event_that_is_gone_leaves_its_window() -> None:
    both = (window(1, 2), window(5, number=2))
    assert without(both, 9) is both
    assert [w.events for w in without(both, 1)] == [(2,), (5,)]
    assert [w.events for w in without(both, 5)] == [(1, 2)]
    assert [w.events for w in kept(both, {2, 5})] == [(2,), (5,)]


def test_d2_no_window_is_due_after_the_end_of_time() -> None:
    for rule in (WindowRule(MAX_US), WindowRule(MAX_US, "sliding", MAX_US - 1)):
        [timed] = rule.place((), 0, 5).timing
        assert timed.due_us == MAX_US
