"""At most so many runs start in any span, over all of the pool (P10)."""

from __future__ import annotations

from tests.engine.pools.played import MS, SECOND, Hand, Played
from wakelog.pools.state import SPAN_PARTS


def test_P10_no_more_starts_than_the_rate_in_any_span() -> None:
    pool = Played(rate=3, span_us=SECOND, concurrency=2)
    pool.accept(*(f"{n}" for n in range(20)))
    hands = pool.hands()
    starts: list[int] = []
    for tick in range(400):
        hand = hands[tick % 2]
        if not hand.items:
            hand.take(5)
        else:  # it begins with the next one
            starts.append(pool.now_us)
            hand.ends(hand.items[0])
        pool.now_us += 37 * MS
    assert len(starts) == 20
    for at_us in starts:
        assert sum(at_us - SECOND < other <= at_us for other in starts) <= 3


def test_P10_a_take_that_has_not_begun_counts_as_if_it_began_now() -> None:
    pool = Played(rate=5, span_us=SECOND, concurrency=2)
    pool.accept(*(f"{n}" for n in range(10)))
    zero, one = pool.hands()
    assert len(zero.take(4)) == 4
    pool.now_us += 10 * SECOND
    assert len(one.take(4)) == 1


def test_P10_failed_runs_and_retries_count() -> None:
    pool = Played(rate=2, span_us=SECOND)
    pool.accept("a", "b", "c")
    hand = pool.hand()
    hand.take()
    hand.fails(hand.items[0], delay_us=MS)
    hand.dies(hand.items[0])
    hand.take(0)
    pool.now_us += 10 * MS
    assert hand.take() == []
    pool.now_us += SECOND - 10 * MS
    assert hand.take() == ["a"]


def test_P10_what_was_given_back_without_a_start_does_not_count() -> None:
    pool = Played(rate=2, span_us=SECOND)
    pool.accept("a", "b", "c")
    hand = pool.hand()
    hand.take()
    hand.gives_back("shutdown")
    assert hand.take() == ["a", "b"]


def test_P10_it_holds_over_a_crash() -> None:
    pool = Played(rate=2, span_us=60 * SECOND)
    pool.accept(*(f"{n}" for n in range(4)))
    hand = pool.hand("w1")
    assert len(hand.take()) == 2
    # when its worker dies, whatever had begun
    pool.now_us += 31 * SECOND
    other: Hand = pool.hand("w2")
    other.take(0)
    # then nothing starts until a span after the last moment at which they may have begun
    assert other.take() == []
    pool.now_us += 60 * SECOND - 1
    assert other.take() == []
    pool.now_us += 1
    assert other.take() == ["0"]


def test_P10_the_document_has_a_bound_whatever_the_rate_is() -> None:
    pool = Played(rate=5_000, span_us=3_600 * SECOND, check=False)
    hand = pool.hand()
    starts: list[int] = []
    for number in range(1_500):
        pool.accept(f"{number}")
        if hand.take():
            starts.append(pool.now_us)
            hand.ends(hand.items[0])
        pool.now_us += 7 * SECOND
    assert len(starts) == 1_500
    hand.take(0)
    assert len(pool.state.starts) <= SPAN_PARTS + 1
    assert sum(count for _, count in pool.state.starts) >= 3_600 // 7


def test_P10_what_is_put_together_counts_as_the_last_of_it() -> None:
    pool = Played(rate=3, span_us=2_000 * SECOND)
    pool.accept(*"abcdef")
    hand = pool.hand()
    # given two starts in one part of the span, and one in a later one
    first = pool.now_us
    assert hand.take(3) == ["a", "b", "c"]
    hand.ends(hand.items[0])
    pool.now_us += SECOND
    hand.ends(hand.items[0])
    pool.now_us += 100 * SECOND
    hand.ends(hand.items[0])
    # then the next may start when both have left the span
    assert hand.take() == []
    pool.now_us = first + 2_000 * SECOND
    assert hand.take() == []
    pool.now_us += SECOND
    assert hand.take() == ["d", "e"]


def test_U9_P10_starts_of_a_clock_that_was_ahead_do_not_count_until_it_is_there_again() -> None:
    # given
    pool = Played(rate=1, span_us=SECOND)
    pool.accept("a", "b", "c")
    hand = pool.hand()
    pool.now_us += 3_600 * SECOND
    assert hand.take() == ["a"]
    hand.ends(hand.items[0])
    hand.take(0)
    # when it is set back by an hour
    pool.now_us -= 3_600 * SECOND
    # then at first the start counts as one of now, and after the span no longer
    assert hand.take() == []
    pool.now_us += SECOND
    assert hand.take() == ["b"]
    hand.ends(hand.items[0])
    assert hand.take() == []
