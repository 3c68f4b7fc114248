"""Ids and names: what may name an instance, and how it reads as a stream."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support import task_of
from wakelog import InstanceId, InvalidIdError, Jobs, UnknownJobTypeError, ValidationError
from wakelog.ids import MAX_ID_LENGTH, check_id, check_name, check_text

ODD_IDS = ["o-17", "a:b:c", ":", "::", "🦄", "é", "é", " ", "a\u200db", "0", "x" * MAX_ID_LENGTH]


@pytest.mark.parametrize("id", ODD_IDS)
def test_an_id_is_read_back_as_it_was_given(id: str) -> None:
    # given
    instance = InstanceId("task", "order", id)
    # when
    read = InstanceId.parse(str(instance))
    # then
    assert read == instance
    assert read.job == "task:order"


def test_no_two_instances_share_a_stream() -> None:
    # given ids and names whose parts could run into each other
    parts = ["a", "a:a", ":a", "a:", "task", "b"]
    names = ["a", "task", "b"]
    # when
    streams = [str(InstanceId("task", name, id)) for name, id in product(names, parts)]
    # then
    assert len(set(streams)) == len(names) * len(parts)


@pytest.mark.parametrize(
    "id",
    ["", "x" * (MAX_ID_LENGTH + 1), "a\nb", "\x00", "\x7f", "\x85", "\ud800", "a\udfff", 7, None],
)
def test_what_cannot_be_an_id_is_refused(id: str) -> None:
    with pytest.raises(InvalidIdError) as raised:
        check_id(id)
    assert raised.value.issues
    str(raised.value).encode()  # whatever the id was, the message can be shown


@pytest.mark.parametrize("name", ["a:b", ":", "", "a\nb"])
def test_a_name_is_an_id_without_a_colon(name: str) -> None:
    with pytest.raises(InvalidIdError):
        check_name(name)
    with pytest.raises(InvalidIdError):
        Jobs(**{name: task_of()})


@pytest.mark.parametrize("stream", ["", "order", "task:order", "o-17", 5, None])
def test_what_is_no_whole_id_is_refused(stream: str) -> None:
    with pytest.raises(InvalidIdError):
        InstanceId.parse(stream)


def test_an_unknown_type_of_job_says_which_there_are() -> None:
    with pytest.raises(UnknownJobTypeError, match="task, continuous, debounce, workerPool"):
        InstanceId.parse("cron:order:o-17")


@pytest.mark.parametrize("text", ["\ud800", "a\udc00b", 5, None, b"bytes"])
def test_a_text_that_the_log_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="reason"):
        check_text(text, "reason")


def test_any_other_text_is_fine() -> None:
    assert check_text("a: b\n🦄\x00", "reason") == "a: b\n🦄\x00"
