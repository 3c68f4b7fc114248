"""What a worker could not read is left to others, for a moment."""

from __future__ import annotations

from msgspec.structs import replace

from tests.support import START
from wakelog.core.instance import Instance, Unread
from wakelog.core.time import moment_us
from wakelog.ids import InstanceId
from wakelog.worker.claims import MAX_GIVEN_BACK, GivenBack

NOW = moment_us(START)


def waiting(id: str = "a") -> Instance:
    unread = Unread(2, is_run=False, error_type="ValidationError", message="", at_us=NOW)
    return Instance(InstanceId("task", "job", id), 3, NOW, unread=unread)


def test_K4_what_was_given_back_is_left_to_others_until_it_could_be_read() -> None:
    given_back = GivenBack()
    assert given_back.streams() == ()
    given_back.note(waiting("a"))
    given_back.note(waiting("b"))
    given_back.note(replace(waiting("c"), unread=None))
    assert given_back.streams() == ("task:job:a", "task:job:b")
    given_back.note(replace(waiting("a"), unread=None))
    assert given_back.streams() == ("task:job:b",)


def test_only_the_last_ones_are_remembered() -> None:
    given_back = GivenBack()
    for number in range(MAX_GIVEN_BACK + 1):
        given_back.note(waiting(f"{number}"))
    left = given_back.streams()
    assert (len(left), left[0]) == (MAX_GIVEN_BACK, "task:job:1")
