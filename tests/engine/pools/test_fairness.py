"""Partitions are shared between the keys that have work (P11)."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.engine.pools.played import Played, item
from wakelog.pools.accept import NewItem
from wakelog.pools.operate import ItemAct


def work_one(pool: Played, count: int) -> list[str]:
    """The names of the next items, each in a take of its own."""
    hand = pool.hand(f"w{pool.calls}")
    names: list[str] = []
    for _ in range(count):
        names += hand.take(1)
        for each in list(hand.items):
            hand.ends(each)
    hand.take(0)
    turn = hand.next_request(0)
    turn.gives_up = True
    pool.turn(turn)
    return names


def of(tenant: str, count: int) -> list[NewItem]:
    return [item(f"{tenant}{n}", fair=tenant) for n in range(count)]


def neither_waits_for_another_key(pool: Played) -> None:
    """The events of `a`, which wait, and those of a tenant that are shared fairly."""
    # when another one has events too
    pool.accept(*of("b", 100))
    shares = Counter(name[0] for name in work_one(pool, 40))
    # then neither waits for the other
    assert min(shares["a"], shares["b"]) >= 19
    # and a newcomer is served at once
    pool.accept(item("new", fair="new"))
    assert "new" in work_one(pool, 3)


def test_P11_a_newcomer_waits_for_at_most_one_event_of_each_active_key() -> None:
    pool = Played(check=False)
    for tenant in "abc":
        pool.accept(*of(tenant, 200))
    work_one(pool, 30)
    pool.accept(item("new", fair="new"))
    assert "new" in work_one(pool, 4)


@pytest.mark.parametrize("want", [1, 7, 100])
def test_P11_keys_with_work_get_the_same_share(want: int) -> None:
    pool = Played(check=False)
    for tenant, count in (("a", 400), ("b", 200), ("c", 300)):
        pool.accept(*of(tenant, count))
    hand = pool.hand()
    names: list[str] = []
    while len(names) < 300:
        names += hand.take(want)
        for each in list(hand.items):
            hand.ends(each)
    shares = Counter(name[0] for name in names[:300])
    assert max(shares.values()) - min(shares.values()) <= 2 * want


def test_P11_weights_divide_the_shares() -> None:
    pool = Played(check=False, weights={"big": 3.0})
    pool.accept(*of("big", 200), *of("small", 200))
    shares = Counter(name.rstrip("0123456789") for name in work_one(pool, 80))
    assert shares == {"big": 60, "small": 20}


def test_P11_it_is_work_conserving() -> None:
    pool = Played(check=False)
    pool.accept(*of("a", 10))
    assert work_one(pool, 10) == [f"a{n}" for n in range(10)]


def test_P11_within_a_key_the_order_is_that_of_acceptance() -> None:
    pool = Played()
    pool.accept(*of("a", 5), *of("b", 5))
    hand = pool.hand()
    hand.take(10)
    for tenant in "ab":
        mine = [name for name in hand.names if name[0] == tenant]
        assert mine == [f"{tenant}{n}" for n in range(5)]


def test_P11_a_higher_priority_goes_first() -> None:
    pool = Played()
    pool.accept(*of("a", 3))
    pool.accept(item("urgent", fair="b", priority=1))
    assert pool.hand().take(10) == ["urgent"]


def test_P11_a_key_that_always_has_one_event_does_not_starve_one_that_has_many() -> None:
    # given a tenant with many events, and one that adds its next event when the last has ended
    pool = Played(check=False)
    pool.accept(*of("many", 50))
    hand = pool.hand()
    names: list[str] = []
    for number in range(40):
        if not any(each.fair == "one" for each in pool.state.lanes):
            pool.accept(item(f"one{number}", fair="one"))
        names += hand.take(1)
        for each in list(hand.items):
            hand.ends(each)
        hand.take(0)
    # then both have about the same share
    shares = Counter(name.rstrip("0123456789") for name in names)
    assert shares["many"] >= 19


def test_P11_a_key_that_was_away_has_saved_up_nothing() -> None:
    pool = Played(check=False)
    pool.accept(*of("a", 100), item("b0", fair="b"))
    work_one(pool, 60)
    # when it comes back with many events
    pool.accept(*(item(f"b{n}", fair="b") for n in range(1, 40)))
    shares = Counter(name[0] for name in work_one(pool, 20))
    assert shares["a"] >= 9


def test_P11_cancelled_events_cost_their_key_nothing() -> None:
    pool = Played()
    places = pool.accept(*of("a", 6), *of("b", 6))
    pool.act(ItemAct("cancel"), *((place.lane, place.off) for place in places[:3]))
    hand = pool.hand()
    assert sorted(hand.take(6)) == ["a3", "a4", "a5", "b0", "b1", "b2"]


def test_P11_the_last_starts_are_remembered_for_why() -> None:
    pool = Played(check=False)
    pool.accept(*of("a", 150), *of("b", 10))
    work_one(pool, 120)
    recent = Counter(pool.state.recent)
    assert (sum(recent.values()), recent["b"]) == (100, 0)


def test_P11_what_was_delayed_does_not_go_before_all_others() -> None:
    # given a tenant with many events that were delayed for a moment
    pool = Played(check=False)
    pool.accept(*(item(f"a{n}", fair="a", due_us=pool.now_us + 1) for n in range(100)))
    pool.now_us += 1
    neither_waits_for_another_key(pool)


def test_P11_a_lonely_key_is_tried_again_before_what_came_later() -> None:
    pool = Played()
    pool.accept(*of("a", 3))
    hand = pool.hand()
    assert hand.take(1) == ["a0"]
    hand.fails(hand.items[0], delay_us=0)
    hand.take(0)
    assert hand.work(want=1) == ["a0", "a1", "a2"]


@pytest.mark.parametrize("key", ["k", None])
def test_P11_what_is_not_shared_fairly_does_not_go_before_all_others(key: str | None) -> None:
    # given many events with a partition key, or without a key of fair sharing
    pool = Played(check=False)
    pool.accept(*(item(f"a{n}", key=key) for n in range(100)))
    neither_waits_for_another_key(pool)


def test_P11_what_is_not_shared_fairly_pays_for_a_long_take() -> None:
    pool = Played(check=False)
    pool.accept(*(item(f"a{n}", key="k") for n in range(100)))
    pool.accept(*of("b", 40))
    hand = pool.hand()
    assert hand.take(20) == [f"a{n}" for n in range(20)]
    for each in list(hand.items):
        hand.ends(each)
    assert {name[0] for name in hand.take(20)} == {"b"}
