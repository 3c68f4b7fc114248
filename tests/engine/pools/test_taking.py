"""Which items a partition gets next (P2, P4, P6)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.engine.pools.played import JOB, SECOND, Hand, Played, item
from wakelog.core.pool.events import RunsLost, RunsStarted
from wakelog.core.retry import Retry
from wakelog.pools.accept import slot_of
from wakelog.pools.operate import ItemAct, plan_pause, plan_resume
from wakelog.pools.state import partition_stream


def key_for(pool: Played, partition: int, nth: int = 0) -> str:
    """A key that this partition serves; `nth` for another one, of another slot."""
    found: dict[int, str] = {}
    for number in range(1_000):
        slot = slot_of(f"{number}")
        if (slot - 1) % pool.rules.concurrency == partition:
            found.setdefault(slot, f"{number}")
    return list(found.values())[nth]


def starts(pool: Played, partition: int) -> list[RunsStarted]:
    history = pool.audit().events[partition_stream(JOB, partition)]
    return [r.event for r in history if isinstance(r.event, RunsStarted)]


# -- P4 --------------------------------------------------------------------------------------------


def test_P4_the_higher_priority_first_then_the_order_of_acceptance() -> None:
    pool = Played()
    pool.accept("a", item("low", priority=-1), item("high", priority=1))
    pool.accept("b", item("higher", priority=1))
    assert pool.hand().work() == ["high", "higher", "a", "b", "low"]


def test_P4_it_is_decided_when_it_is_taken() -> None:
    pool = Played()
    pool.accept("a", "b")
    hand = pool.hand()
    assert hand.take(1) == ["a"]
    # when something more urgent comes while one is being worked on
    pool.accept(item("urgent", priority=9))
    hand.ends(hand.items[0])
    # then it is the next one
    assert hand.take(5) == ["urgent"]


def test_P4_a_retry_that_is_due_takes_its_place_by_priority_and_acceptance() -> None:
    pool = Played()
    pool.accept("first", item("urgent", priority=1))
    hand = pool.hand()
    assert hand.take(1) == ["urgent"]
    hand.ends(hand.items[0])
    assert hand.take(1) == ["first"]
    hand.fails(hand.items[0], delay_us=SECOND)
    hand.take(0)
    pool.accept("second", item("urgent too", priority=1))
    pool.now_us += SECOND
    # then: behind what is more urgent, before what was accepted later
    assert hand.take(1) == ["urgent too"]
    hand.ends(hand.items[0])
    assert hand.take(1) == ["first"]
    hand.ends(hand.items[0])
    assert hand.take(1) == ["second"]


def test_P4_between_key_slots_the_older_head_is_first() -> None:
    pool = Played()
    for name in ("a", "b", "a", "c"):
        pool.accept(item(name, key=name))
    hand = pool.hand()
    got: list[str] = []
    while names := hand.take(1):
        got += names
        hand.ends(hand.items[0])
    assert got == ["a", "b", "a", "c"]


# -- P2 --------------------------------------------------------------------------------------------


def test_P2_items_without_a_key_are_bound_late_to_whichever_partition_is_free() -> None:
    pool = Played(concurrency=3)
    pool.accept("a", "b", "c", "d")
    hands = pool.hands()
    assert [hand.take(1) for hand in hands] == [["a"], ["b"], ["c"]]
    hands[2].ends(hands[2].items[0])
    assert hands[2].take(1) == ["d"]


def test_P2_a_key_is_served_by_its_partition_alone() -> None:
    pool = Played(concurrency=2)
    keys = [key_for(pool, 0), key_for(pool, 1)]
    pool.accept(*(item(f"{n}", key=keys[n % 2]) for n in range(6)))
    zero, one = pool.hands()
    assert zero.take() == ["0", "2", "4"]
    assert one.take() == ["1", "3", "5"]


def test_P2_a_key_keeps_its_order_and_is_in_one_partition_when_their_number_changes() -> None:
    pool = Played(concurrency=4)
    key = next(k for k in map(str, range(999)) if (slot_of(k) - 1) % 4 == 3
               and (slot_of(k) - 1) % 2 == 1)  # fmt: skip
    pool.accept(*(item(f"{n}", key=key) for n in range(4)))
    hands = pool.hands()
    assert hands[3].take(2) == ["0", "1"]
    # when there are two partitions from now on, so that another one serves the slot
    pool.rules = Played(concurrency=2).rules
    assert hands[1].take() == []
    # then it gets the rest once the first one has settled
    for each in list(hands[3].items):
        hands[3].ends(each)
    assert hands[3].take() == []
    assert hands[1].take() == ["2", "3"]


def test_P2_what_is_left_beyond_the_number_is_taken_over_whatever_the_share_of_a_worker() -> None:
    # given a worker that is gone with all of its partitions, and fewer in the new code
    pool = Played(concurrency=4)
    pool.accept(*map(item, "abcd"))
    assert [len(hand.take(1)) for hand in pool.hands("old")] == [1] * 4
    pool.now_us += 60 * SECOND
    pool.rules = replace(pool.rules, concurrency=2)
    # when
    [acquired] = [pool.acquire("new", 1)]
    # then
    assert sorted(each.partition for each in acquired) == [0, 2, 3]
    assert all(each.open_take is not None for each in acquired)
    # and those beyond the number do not count towards the share of the next one
    assert [each.partition for each in pool.acquire("other", 1)] == [1]


def test_P2_a_lane_in_which_all_was_cancelled_is_dropped() -> None:
    pool = Played(concurrency=1)
    accepted = pool.accept(*(item(name, fair=name) for name in "abc"))
    pool.act(ItemAct("cancel"), *accepted)
    assert pool.state.lanes == []
    pool.accept(item("d", fair="a"))
    assert pool.hand().take() == ["d"]


def test_P2_partitions_beyond_the_number_drain_and_count_towards_it() -> None:
    pool = Played(concurrency=3)
    pool.accept(*(f"{n}" for n in range(6)))
    hands = pool.hands()
    assert [hand.take(1) for hand in hands] == [["0"], ["1"], ["2"]]
    # when only two may work, the others still do
    pool.rules = Played(concurrency=2).rules
    hands[0].ends(hands[0].items[0])
    assert hands[0].take(1) == []
    hands[2].ends(hands[2].items[0])
    hands[2].take(0)
    assert hands[0].take(1) == ["3"]


# -- P6 --------------------------------------------------------------------------------------------


def test_P6_a_take_holds_no_more_than_was_asked_for() -> None:
    pool = Played()
    pool.accept(*(f"{n}" for n in range(5)))
    hand = pool.hand()
    assert hand.take(3) == ["0", "1", "2"]
    for each in list(hand.items):
        hand.ends(each)
    assert hand.take(3) == ["3", "4"]


def test_P6_what_did_not_begin_is_given_back_for_others_to_take() -> None:
    pool = Played(concurrency=2)
    pool.accept("slow", "b", "c")
    first, second = pool.hands()
    assert first.take() == ["slow", "b", "c"]
    assert second.take() == []
    # when
    first.gives_back(rest=first.items[:1])
    # then
    assert second.work() == ["b", "c"]
    first.ends(first.items[0])
    assert first.take() == []
    assert pool.audit().ends() == {"completed": 3}


def test_P6_R6_what_a_worker_had_taken_comes_back_one_at_a_time() -> None:
    pool = Played(concurrency=2)
    pool.accept("a", "b", "c")
    doomed = pool.hands("w1", 1)[0]
    assert doomed.take() == ["a", "b", "c"]
    # when its lease ends, and another worker takes the partition over
    pool.now_us += 31 * SECOND
    hands = pool.hands("w2")
    first = next(hand for hand in hands if hand.number == doomed.number)
    second = next(hand for hand in hands if hand.number != doomed.number)
    assert first.take(0) == []
    # then
    [lost] = [r.event for history in pool.audit().events.values() for r in history
              if isinstance(r.event, RunsLost)]  # fmt: skip
    assert (len(lost.items), lost.worker) == (3, "w1")
    assert first.take() == ["a"]
    assert second.take() == ["b"]
    assert [each.detail.losses for each in first.items + second.items] == [0, 0]
    second.ends(second.items[0])
    assert second.take() == ["c"]


def test_R6_only_a_loss_alone_counts_and_max_lost_of_them_are_the_end() -> None:
    pool = Played(max_lost=3)
    pool.accept("killer", "innocent")
    hand = pool.hand("w0")
    attempts: list[tuple[list[str], int]] = []
    for number in range(1, 6):
        hand.take(0)
        hand.take()
        attempts += [(hand.names, each.detail.attempt) for each in hand.items]
        if hand.names == ["innocent"]:
            break
        pool.now_us += 31 * SECOND
        hand = pool.hand(f"w{number}")
    hand.ends(hand.items[0])
    hand.take(0)
    # then it was tried once with the other one, and three times alone
    alone = [attempt for names, attempt in attempts if names == ["killer"]]
    assert alone == [1, 2, 3]
    audit = pool.audit()
    assert audit.fates[next(iter(audit.fates))].end == "dead"
    assert audit.ends() == {"dead": 1, "completed": 1}


def test_R6_a_failure_of_the_handler_ends_the_row_of_losses() -> None:
    pool = Played(max_lost=2)
    pool.accept("a")
    lost = pool.hand("w0")
    assert lost.take() == ["a"]
    pool.now_us += 31 * SECOND
    hand = pool.hand("w1")
    hand.take(0)
    assert hand.take() == ["a"]
    assert hand.items[0].detail.losses == 1
    # when
    hand.fails(hand.items[0], delay_us=0)
    hand.take(0)
    # then
    assert hand.take() == ["a"]
    assert hand.items[0].detail.losses == 0
    assert hand.items[0].detail.attempt == 3


def test_R2_R6_a_loss_of_the_last_attempt_is_the_end() -> None:
    pool = Played(max_lost=9)
    pool.retry = Retry(max_attempts=2)
    pool.accept("a")
    hand = pool.hand("w0")
    for number in (1, 2):
        assert hand.take() == ["a"]
        assert hand.items[0].detail.attempt == number
        pool.now_us += 31 * SECOND
        hand = pool.hand(f"w{number}")
        hand.take(0)
    assert hand.take() == []
    assert pool.audit().ends() == {"dead": 1}


def test_P6_the_one_that_ran_when_the_rest_was_given_back_is_known_to_have_run() -> None:
    pool = Played()
    pool.accept("ran", "b")
    hand = pool.hand("w1")
    hand.take()
    hand.gives_back(rest=hand.items[:1])
    # when its worker dies
    pool.now_us += 31 * SECOND
    other = pool.hand("w2")
    other.take(0)
    # then that was an attempt of it
    assert other.take() == ["ran"]
    assert (other.items[0].detail.losses, other.items[0].detail.attempt) == (1, 2)


# -- skips -----------------------------------------------------------------------------------------


def test_P6_what_was_cancelled_in_a_lane_is_left_out_of_the_range() -> None:
    pool = Played()
    pool.accept(*(f"{n}" for n in range(6)))
    assert pool.act(ItemAct("cancel"), (1, 1), (1, 3), (1, 6)) == ["done"] * 3
    hand = pool.hand()
    assert hand.take(2) == ["1", "3"]
    for each in list(hand.items):
        hand.ends(each)
    assert hand.work() == ["4"]
    [first, second] = starts(pool, 0)
    assert (first.ranges, first.without) == (((1, 0, 4),), ((1, 1), (1, 3)))
    assert (second.ranges, second.without) == (((1, 4, 6),), ((1, 6),))


def test_P6_a_lane_of_cancelled_items_alone_gives_nothing_and_hides_nothing() -> None:
    pool = Played()
    pool.accept("a", "b")
    pool.act(ItemAct("cancel"), (1, 1), (1, 2))
    hand = pool.hand()
    assert hand.take() == []
    pool.accept("c")
    assert hand.work() == ["c"]


@pytest.mark.parametrize("cancelled", [999, 1_000, 1_001, 2_500])
def test_P6_more_cancelled_items_than_a_look_shows_hold_up_nothing(cancelled: int) -> None:
    # given many cancelled ones in front of one that waits
    pool = Played(check=False)
    for at in range(0, cancelled, 500):
        pool.accept(*(f"{n}" for n in range(at, min(at + 500, cancelled))))
    pool.accept("last")
    [lane] = pool.state.lanes
    for at in range(1, cancelled + 1, 500):
        places = [(lane.number, off) for off in range(at, min(at + 500, cancelled + 1))]
        pool.act(ItemAct("cancel"), *places)
    # when
    hand = pool.hand()
    got: list[str] = []
    for _ in range(5):
        got += hand.take()
        for each in list(hand.items):
            hand.ends(each)
    # then
    assert got == ["last"]
    assert pool.audit().ends() == {"cancelled": cancelled, "completed": 1}


# -- pauses ----------------------------------------------------------------------------------------


def test_P7_a_paused_pool_and_a_paused_partition_take_nothing() -> None:
    pool = Played(concurrency=2)
    pool.accept("a", "b", "c")
    zero, one = pool.hands()
    assert pool.operate(lambda writing: plan_pause(writing, 0, "broken", None))
    assert not pool.operate(lambda writing: plan_pause(writing, 0, "broken", None))
    assert (zero.take(1), one.take(1)) == ([], ["a"])
    one.ends(one.items[0])
    assert pool.operate(lambda writing: plan_pause(writing, None, None, None))
    assert (zero.take(1), one.take(1)) == ([], [])
    assert pool.operate(lambda writing: plan_resume(writing, None, None))
    assert (zero.take(1), one.take(1)) == ([], ["b"])
    assert pool.operate(lambda writing: plan_resume(writing, 0, None))
    assert zero.take(1) == ["c"]


# -- on_empty --------------------------------------------------------------------------------------


def test_P1_on_empty_is_called_once_for_each_emptying() -> None:
    pool = Played(on_empty=True)
    hand = pool.hand()
    assert empties(hand) == 0
    pool.accept("a")
    assert hand.work() == ["a"]
    assert empties(hand) == 1
    assert empties(hand) == 0
    pool.accept("b")
    assert hand.work() == ["b"]
    assert empties(hand) == 1


def test_P1_on_empty_waits_for_what_is_delayed_retrying_or_worked_on() -> None:
    pool = Played(on_empty=True, concurrency=2)
    zero, one = pool.hands()
    pool.accept(item("later", due_us=pool.now_us + SECOND), "a", "b")
    assert (zero.take(1), one.take(1)) == (["a"], ["b"])
    zero.ends(zero.items[0])
    assert empties(zero) == 0
    one.fails(one.items[0], delay_us=2 * SECOND)
    assert empties(one) == 0
    pool.now_us += SECOND
    assert zero.work() == ["later"]
    assert empties(zero) == 0
    pool.now_us += SECOND
    assert one.take() == ["b"]
    one.dies(one.items[0])
    # then a dead letter does not count
    assert empties(one) == 1


def test_P1_what_is_accepted_while_on_empty_runs_makes_an_emptying_of_its_own() -> None:
    pool = Played(on_empty=True)
    pool.accept("a")
    hand = pool.hand()
    hand.work()
    assert hand.open is not None
    assert hand.open.is_empty
    # when something comes before its outcome is recorded
    pool.accept("b")
    assert hand.book is not None
    hand.book.emptied([])
    # then
    assert hand.work() == ["b"]
    assert empties(hand) == 1


def test_P1_a_requeued_event_makes_an_emptying_of_its_own() -> None:
    pool = Played(on_empty=True)
    [place] = pool.accept("a")
    hand = pool.hand()
    hand.take()
    hand.dies(hand.items[0])
    assert empties(hand) == 1
    assert pool.act(ItemAct("requeue"), place) == ["done"]
    assert hand.work() == ["a"]
    assert empties(hand) == 1


def test_P1_R6_a_worker_that_dies_in_on_empty_holds_up_nothing() -> None:
    pool = Played(on_empty=True)
    pool.accept("a")
    hand = pool.hand("w1")
    hand.work()
    assert hand.open is not None
    # when
    pool.now_us += 31 * SECOND
    other = pool.hand("w2")
    other.take(0)
    pool.accept("b")
    # then
    assert other.work() == ["b"]
    assert empties(other) == 1


def empties(hand: Hand) -> int:
    """How often `on_empty` is called until nothing is to do; items must not come."""
    count = 0
    if hand.open is None or not hand.open.is_empty:
        assert hand.take() == []
    while hand.open is not None:
        assert hand.open.is_empty
        assert hand.book is not None
        hand.book.emptied([])
        count += 1
        assert count < 5
        assert hand.take() == []
    return count
