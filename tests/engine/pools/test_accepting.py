"""What is accepted, and where it lies then (P2, P3, I1)."""

from __future__ import annotations

from typing import TypeGuard

import pytest

from tests.engine.pools.played import JOB, SECOND, Played, item
from wakelog.core.pool.events import EventsReceived
from wakelog.errors import IdempotencyConflictError, InvalidStateError, QueueFullError
from wakelog.pools.accept import MAX_BATCH, Accept, Accepted, slot_of
from wakelog.pools.operate import plan_drain, plan_resume
from wakelog.pools.state import KEY_SLOTS, job_stream


def accepted_events(pool: Played) -> list[EventsReceived]:
    history = pool.audit().events[job_stream(JOB)]
    return [r.event for r in history if isinstance(r.event, EventsReceived)]


def test_P2_a_position_is_what_was_pending_before_it() -> None:
    pool = Played()
    assert [a.position for a in pool.accept("a", "b")] == [0, 1]
    assert [a.position for a in pool.accept("c", item("d", key="k"))] == [2, 3]
    # when two of them are taken, they are pending no longer
    hand = pool.hand()
    assert hand.take(2) == ["a", "b"]
    assert [a.position for a in pool.accept("e")] == [2]


def test_P2_delayed_events_are_not_pending_before_others() -> None:
    pool = Played()
    delayed = item("later", due_us=pool.now_us + SECOND)
    # when they come in one call, or in two
    first, second = pool.accept(delayed, "now")
    assert second.position == 0
    [third] = pool.accept("then")
    # then
    assert (first.position, third.position) == (0, 1)


def test_P2_items_of_one_priority_and_key_slot_share_a_lane_in_their_order() -> None:
    pool = Played()
    places = pool.accept("a", item("x", key="k"), "b", item("y", key="k"), item("c", priority=1))
    assert [(a.lane, a.off) for a in places] == [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1)]
    [event] = accepted_events(pool)
    k = slot_of("k")
    assert event.lanes == ((1, 1, 2, 0, 0, None), (2, 1, 2, 0, k, None), (3, 1, 1, 1, 0, None))


def test_P2_the_hash_of_a_key_is_the_same_for_ever() -> None:
    assert (slot_of(None), slot_of(""), slot_of("tenant-a"), slot_of("äöü")) == (0, 3, 48, 64)
    assert {slot_of(str(n)) for n in range(2_000)} == {*range(1, KEY_SLOTS + 1)}


def test_P3_a_call_is_cut_into_events_of_512_and_is_one_transaction() -> None:
    pool = Played()
    names = [f"{n}" for n in range(2 * MAX_BATCH + 1)]
    places = pool.accept(*names)
    assert [a.position for a in places] == [*range(len(names))]
    assert [event.count for event in accepted_events(pool)] == [MAX_BATCH, MAX_BATCH, 1]
    assert len(pool.written) == 1
    assert pool.hand().work() == names


def test_P3_max_pending_refuses_all_or_nothing() -> None:
    pool = Played()
    pool.accept("a", "b", item("later", due_us=pool.now_us + SECOND), max_pending=4)
    # when one more would fit, but not two
    with pytest.raises(QueueFullError):
        pool.accept("c", "d", max_pending=4)
    # then nothing was accepted, and one more is
    assert pool.state.accepted == 3
    assert pool.accept("c", max_pending=4)[0].position == 2
    with pytest.raises(QueueFullError):
        pool.accept("d", max_pending=4)


def test_P3_what_is_taken_or_dead_does_not_count_towards_max_pending() -> None:
    pool = Played()
    pool.accept("a", "b", max_pending=2)
    hand = pool.hand()
    hand.take()
    pool.accept("c", "d", max_pending=2)
    with pytest.raises(QueueFullError):
        pool.accept("e", max_pending=2)


def test_P3_callers_that_share_a_call_are_refused_each_for_itself() -> None:
    pool = Played()
    pool.accept(item("a", id="one"))
    answers = pool.accepts(
        Accept([item("b"), item("c")], max_pending=2),
        Accept([item("other", id="one")]),
        Accept([item("d")], max_pending=2),
        Accept([item("e")]),
    )
    assert [type(each) for each in answers] == [
        QueueFullError,
        IdempotencyConflictError,
        list,
        list,
    ]
    assert pool.hand().work() == ["a", "d", "e"]


