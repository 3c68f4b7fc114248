"""Decorators of handlers: what they add, to which definition, and what they tell."""

from __future__ import annotations

import pydoc
from typing import Any

import pytest

from wakelog import Continuous, Debounce, InvalidStateError, Jobs, Task, ValidationError
from wakelog.definitions.definition import Definition

MAKES: dict[str, Any] = {
    "task": lambda: Task(state=int, event=int),
    "continuous": lambda: Continuous(state=int, every="1m"),
    "debounce": lambda: Debounce(event=int, flush_after="5s"),
}
SLOTS: dict[str, tuple[str, ...]] = {
    "task": (
        *("on_event", "execute", "on_idle", "on_error", "on_retry_exhausted"),
        "on_client_get_state",
    ),
    "continuous": ("execute", "on_error", "on_retry_exhausted", "on_client_get_state"),
    "debounce": (
        *("on_event", "execute", "on_idle", "on_error", "on_retry_exhausted"),
        "on_client_get_state",
    ),
}
EACH = [(kind, slot) for kind, slots in SLOTS.items() for slot in slots]


def handler(*args: Any) -> None:
    """A handler of any kind."""


@pytest.fixture(params=MAKES)
def definition(request: pytest.FixtureRequest) -> Definition:
    made: Definition = MAKES[request.param]()
    return made


@pytest.mark.parametrize(("kind", "slot"), EACH)
def test_a_function_is_added_and_returned_with_and_without_a_timeout(kind: str, slot: str) -> None:
    # given
    definition = MAKES[kind]()
    # when, then
    assert getattr(definition, slot)(handler) is handler
    assert definition.handlers[slot] == (handler, False, None)
    assert getattr(definition, slot)(timeout="5s")(handler) is handler
    assert definition.handlers[slot] == (handler, False, 5_000_000)


@pytest.mark.parametrize(("kind", "slot"), EACH)
def test_help_shows_when_a_handler_is_called(kind: str, slot: str) -> None:
    definition = MAKES[kind]()
    text = getattr(type(definition), slot).__doc__
    assert text.startswith("Called ")
    assert getattr(definition, slot).__doc__ == text
    assert " ".join(text.split()) in " ".join(pydoc.render_doc(getattr(definition, slot)).split())


def test_a_copy_with_resources_takes_handlers_of_its_own(definition: Any) -> None:
    # given
    definition.execute(handler)
    copied = definition.with_resources("services")

    # when
    def own(*args: Any) -> None: ...

    copied.execute(own)
    definition.on_error(handler)
    # then
    assert definition.handlers["execute"].fn is handler
    assert copied.handlers["execute"].fn is own
    assert "on_error" not in copied.handlers


def test_a_registered_definition_takes_no_handler_and_its_copies_still_do(definition: Any) -> None:
    # given
    definition.execute(handler)
    if definition.needs == "on_event":
        definition.on_event(handler)
    Jobs(job=definition)
    # when, then
    with pytest.raises(InvalidStateError, match="comes too late"):
        definition.on_error(handler)
    definition.with_resources(None).on_error(handler)


def test_what_is_no_handler_is_refused_when_it_is_given(definition: Any) -> None:
    def yields(ctx: Any) -> Any:
        yield

    with pytest.raises(ValidationError, match="must be callable"):
        definition.execute(5)
    with pytest.raises(ValidationError, match="must not yield"):
        definition.execute(timeout=1)(yields)
    with pytest.raises(ValidationError, match="timeout"):
        definition.execute(timeout="soon")
    assert definition.handlers == {}
