"""What operators do to items, wherever they are (P4, P6, P8, A9, U14)."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.auditing_pools import audit_pool
from tests.engine.pools.played import JOB, SECOND, Hand, Played, item
from wakelog.core.pool.events import EventsCancelled, PrioritiesChanged
from wakelog.log.records import decode
from wakelog.pools.operate import ItemAct, plan_drain, plan_pause
from wakelog.pools.state import MAX_REASON, detail_of, job_stream
from wakelog.ports.pools import PoolFilter

Act = Literal["cancel", "requeue", "discard", "prioritize", "dead_letter"]
Place = tuple[int, int]
PLACES = [
    "waiting", "delayed", "retrying", "behind", "returned", "lost", "unread", "moved", "requeued",
    "taken", "alone", "dead", "completed", "cancelled", "discarded", "unknown",
]  # fmt: skip
WAITING = PLACES[:9]


def placed(pool: Played, where: str) -> Place:
    """An item that is there, in a pool with nothing else that waits."""
    if where == "unknown":
        return 7, 3
    if where == "delayed":
        [accepted] = pool.accept(item("a", due_us=pool.now_us + SECOND))
        return accepted.lane, accepted.off
    [first, second] = pool.accept(item("a", key="k"), item("b", key="k"))
    place = first.lane, first.off
    if where == "waiting":
        return place
    if where == "moved":
        assert pool.act(ItemAct("prioritize", None, 3), place) == ["done"]
        return place
    if where == "cancelled":
        assert pool.act(ItemAct("cancel"), place) == ["done"]
        return place
    hand = pool.hand()
    hand.take()
    one, other = hand.items
    if where == "lost":
        pool.now_us += 31 * SECOND
        pool.hand("w2").take(0)
        return place
    if where == "alone":
        hand.gives_back(rest=[one])
        return place
    if where == "taken":
        return place
    if where == "returned":
        hand.gives_back(rest=[one])
        hand.ends(one)
        hand.take(0)
        return second.lane, second.off
    match where:
        case "retrying":
            hand.fails(one)
        case "behind":
            hand.fails(one)
            hand.book.blocked.add("k")  # type: ignore[union-attr]
            assert hand.holds_back(other)
        case "unread":
            hand.unread(one)
        case "completed":
            hand.ends(one)
        case _:
            hand.dies(one)
    if other in hand.items:
        hand.ends(other)
    hand.take(0)
    if where in ("requeued", "discarded"):
        act: Act = "requeue" if where == "requeued" else "discard"
        assert pool.act(ItemAct(act), place) == ["done"]
    return (second.lane, second.off) if where == "behind" else place


@pytest.mark.parametrize("where", PLACES)
def test_P6_U14_cancel_reaches_whatever_waits(where: str) -> None:
    pool = Played()
    place = placed(pool, where)
    before = pool.state
    [found] = pool.act(ItemAct("cancel", "no longer", actor="ops"), place)
    expected = {"taken": "recalled", "alone": "recalled", "dead": "dead"}
    assert found == expected.get(where, "done" if where in WAITING else "not_found")
    assert pool.state.cancelled - before.cancelled == (found == "done")
    assert pool.state.pending <= before.pending
    # when it is asked again, it is gone
    if found == "done":
        assert pool.act(ItemAct("cancel"), place) == ["not_found"]
        [event] = [
            recorded.event
            for recorded in pool.audit().events[job_stream(JOB)]
            if isinstance(recorded.event, EventsCancelled)
        ]
        assert (event.reason, event.items) == ("no longer", (f"#{place[0]}.{place[1]}",))


@pytest.mark.parametrize("where", PLACES)
def test_P8_A9_requeue_reaches_dead_ones_alone(where: str) -> None:
    pool = Played()
    place = placed(pool, where)
    [found] = pool.act(ItemAct("requeue"), place)
    waits = "unchanged" if where in WAITING else "not_found"
    assert found == {"dead": "done", "taken": "taken", "alone": "taken"}.get(where, waits)


@pytest.mark.parametrize("where", PLACES)
def test_P8_A9_K4_discard_reaches_dead_ones_and_those_that_wait_for_code(where: str) -> None:
    pool = Played()
    place = placed(pool, where)
    [found] = pool.act(ItemAct("discard"), place)
    expected = {"dead": "done", "unread": "done", "taken": "taken", "alone": "taken"}
    assert found == expected.get(where, "unchanged" if where in WAITING else "not_found")
    assert pool.state.discarded == (found == "done") + (where == "discarded")


@pytest.mark.parametrize("where", PLACES)
def test_K4_A9_dead_lettering_reaches_those_that_wait_for_code_alone(where: str) -> None:
    pool = Played()
    place = placed(pool, where)
    [found] = pool.act(ItemAct("dead_letter", actor="ann"), place)
    expected = {"unread": "done", "dead": "unchanged", "taken": "taken", "alone": "taken"}
    assert found == expected.get(where, "unchanged" if where in WAITING else "not_found")
    assert pool.state.counts.get("dead", 0) == (found == "done" or where == "dead")


@pytest.mark.parametrize("where", PLACES)
def test_P4_a_priority_is_changed_while_it_waits(where: str) -> None:
    pool = Played()
    place = placed(pool, where)
    act = ItemAct("prioritize", None, 9)
    [found] = pool.act(act, place)
    expected = {"taken": "taken", "alone": "taken", "dead": "dead"}
    assert found == expected.get(where, "done" if where in WAITING else "not_found")
    if found == "done":
        # then nothing is to be changed a second time, and it is the first one
        assert pool.act(act, place) == ["unchanged"]
        pool.accept(item("late", priority=8))
        pool.now_us += 31 * SECOND
        pool.reads_all = True
        hand = pool.hand("w3")
        hand.take(0)
        hand.take(1)
        assert (hand.items[0].lane, hand.items[0].off) == place


@pytest.mark.parametrize("act", ["cancel", "requeue", "discard", "prioritize"])
@pytest.mark.parametrize("where", ["waiting", "retrying", "dead"])
def test_P8_an_item_that_is_named_twice_is_acted_on_once(act: Act, where: str) -> None:
    pool = Played()
    place = placed(pool, where)
    before = pool.state
    first, second = pool.act(ItemAct(act, None, 5), place, place)
    assert first == second
    after = pool.state
    assert after.cancelled + after.discarded - before.cancelled - before.discarded <= 1


def test_P8_several_items_are_changed_in_one_event() -> None:
    pool = Played()
    places = [(a.lane, a.off) for a in pool.accept("a", "b", "c")]
    found = pool.act(ItemAct("prioritize", "now", 4), *places[1:], (9, 9))
    assert found == ["done", "done", "not_found"]
    events = [
        recorded.event
        for recorded in pool.audit().events[job_stream(JOB)]
        if isinstance(recorded.event, PrioritiesChanged)
    ]
    assert [(event.items, event.priority) for event in events] == [(("#1.2", "#1.3"), 4)]
    assert pool.hand().work() == ["b", "c", "a"]


def test_P8_nothing_done_is_nothing_recorded() -> None:
    pool = Played()
    pool.accept("a")
    versions = pool.state.head.version
    assert pool.act(ItemAct("requeue"), (1, 1)) == ["unchanged"]
    assert pool.act(ItemAct("discard"), (1, 9)) == ["not_found"]
    assert pool.state.head.version == versions


def test_P6_what_is_taken_is_cancelled_if_it_is_given_back_without_having_begun() -> None:
    pool = Played(concurrency=2)
    pool.accept("a", "b", "c", "d")
    hand, other = pool.hands()
    hand.take()
    first, second, third, fourth = hand.items
    # when an operator wants three of them, one of which has begun
    act = ItemAct("cancel", "no longer", actor="ann")
    assert pool.act(act, *[each.place for each in (first, second, fourth)]) == ["recalled"] * 3
    assert pool.act(act, second.place) == ["recalled"]
    # (one of them is let go, and one is wanted anew)
    last = ItemAct("cancel", is_last=True)
    assert pool.act(last, fourth.place) == ["taken"]
    assert pool.act(act, fourth.place) == ["recalled"]
    [recalled] = pool.turn(other.next_request(0)).recalls.values()
    assert recalled == frozenset({first.place, second.place, fourth.place})
    # then the call of any partition says so, and what is given back is not taken by others
    hand.gives_back("cancelled", rest=[first, third])
    assert pool.state.cancelled == 2
    assert other.take() == []
    # and the one that has begun ends as it does
    for each in (first, third):
        hand.ends(each)
    assert hand.take() == []
    assert pool.audit().ends() == {"completed": 2, "cancelled": 2}
    assert pool.act(act, first.place, second.place) == ["not_found", "not_found"]


def test_P6_K4_what_waited_for_code_can_be_discarded_while_it_is_taken() -> None:
    pool = Played()
    place = placed(pool, "unread")
    pool.reads_all = True
    pool.now_us += 31 * SECOND
    hand = pool.hand("w2")
    hand.take(0)
    hand.take()
    assert [each.place for each in hand.items] == [place]
    assert pool.act(ItemAct("discard"), place) == ["recalled"]
    hand.gives_back("cancelled")
    assert pool.state.discarded == 1
    assert pool.audit().ends()["discarded"] == 1


def test_P5_P6_one_that_is_cancelled_while_it_is_taken_releases_those_behind_it() -> None:
    pool = Played(ordered=True)
    pool.accept(*[item(name, key="k") for name in "abc"])
    hand = pool.hand()
    hand.take()
    first, second, third = hand.items
    pool.act(ItemAct("cancel"), first.place)
    hand.gives_back("cancelled", rest=[second, third])
    for each in (second, third):
        hand.ends(each)
    assert hand.take() == []
    assert pool.audit().ends() == {"cancelled": 1, "completed": 2}


def test_P6_what_an_operator_has_let_go_is_not_cancelled_later() -> None:
    pool = Played(concurrency=2)
    pool.accept("a")
    hand, other = pool.hands()
    hand.take()
    act = ItemAct("cancel")
    pool.act(act, hand.items[0].place)
    assert pool.act(ItemAct("cancel", is_last=True), hand.items[0].place) == ["taken"]
    hand.gives_back()
    assert other.work() == ["a"]


def test_P6_what_is_lost_with_its_worker_is_not_cancelled_since_it_may_have_begun() -> None:
    pool = Played()
    pool.accept("a")
    hand = pool.hand("w1")
    hand.take()
    pool.act(ItemAct("cancel"), hand.items[0].place)
    pool.now_us += 31 * SECOND
    other = pool.hand("w2")
    other.take(0)
    assert other.work() == ["a"]


def test_P5_a_cancelled_retry_releases_those_behind_it_at_once() -> None:
    # given, with `ordered`, an item that waits behind one that is to be tried again in an hour
    pool = Played(ordered=True)
    [first, _] = pool.accept(item("a", key="k"), item("b", key="k"))
    hand = pool.hand()
    hand.take()
    hand.fails(hand.items[0], delay_us=3_600 * SECOND)
    assert hand.holds_back(hand.items[0])
    hand.take(0)
    # when that one is cancelled
    pool.act(ItemAct("cancel"), (first.lane, first.off))
    # then it goes on at once
    assert hand.work() == ["b"]


def test_P5_those_behind_a_retry_may_be_cancelled_with_it() -> None:
    pool = Played(ordered=True)
    [first, second, _] = pool.accept(*[item(name, key="k") for name in "abc"])
    hand = pool.hand()
    hand.take()
    hand.fails(hand.items[0], delay_us=3_600 * SECOND)
    while hand.items:
        assert hand.holds_back(hand.items[0])
    hand.take(0)
    # when
    places = [(each.lane, each.off) for each in (first, second)]
    assert pool.act(ItemAct("cancel"), *places) == ["done", "done"]
    # then
    assert hand.work() == ["c"]
    audit_pool(pool.store, pool.job)


def test_P5_R6_one_that_is_dead_by_losses_releases_those_behind_it() -> None:
    # given one that waits behind another, whose last attempt is under way, alone
    pool = Played(ordered=True, max_lost=1)
    pool.accept(item("a", key="k"), item("b", key="k"))
    [acquired] = pool.acquire("w", 1, lease_us=3 * SECOND)
    hand = Hand(pool, acquired)
    hand.take()
    hand.fails(hand.items[0], delay_us=SECOND)
    assert hand.holds_back(hand.items[0])
    hand.take(0)
    pool.now_us += SECOND
    assert hand.take(1) == ["a"]
    # when its worker dies
    pool.now_us += 4 * SECOND
    [heir] = pool.hands("heir", 1)
    assert heir.take(0) == []
    # then
    assert pool.exceptions()[1, 1] == "dead"
    assert heir.work() == ["b"]


def test_P7_a_long_reason_is_kept_in_the_log_and_its_beginning_in_the_document() -> None:
    # given
    pool, reason = Played(concurrency=2), "because " * 100_000
    # when
    pool.operate(lambda writing: plan_pause(writing, None, reason, None))
    pool.operate(lambda writing: plan_pause(writing, 1, reason, None))
    pool.operate(lambda writing: plan_drain(writing, reason, None))
    # then
    kept = (pool.state.reason, pool.state.partitions[1].reason)
    assert all(each is not None and len(each) == MAX_REASON for each in kept)
    assert all(each is not None and reason.startswith(each[:-1]) for each in kept)
    log = [decode(event).event for _, event in pool.store.pool_log(JOB, 0, 9)]
    assert [getattr(event, "reason", None) for event in log] == [reason] * 3


def test_P8_what_an_error_said_is_kept_as_a_dead_letter_up_to_a_bound() -> None:
    pool = Played()
    pool.accept("a")
    hand = pool.hand()
    hand.take()
    hand.dies(hand.items[0], error="Boom", message="x" * 50_000)
    hand.take(0)
    [row] = pool.store.pool_exceptions(JOB, PoolFilter())
    assert len(detail_of(row).message) == MAX_REASON