def test_I1_an_id_that_was_used_answers_with_its_event_and_accepts_nothing() -> None:
    pool = Played()
    pool.accept("x", "y")
    [first] = pool.accept(item("a", id="one"))
    pool.accept("z")
    events = len(accepted_events(pool))
    # when
    [again] = pool.accept(item("a", id="one"))
    # then it is answered as the first time
    assert again == Accepted(first.lane, first.off, 2, duplicate=True)
    assert len(accepted_events(pool)) == events


def test_P3_what_callers_want_accepted_at_one_moment_lies_in_one_event() -> None:
    pool = Played()
    # when some have an id, or another origin
    answers = pool.accepts(
        Accept([item("a")]),
        Accept([item("b", key="k"), item("c")]),
        Accept([item("d", id="1")]),
        Accept([item("e")], actor="an operator"),
        Accept([item("f")], actor="an operator"),
    )
    # then each caller has the places of its own items
    places = [[(a.lane, a.off, a.position) for a in each] for each in answers if is_places(each)]
    assert places == [
        [(1, 1, 0)],
        [(2, 1, 1), (1, 2, 2)],
        [(1, 3, 3)],
        [(1, 4, 4)],
        [(1, 5, 5)],
    ]
    assert [event.count for event in accepted_events(pool)] == [3, 1, 2]


def test_P3_a_bound_refuses_a_caller_and_not_those_beside_it() -> None:
    pool = Played()
    # when
    first, second, third = pool.accepts(
        Accept([item("a"), item("b")], max_pending=3),
        Accept([item("c"), item("d")], max_pending=3),
        Accept([item("e")], max_pending=3),
    )
    # then
    assert is_places(first)
    assert isinstance(second, QueueFullError)
    assert is_places(third)
    assert pool.hand().work() == ["a", "b", "e"]


def is_places(answer: list[Accepted] | Exception) -> TypeGuard[list[Accepted]]:
    """Whether it was accepted."""
    return isinstance(answer, list)


def test_I1_in_bulk_the_new_ones_are_accepted_and_the_others_answered() -> None:
    pool = Played()
    pool.accept(item("a", id="1"), item("b", id="2"))
    answers = pool.accept(
        item("c", id="3"), item("a", id="1"), item("c", id="3"), "plain", item("b", id="2")
    )
    assert [a.duplicate for a in answers] == [False, True, True, False, True]
    assert answers[2].place == answers[0].place
    assert pool.hand().work() == ["a", "b", "c", "plain"]


def test_I1_the_same_id_for_another_event_is_refused_with_all_of_its_call() -> None:
    pool = Played()
    pool.accept(item("a", id="1"))
    with pytest.raises(IdempotencyConflictError):
        pool.accept("x", item("other", id="1"))
    with pytest.raises(IdempotencyConflictError):
        pool.accept(item("y", id="2"), item("z", id="2"))
    assert pool.state.accepted == 1


def test_I1_ids_are_known_between_the_callers_of_one_call() -> None:
    pool = Played()
    [first], [second] = (
        answer
        for answer in pool.accepts(Accept([item("a", id="1")]), Accept([item("a", id="1")]))
        if isinstance(answer, list)
    )
    assert (first.duplicate, second.duplicate) == (False, True)
    assert pool.state.accepted == 1


def test_I1_a_full_pool_still_answers_for_what_it_has() -> None:
    pool = Played()
    pool.accept(item("a", id="1"), max_pending=1)
    [again] = pool.accept(item("a", id="1"), max_pending=1)
    assert again.duplicate


def test_P7_a_drained_pool_accepts_nothing_until_it_is_resumed() -> None:
    pool = Played()
    pool.accept(item("a", id="1"))
    assert pool.operate(lambda writing: plan_drain(writing, "move", None))
    with pytest.raises(InvalidStateError):
        pool.accept("b")
    assert pool.accept(item("a", id="1"))[0].duplicate
    # what is there is worked on
    assert pool.hand().work() == ["a"]
    assert pool.operate(lambda writing: plan_resume(writing, None, None))
    pool.accept("b")


def test_P9_the_document_does_not_grow_with_what_waits() -> None:
    pool = Played(check=False)
    sizes: list[int] = []
    for _ in range(3):
        pool.accept(*(item(f"{n}", key=f"{n % 5}") for n in range(1_000)))
        written = pool.written[-1].state
        assert written is not None
        sizes.append(len(written))
    assert max(sizes) < sizes[0] + 50
