"""A sequence that is sorted and never changes: what a sorted list would have, in few copies."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from wakelog.sorted_chunks import CHUNK, SortedChunks

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=300)


@given(start=st.lists(st.integers(0, 40), max_size=3 * CHUNK), steps=STEPS)
def test_it_has_what_a_sorted_list_has(start: list[int], steps: list[tuple[bool, int]]) -> None:
    found, expected = SortedChunks.of(start), sorted(start)
    for is_new, item in steps:
        before, kept = found, list(expected)
        if is_new:
            found, expected = found.plus(item), sorted([*expected, item])
        else:
            found = found.minus(item)
            if item in expected:
                expected.remove(item)
        assert list(before) == kept, "it never changes"
    assert list(found) == expected
    assert list(reversed(found)) == expected[::-1]
    assert (len(found), bool(found)) == (len(expected), bool(expected))
    assert found.first == (expected[0] if expected else None)
    assert all(0 < len(chunk) <= CHUNK for chunk in found.chunks)


@given(items=st.lists(st.integers(0, 40), max_size=3 * CHUNK))
def test_it_is_equal_to_one_with_the_same_items_in_other_chunks(items: list[int]) -> None:
    together, one_by_one = SortedChunks.of(items), SortedChunks[int]()
    for item in items:
        one_by_one = one_by_one.plus(item)
    assert together == one_by_one
    assert hash(together) == hash(one_by_one)
    assert together != one_by_one.plus(7)
    assert together != items


@given(items=st.lists(st.integers(0, 40), max_size=3 * CHUNK))
def test_it_reads_back_as_it_was_written(items: list[int]) -> None:
    chunks = SortedChunks.of(items)
    written = msgspec.json.encode(chunks)
    assert msgspec.json.decode(written, type=SortedChunks[int]) == chunks


def test_to_take_one_after_the_other_copies_a_chunk_each_time_and_not_all() -> None:
    many = SortedChunks.of(range(20 * CHUNK))
    fewer = many.minus(0)
    longer = fewer.plus(20 * CHUNK)
    for one, other in zip(many.chunks[1:-1], longer.chunks[1:-2], strict=True):
        assert one is other
