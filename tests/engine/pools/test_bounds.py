"""The bounds that spare a pool looking: floors and `next_us` hide nothing that is due, and do not
say "now" if it is later (P5, P9)."""

from __future__ import annotations

import pytest

from tests.engine.pools.played import MS, SECOND, Hand, Played, item
from tests.engine.pools.test_taking import key_for
from wakelog.errors import QueueFullError
from wakelog.pools.accept import MAX_LANES, Accept
from wakelog.pools.operate import ItemAct, plan_pause
from wakelog.pools.settle import next_us
from wakelog.ports.pools import PoolLook


def looks(pool: Played) -> int | None:
    """When the pool has something next, from now on."""
    at_us = next_us(pool.state, pool.now_us, pool.rules)
    return None if at_us is None else max(0, at_us - pool.now_us)


def retrying(hand: Hand, *delays_us: int) -> None:
    """As many items as delays, each of which fails and is to be tried again after its delay."""
    hand.pool.accept(*(f"{delay}" for delay in delays_us))
    hand.take()
    for each, delay in zip(list(hand.items), delays_us, strict=True):
        hand.fails(each, delay_us=delay)
    hand.take(0)


def test_P5_a_retry_is_due_when_it_was_scheduled_for() -> None:
    pool = Played()
    hand = pool.hand()
    retrying(hand, SECOND, 2 * SECOND)
    assert looks(pool) == SECOND
    pool.now_us += SECOND - 1
    assert hand.take() == []
    pool.now_us += 1
    assert hand.take() == [f"{SECOND}"]
    hand.ends(hand.items[0])
    hand.take(0)
    assert looks(pool) == SECOND


def test_P5_what_is_due_is_not_hidden_by_a_take_in_the_call_that_has_recorded_it() -> None:
    # given an item that is due, and another one that became due before it and is not recorded yet
    pool = Played(concurrency=2)
    zero, one = pool.hands()
    retrying(zero, SECOND)
    pool.accept("slow")
    assert one.take() == ["slow"]
    one.fails(one.items[0], delay_us=500 * MS)
    pool.now_us += SECOND
    # when one call records that one and takes the first
    turn = pool.turn(one.next_request(0), zero.next_request(100))
    one.got(turn, 0)
    zero.got(turn, 1)
    assert zero.names == [f"{SECOND}"]
    # then
    assert looks(pool) == 0
    assert one.take() == ["slow"]


def test_P5_a_take_does_not_forget_when_an_item_is_due_that_its_call_has_recorded() -> None:
    # given one that is due now, and one far off
    pool = Played(concurrency=2)
    zero, one = pool.hands()
    retrying(zero, SECOND, 3_600 * SECOND)
    pool.accept("soon")
    assert one.take() == ["soon"]
    pool.now_us += SECOND
    one.fails(one.items[0], delay_us=SECOND)
    # when
    turn = pool.turn(one.next_request(0), zero.next_request(100))
    one.got(turn, 0)
    zero.got(turn, 1)
    # then
    assert zero.names == [f"{SECOND}"]
    assert looks(pool) == SECOND


def test_P5_what_waited_behind_a_key_is_taken_at_once_when_it_is_released() -> None:
    pool = Played(ordered=True)
    pool.accept(item("a", key="k"), item("b", key="k"))
    hand = pool.hand()
    hand.take()
    hand.fails(hand.items[0], delay_us=SECOND)
    assert hand.holds_back(hand.items[0])
    hand.take(0)
    pool.accept("x", item("c", key="k"))
    pool.now_us += SECOND
    assert hand.take(1) == ["a"]
    hand.ends(hand.items[0])
    # when its end is recorded
    hand.take(0)
    # then what was behind it can be taken now, before what was accepted later
    assert looks(pool) == 0
    assert hand.take(1) == ["b"]


def test_P5_P6_one_that_is_taken_alone_is_not_overtaken_by_those_behind_it() -> None:
    # given one that was lost with the one before it, and another one of its key, delayed
    pool = Played(ordered=True)
    pool.accept(*[item(name, key="k") for name in "ab"])
    pool.accept(item("c", key="k", due_us=pool.now_us + 2 * SECOND))
    [acquired] = pool.acquire("w", 1, lease_us=SECOND)
    Hand(pool, acquired).take()
    pool.now_us += 2 * SECOND
    hand = pool.hand("heir")
    hand.take(0)
    assert hand.take() == ["a"]
    hand.fails(hand.items[0], delay_us=0)
    # when all of them can be taken
    done: list[str] = []
    for _ in range(9):
        hand.take()
        for each in list(hand.items):
            if not hand.holds_back(each):
                done.append(str(each.payload).strip('"'))
                hand.ends(each)
    # then
    assert done == ["a", "b", "c"]


def test_P9_a_bound_that_was_true_once_does_not_keep_saying_now() -> None:
    # given a retry that was cancelled, and one that is due much later
    pool = Played()
    hand = pool.hand()
    retrying(hand, SECOND, 3_600 * SECOND)
    assert pool.act(ItemAct("cancel"), (1, 1)) == ["done"]
    pool.now_us += 2 * SECOND
    # when a worker has looked, and found nothing
    assert hand.take() == []
    # then it knows when to look again
    assert looks(pool) == 3_598 * SECOND


