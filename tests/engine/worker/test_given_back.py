"""What a worker could not read is left to others, for a moment."""

from __future__ import annotations

from msgspec.structs import replace

from tests.support import START
from wakelog import IntegrityError
from wakelog.core.instance import Instance, Unread
from wakelog.core.time import moment_us
from wakelog.ids import InstanceId
from wakelog.log.rebuild import Head
from wakelog.worker.claims import MAX_GIVEN_BACK, YIELD_US, GivenBack

NOW = moment_us(START)


def waiting(id: str = "a") -> Instance:
    unread = Unread(2, is_run=False, error_type="ValidationError", message="", at_us=NOW)
    return Instance(InstanceId("task", "job", id), 3, NOW, unread=unread)


def test_K4_what_was_given_back_is_left_to_others_for_a_second_after_it_was_rearmed() -> None:
    given_back = GivenBack()
    rearmed = Head(replace(waiting(), version=4, unread=None), "h")
    assert not given_back.is_left(rearmed, NOW)
    given_back.note(waiting())
    assert given_back.is_left(rearmed, NOW)
    assert given_back.is_left(rearmed, NOW - 1)  # a claim that had begun before
    assert not given_back.is_left(rearmed, NOW + YIELD_US)
    assert not given_back.is_left(rearmed, NOW - YIELD_US)  # its clock was ahead
    assert not given_back.is_left(Head(waiting("b"), "h"), NOW)
    assert not given_back.is_left(IntegrityError("task:job:a", 1, "damaged"), NOW)


def test_K4_what_could_be_read_since_is_left_no_longer() -> None:
    given_back = GivenBack()
    given_back.note(waiting())
    read = replace(waiting(), unread=None)
    given_back.note(read)
    assert not given_back.is_left(Head(read, "h"), NOW)


def test_only_the_last_ones_are_remembered() -> None:
    given_back = GivenBack()
    for number in range(MAX_GIVEN_BACK + 1):
        given_back.note(waiting(f"{number}"))
    assert not given_back.is_left(Head(waiting("0"), "h"), NOW)
    assert given_back.is_left(Head(waiting("1"), "h"), NOW)
