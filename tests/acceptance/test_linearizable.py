"""The checker of the storm: it finds what a counter cannot have answered."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.acceptance.linearizable import Call, check_counter


def send(ticket: int, total: int | None, invoked: int, answered: int | None) -> Call:
    return Call("c", ticket, invoked, answered, total)


def read(total: int, invoked: int, answered: int) -> Call:
    return Call("c", 0, invoked, answered, total)


def test_calls_that_follow_each_other_or_overlap_are_explained() -> None:
    check_counter([send(7, 1, 0, 10), read(1, 11, 12), send(8, 2, 13, 20)], [7, 8])
    check_counter([send(7, 2, 0, 10), send(8, 1, 5, 20), read(1, 6, 7)], [8, 7])
    # one that was not answered may count, later than its caller gave up, or not at all
    check_counter([send(7, None, 0, None), read(0, 5, 6), read(1, 7, 8)], [7])
    check_counter([send(7, None, 0, None), read(0, 5, 6)], [])


@pytest.mark.parametrize(
    ("calls", "accepted"),
    [
        ([send(7, 1, 0, 10), read(0, 11, 12)], [7]),  # a stale read
        ([send(7, 2, 0, 10), send(8, 1, 11, 20)], [8, 7]),  # who came later was first
        ([read(2, 0, 1)], []),  # a sum that never was
        ([send(7, 1, 0, 10), send(8, 1, 0, 10)], [7, 8]),  # two were the first
        ([send(7, 1, 5, 10), read(1, 0, 4)], [7]),  # seen before it was asked for
        ([send(7, None, 0, None), read(1, 1, 2), read(0, 3, 4)], [7]),  # and gone again
    ],
)
def test_what_no_counter_answers_is_found(calls: list[Call], accepted: list[int]) -> None:
    with pytest.raises(AssertionError):
        check_counter(calls, accepted)


def explained(calls: list[Call], accepted: list[int]) -> bool:
    """By trying all orders."""
    for order in permutations(calls):
        total, now = 0, 0
        fits = [call.ticket for call in order if call.ticket] == accepted
        for call in order:
            total += bool(call.ticket)
            now = max(now, call.invoked_us)
            fits &= call.total in (None, total) and (call.answered_us or now) >= now
        if fits:
            return True
    return False


spans = st.tuples(st.integers(1, 6), st.integers(0, 4))
totals = st.integers(0, 3)


@given(st.lists(st.tuples(st.booleans(), spans, totals, st.booleans()), max_size=5))
def test_it_says_what_trying_all_orders_says(
    drawn: list[tuple[bool, tuple[int, int], int, bool]],
) -> None:
    calls: list[Call] = []
    for number, (sends, (invoked, lasted), total, silent) in enumerate(drawn, 1):
        answered = None if sends and silent else invoked + lasted
        known = None if answered is None else total
        calls.append(Call("c", number if sends else 0, invoked, answered, known))
    accepted = [call.ticket for call in calls if call.ticket]
    try:
        check_counter(calls, accepted)
    except AssertionError:
        assert not explained(calls, accepted)
    else:
        assert explained(calls, accepted)