def test_P9_a_bound_is_right_when_not_all_that_is_due_was_looked_at() -> None:
    pool = Played()
    hand = pool.hand()
    retrying(hand, *(n * MS for n in range(1, 8)))
    pool.now_us += SECOND
    turn = pool.turn(hand.next_request(3), due_limit=3)
    hand.got(turn, 0)
    assert len(hand.names) == 3
    for each in list(hand.items):
        hand.ends(each)
    hand.take(0)
    assert looks(pool) == 0
    assert len(hand.take()) == 4


def test_P9_what_has_another_priority_now_is_not_hidden() -> None:
    pool = Played()
    hand = pool.hand()
    retrying(hand, SECOND, 2 * SECOND)
    assert pool.act(ItemAct("prioritize", None, 7), (1, 2)) == ["done"]
    assert looks(pool) == SECOND
    pool.now_us += SECOND
    assert hand.take() == [f"{SECOND}"]
    hand.ends(hand.items[0])
    hand.take(0)
    assert looks(pool) == SECOND


def test_P7_a_paused_partition_does_not_make_others_look_all_the_time() -> None:
    # given an item that only a paused partition may take
    pool = Played(concurrency=2)
    pool.hands()
    pool.operate(lambda writing: plan_pause(writing, 0, None, None))
    pool.accept(item("a", key=key_for(pool, 0)))
    # then there is nothing to look for
    assert looks(pool) is None


def test_P2_a_key_that_is_being_worked_on_does_not_make_others_look_all_the_time() -> None:
    # given items of one key, of which one is taken
    pool = Played(concurrency=2)
    pool.accept(*(item(f"{n}", key=key_for(pool, 0)) for n in range(2)))
    zero, _ = pool.hands()
    assert zero.take(1) == ["0"]
    # then the other partition has nothing to look for, until that has ended
    assert looks(pool) is None
    zero.ends(zero.items[0])
    zero.take(0)
    assert looks(pool) == 0


def test_P10_a_rate_limit_says_when_the_next_run_may_start() -> None:
    pool = Played(rate=2, span_us=SECOND)
    pool.accept("a", "b", "c")
    hand = pool.hand()
    assert hand.take() == ["a", "b"]
    assert looks(pool) is None
    hand.ends(hand.items[0])
    pool.now_us += 100 * MS
    hand.ends(hand.items[0])
    assert hand.take() == []
    assert looks(pool) == 900 * MS
    pool.now_us += 900 * MS
    assert hand.take() == ["c"]


def test_P7_a_paused_pool_has_nothing_to_look_for() -> None:
    pool = Played()
    pool.accept("a")
    assert looks(pool) == 0
    pool.operate(lambda writing: plan_pause(writing, None, None, None))
    assert looks(pool) is None


def test_P9_a_lane_is_dropped_when_it_is_empty_and_its_number_never_comes_again() -> None:
    pool = Played()
    pool.accept("a", item("b", key="k"))
    hand = pool.hand()
    hand.work()
    assert (pool.state.lanes, pool.state.groups) == ([], [])
    assert [a.lane for a in pool.accept("c", item("d", key="k"))] == [3, 4]


# -- how many lanes there are


def test_P11_a_look_leaves_out_the_segments_of_keys_that_are_shared_fairly() -> None:
    # given
    pool = Played(concurrency=3)
    pool.accept("plain", *(item(f"{n}", fair=f"{n % 50}") for n in range(100)))
    # then of all these lanes a take looks for the first segment of one
    look = PoolLook(pool.job, pool.now_us, firsts="lanes")
    assert [first.lane for first in pool.store.pool_look(look).firsts] == [1]
    assert len(pool.store.pool_look(PoolLook(pool.job, 0, firsts="all")).firsts) == 51
    # and each partition gets the next ones in turn
    hands = pool.hands()
    assert [hand.take(1) for hand in hands] == [["plain"], ["0"], ["1"]]
    hands[1].ends(hands[1].items[0])
    assert hands[1].take(48) == [f"{n}" for n in range(2, 50)]


def test_P11_a_fair_lane_with_something_to_skip_is_looked_into() -> None:
    pool = Played()
    accepted = pool.accept(*(item(f"{n}", fair="a") for n in range(4)), item("b", fair="b"))
    pool.act(ItemAct("cancel"), accepted[0], accepted[2])
    assert pool.hand().take(10) == ["1", "3", "b"]


def test_P3_there_is_a_bound_of_lanes_and_what_has_one_is_accepted(
    pool_of_all_lanes: Played,
) -> None:
    pool = pool_of_all_lanes
    before = pool.state
    # one more is refused, and so is all that was to be accepted with it
    for refused in ([item("x", fair="new")], [item("y", fair="1"), item("x", id="x", priority=7)]):
        with pytest.raises(QueueFullError) as raised:
            pool.accept(*refused)
        assert raised.value.limit == MAX_LANES
    assert pool.state == before
    # others of the same call are not
    one, two, three = pool.accepts(
        Accept([item("1", fair="1")]),
        Accept([item("x", fair="new")]),
        Accept([item("2", fair="2")]),
    )
    assert isinstance(two, QueueFullError)
    assert not isinstance(one, Exception)
    assert not isinstance(three, Exception)
    # and once a key has nothing left there is room
    pool.hand().take(1)
    pool.accept(item("x", fair="new"))
    pool.audit()


@pytest.fixture
def pool_of_all_lanes() -> Played:
    pool = Played(check=False)
    pool.accept(*(item(f"{n}", fair=f"{n}") for n in range(MAX_LANES)))
    return pool
