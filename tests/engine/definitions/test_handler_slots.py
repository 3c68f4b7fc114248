"""Decorators of handlers: what they add, to which definition, and what they tell."""

from __future__ import annotations

import functools
import pydoc
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from wakelog import Continuous, Debounce, InvalidStateError, Jobs, Task, ValidationError, WorkerPool
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


# -- what is no handler ----------------------------------------------------------------------------


class Callable_:
    def __call__(self, ctx: Any, extra: Any, more: Any, most: Any) -> None: ...

    def method(self, ctx: Any) -> None: ...

    def methods(self, *args: Any) -> None: ...


def two(ctx: Any, event: Any) -> None: ...


def keyword(ctx: Any, *, event: Any) -> None: ...


@functools.wraps(two)
def wrapper(ctx: Any) -> None: ...


async def yields(ctx: Any) -> Any:
    yield 1


FITTING: list[tuple[str, Any]] = [
    ("execute", lambda ctx: None),
    ("execute", lambda *args: None),
    ("execute", lambda ctx, more=1: None),
    ("execute", functools.partial(two, event=1)),
    ("execute", wrapper),
    ("execute", Callable_().method),
    ("execute", Callable_().methods),
    ("execute", print),
    ("on_event", two),
    ("on_event", functools.partial(lambda first, ctx, event: None, 1)),
    ("on_error", lambda ctx, error: None),
    ("on_client_get_state", two),
]
UNFIT: list[tuple[str, Any, str]] = [
    ("execute", two, "missing a required argument: 'event'"),
    ("execute", lambda: None, "too many positional arguments"),
    ("execute", functools.partial(two, 1, 2), "too many positional arguments"),
    ("execute", Callable_(), "missing a required argument: 'extra'"),
    ("execute", yields, "must not yield"),
    ("on_event", lambda ctx: None, "it is called with (ctx, event): too many positional"),
    ("on_event", keyword, "too many positional arguments"),
    ("on_event", wrapper, "too many positional arguments"),
    ("on_error", lambda ctx: None, "it is called with (ctx, error): too many positional"),
    ("on_idle", two, "it is called with (ctx): missing a required"),
    ("on_client_get_state", lambda ctx: None, "it is called with (ctx, state)"),
]


@pytest.mark.parametrize(("slot", "fn"), FITTING)
def test_a_handler_that_can_be_called_is_taken(slot: str, fn: Any) -> None:
    assert getattr(MAKES["task"](), slot)(fn) is fn


@pytest.mark.parametrize(("slot", "fn", "said"), UNFIT)
def test_a_handler_that_cannot_be_called_so_is_refused(slot: str, fn: Any, said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        getattr(MAKES["task"](), slot)(fn)
    assert said in raised.value.issues[0]["msg"]
    with pytest.raises(ValidationError):
        getattr(MAKES["task"](), slot)(timeout="1s")(fn)


@pytest.mark.parametrize(
    ("slot", "fn"), [("execute", lambda ctx: None), ("on_dead_letter", two), ("on_empty", two)]
)
def test_handlers_of_a_pool_get_its_event(slot: str, fn: Any) -> None:
    pool = WorkerPool(event=int)
    with pytest.raises(ValidationError, match="it is called with"):
        getattr(pool, slot)(fn)
    pool.execute(two)
    pool.on_dead_letter(lambda ctx, event, error: None)
    pool.on_empty(lambda ctx: None)


# -- types that cannot be told apart ---------------------------------------------------------------


class Paid(BaseModel):
    cents: int


class Refunded(BaseModel):
    cents: int


class Smaller(Paid): ...


@dataclass
class Sent:
    cents: int


class Checked(BaseModel):
    cents: int

    @field_validator("cents")
    @classmethod
    def negative(cls, cents: int) -> int:
        if cents >= 0:
            raise ValueError("must be negative")
        return cents


class Wrapped(BaseModel):
    either: list[Paid | Refunded]
    paid: Paid


class Told(Paid):
    kind: Literal["told"] = "told"


class Retold(Paid):
    kind: Literal["retold"] = "retold"


@pytest.mark.parametrize(
    "type_", [Paid | Refunded, Paid | Smaller, Paid | Sent | None, Wrapped, dict[str, Sent | Paid]]
)
@pytest.mark.parametrize("given", ["state", "event"])
def test_classes_of_a_union_with_the_same_json_are_refused(given: str, type_: Any) -> None:
    task = Task(**{"state": int, "event": int, given: type_})
    task.on_event(two)
    with pytest.raises(ValidationError, match="look the same as JSON: give each class a field"):
        Jobs(task=task)


@pytest.mark.parametrize("type_", [Told | Retold, Paid | Told, Paid | Checked, Paid | int, Paid])
def test_classes_of_a_union_that_may_be_told_apart_are_taken(type_: Any) -> None:
    task = Task(state=int, event=type_)
    task.on_event(two)
    assert "task" in Jobs(task=task)
